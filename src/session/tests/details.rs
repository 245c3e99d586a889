//! Details that a session records.

use super::*;
use crate::event::Sender::{Client as C, Server as S};
use crate::event::details::Details;
use crate::event::details::{SlowCommand, UNREADABLE};
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;
use crate::rules::Interests;

const OK: &[u8] = b"\0\0\0\x02\0\0\0";
const ERR: &[u8] = b"\xff\x15\x04#28000";
/// PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, CONNECT_ATTRS, LONG_PASSWORD.
const CLIENT: u32 = 1 | 1 << 9 | 1 << 15 | 1 << 19 | 1 << 20;
const WITH_SCHEMA: u32 = CLIENT | 1 << 3;
const TRACKING: u32 = WITH_SCHEMA | 1 << 23;
const TLS: u32 = 1 << 11;

/// A session and the details that it recorded.
struct Recording {
    session: Session,
    details: Details,
    now: u64,
}

impl Recording {
    fn new(fields: &[Field]) -> Self {
        let mut interests = Interests::NONE;
        fields.iter().for_each(|field| interests.add(*field));
        Self::with(interests)
    }

    fn with(interests: Interests) -> Self {
        let options = Options { interests, ..Options::default() };
        Self { session: Session::new(Timestamp::from_nanos(1), options), details: Details::default(), now: 1 }
    }

    /// A session in which the server has greeted and the client has responded.
    fn responded(fields: &[Field], capabilities: u32) -> Self {
        let mut this = Self::new(fields);
        this.greet(capabilities);
        this
    }

    fn greet(&mut self, capabilities: u32) {
        self.pass(S, 0, &greeting());
        self.pass(C, 1, &response(capabilities));
    }

    fn accepted(fields: &[Field], capabilities: u32) -> Self {
        let mut this = Self::responded(fields, capabilities);
        this.accept();
        this
    }

    fn accept(&mut self) {
        self.pass(S, 2, OK);
        self.details.fields.clear();
    }

    /// A session that records commands of a microsecond and more as slow.
    fn slow() -> Self {
        let mut interests = Interests::NONE;
        interests.slow_after = Some(Duration::from_micros(1));
        let mut this = Self::with(interests);
        this.greet(CLIENT | 1 << 27);
        this.accept();
        this
    }

    fn record_unanswered(&mut self) {
        let read = || Timestamp::from_nanos(self.now);
        let (mut events, mut clock) = (Vec::new(), Clock::new(&read));
        self.session.record_unanswered(&mut Output::new(&mut events, &mut clock, &mut self.details));
    }

    fn take(&mut self, sender: Sender, sequence_id: u8, prefix: &[u8]) -> Outcome {
        let read = || Timestamp::from_nanos(self.now);
        let mut events = Vec::new();
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut events, &mut clock, &mut self.details);
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete: true };
        self.session.packet(sender, &packet, &mut out)
    }

    fn pass(&mut self, sender: Sender, sequence_id: u8, prefix: &[u8]) {
        assert_eq!(self.take(sender, sequence_id, prefix), Ok(()), "{}", prefix.escape_ascii());
    }

    /// Takes a command and, `nanos` later, the only packet of its response.
    fn command(&mut self, command: &[u8], response: &[u8], nanos: u64) {
        self.pass(C, 0, command);
        self.now += nanos;
        self.pass(S, 1, response);
    }

    fn fields(&mut self) -> String {
        let fields = std::mem::take(&mut self.details.fields).into_iter();
        fields.map(|(field, word)| format!("{}={word} ", field.label())).collect()
    }

    fn slow_commands(&mut self) -> Vec<SlowCommand> {
        std::mem::take(&mut self.details.slow)
    }

    /// Digest and traceparent of the only slow command.
    fn digest(&mut self) -> (String, Option<String>) {
        let [slow] = <[_; 1]>::try_from(self.slow_commands()).unwrap();
        (slow.digest, slow.traceparent)
    }
}

fn greeting() -> Vec<u8> {
    let front = b"\x0a8.0.41\0\x07\0\0\x01\x31\x32\x33\x34\x35\x36\x37\x38\0\xff\xff\xff\x02\0\xff\xdf\x15";
    [&front[..], &[0; 10], b"123456789012\0mysql_native_password\0"].concat()
}

fn response(capabilities: u32) -> Vec<u8> {
    let schema: &[u8] = if capabilities & 1 << 3 > 0 { b"shop\0" } else { b"" };
    let attributes = b"\x2e\x0c_client_name\x08libmysql\x0f_client_version\x068.0.41";
    let front = [&capabilities.to_le_bytes()[..], &[0; 28], b"app\0\x06hidden", schema].concat();
    [&front, &b"mysql_native_password\0"[..], attributes].concat()
}

/// An OK with the new current schema.
fn tracked(schema: &[u8]) -> Vec<u8> {
    let len = schema.len() as u8;
    // A system variable comes before it, and an unknown entry after it.
    let state = [b"\0\x04\x01a\x01b\x01", &[len + 1, len][..], schema, b"\x02\x01\x31"].concat();
    [b"\0\0\0\x02\x40\0\0\0", &[state.len() as u8][..], &state].concat()
}

#[test]
fn fields_of_interest_are_recorded_during_the_login() {
    use Field::{Client, Schema, ServerVersion, ThreadId, User};
    let mut all = Recording::responded(&[User, Schema, ServerVersion, Client, ThreadId], WITH_SCHEMA);
    assert_eq!(
        all.fields(),
        "server_version=8.0.41 thread_id=16777223 user=app client=libmysql/8.0.41 ",
        "the schema is not the current one before the server agrees"
    );
    all.pass(S, 2, OK);
    assert_eq!(all.fields(), "schema=shop ");
    assert_eq!(Recording::responded(&[], WITH_SCHEMA).fields(), "", "not of interest");
    let mut refused = Recording::responded(&[User, Schema], WITH_SCHEMA);
    refused.pass(S, 2, ERR);
    assert_eq!(refused.fields(), "user=app ");
}

/// A policy about users needs the user as soon as a server can read it.
#[test]
fn a_user_is_recorded_unless_tls_follows() {
    let requested = || Recording::responded(&[Field::User], CLIENT | TLS);
    assert_eq!(requested().fields(), "");
    let mut greeted = Recording::new(&[Field::User]);
    greeted.pass(S, 0, &greeting());
    greeted.pass(C, 1, &response(CLIENT)[..34]);
    assert_eq!(greeted.fields(), format!("user={} ", UNREADABLE));
}

/// MariaDB greets again after an empty COM_CHANGE_USER.
#[test]
fn the_account_of_a_second_login_is_recorded() {
    let log_in_again = |capabilities| {
        let mut session = Recording::accepted(&[Field::User, Field::Schema], WITH_SCHEMA);
        session.pass(C, 0, b"\x11");
        session.pass(S, 1, &greeting());
        session.details.fields.clear();
        (session.take(C, 2, &response(capabilities)), session)
    };
    let (outcome, mut session) = log_in_again(WITH_SCHEMA);
    assert_eq!((outcome, session.fields()), (Ok(()), "user=app ".to_owned()));
    session.pass(S, 3, OK);
    assert_eq!(session.fields(), "schema=shop ", "once the server agrees");
    assert_eq!(log_in_again(WITH_SCHEMA | TLS).0, Err(crate::event::OpaqueReason::Tls));
}

#[test]
fn changes_of_the_schema_are_recorded() {
    let mut session = Recording::accepted(&[Field::Schema], WITH_SCHEMA);
    session.command(b"\x02stock", ERR, 0);
    assert_eq!(session.fields(), "");
    session.pass(C, 0, b"\x02stock");
    assert_eq!(session.fields(), "", "not before the server agrees");
    session.pass(S, 1, OK);
    assert_eq!(session.fields(), "schema=stock ");
    for (statement, schema) in [
        (&b"\x03USE `my stock`"[..], "schema=my%20stock "),
        (b"\x03use 'x'", "schema=% "),
        (b"\x03SELECT 1", ""),
    ] {
        session.command(statement, OK, 0);
        assert_eq!(session.fields(), schema, "without session tracking");
    }
    session.command(b"\x03USE nowhere", ERR, 0);
    assert_eq!(session.fields(), "");

    let mut tracking = Recording::accepted(&[Field::Schema], TRACKING);
    tracking.command(b"\x03CALL moves()", &tracked(b"moved"), 0);
    assert_eq!(tracking.fields(), "schema=moved ");
    tracking.command(b"\x03USE elsewhere", OK, 0);
    assert_eq!(tracking.fields(), "", "the response would contain it");
    assert_eq!(tracking.session.prefix_len(S), 512);
}

#[test]
fn a_new_user_is_recorded_at_once_and_replaced_if_refused() {
    let to = |user: &str| format!("\x11{user}\0\x03pwdstock\0\x21\0").into_bytes();
    let mut session = Recording::accepted(&[Field::User, Field::Schema], WITH_SCHEMA);
    session.pass(C, 0, &to("report"));
    assert_eq!(session.fields(), "user=report ");
    session.pass(S, 1, OK);
    assert_eq!(session.fields(), "schema=stock ");
    session.pass(C, 0, &to("admin"));
    session.pass(S, 1, ERR);
    assert_eq!(session.fields(), "user=admin user=report ");
    session.pass(C, 0, &to("a"));
    session.pass(C, 0, &to("b"));
    session.pass(S, 1, ERR);
    assert_eq!(session.fields(), "user=a user=b ", "b is not decided yet");
    session.pass(S, 1, ERR);
    assert_eq!(session.fields(), "user=report ");
    session.pass(C, 0, b"\x11no end");
    assert_eq!(session.fields(), "user=% ");
}

#[test]
fn slow_and_failed_commands_are_recorded_without_literals() {
    let mut session = Recording::slow();
    session.command(b"\x03\0\x01SELECT 'secret'", OK, 999);
    assert_eq!(session.slow_commands(), []);
    session.command(b"\x03\0\x01SELECT 'secret'", OK, 1000);
    let slow = SlowCommand {
        command: Command::QUERY,
        verb: Some(Verb::Select),
        commands: 1,
        duration: Duration::from_micros(1),
        errno: None,
        answered: true,
        digest: "SELECT ?".into(),
        traceparent: None,
    };
    assert_eq!(session.slow_commands(), std::slice::from_ref(&slow));
    session.command(b"\x03\0\x01SELECT 'secret'", ERR, 0);
    assert_eq!(
        session.slow_commands(),
        [SlowCommand { duration: Duration::ZERO, errno: Some(1045), ..slow }]
    );
    session.command(b"\x0e", OK, 2000);
    let slow = session.slow_commands();
    assert_eq!((slow[0].command, slow[0].verb, slow[0].digest.as_str()), (Command::PING, None, ""));

    session.pass(C, 0, b"\x03\0\x01SELECT a");
    session.pass(C, 0, b"\x0e");
    session.now += 1000;
    session.record_unanswered();
    let slow = session.slow_commands();
    assert_eq!(slow.len(), 2);
    assert!(slow.iter().all(|slow| !slow.answered && slow.duration == Duration::from_micros(1)), "{slow:?}");
}

/// A string with a backslash before a quote can only be read if the SQL mode is known.
#[test]
fn digests_depend_on_the_sql_mode() {
    const TEXT: &[u8] = b"\x03\0\x01SELECT 'a\\', b, '";
    let mode_of = |flags: u8| [b"\0\0\0\x02", &[flags][..], b"\0\0"].concat();
    let mut session = Recording::slow();
    session.command(TEXT, ERR, 0);
    assert_eq!(session.digest().0, "SELECT...", "the mode is not known");
    session.command(b"\x0e", OK, 0);
    session.command(TEXT, &mode_of(2), 1000);
    assert_eq!(session.digest().0, "SELECT ?");
    session.command(TEXT, OK, 1000);
    assert_eq!(session.digest().0, "SELECT ?, b, ?");
    session.command(b"\x1f", OK, 0);
    session.command(TEXT, ERR, 0);
    assert_eq!(session.digest().0, "SELECT...", "the session was reset");
}

#[test]
fn an_execute_has_the_digest_of_the_prepared_statement() {
    const PREPARED: &[u8] = b"\0\x07\0\0\0\0\0\0\0\0\0\0";
    const TRACE: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = || Some(String::from_utf8(TRACE.to_vec()).unwrap());
    let mut session = Recording::slow();
    session.command(b"\x16INSERT t VALUES (?, 'secret')", PREPARED, 1000);
    assert_eq!(session.digest(), ("INSERT t VALUES (?+)".into(), None));
    session.command(b"\x17\x07\0\0\0\0\x01\0\0\0", OK, 1000);
    assert_eq!(session.digest(), ("INSERT t VALUES (?+)".into(), None));
    let attribute = [b"\x01\0\x01\xfe\0\x0btraceparent", &[TRACE.len() as u8][..], TRACE].concat();
    session.command(&[b"\x17\x07\0\0\0\x08\x01\0\0\0", &attribute[..]].concat(), OK, 1000);
    assert_eq!(session.digest(), ("INSERT t VALUES (?+)".into(), trace()));
    session.command(b"\x17\xff\xff\xff\xff\0\x01\0\0\0", OK, 1000);
    assert_eq!(session.digest().0, "INSERT t VALUES (?+)", "the one prepared last");
    session.command(b"\x17\x09\0\0\0\0\x01\0\0\0", ERR, 0);
    assert_eq!(session.digest().0, "");
    let with_attribute = [b"\x03\x01\x01", &attribute[1..], b"SELECT a"].concat();
    session.command(&with_attribute, OK, 1000);
    assert_eq!(session.digest(), ("SELECT a".into(), trace()));
}
