//! What a session tells besides events.

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

struct Watched {
    session: Session,
    details: Details,
    now: u64,
}

impl Watched {
    fn new(subjects: &[Field]) -> Self {
        let mut interests = Interests::NONE;
        subjects.iter().for_each(|field| interests.add(*field));
        Self::with(interests)
    }

    fn with(interests: Interests) -> Self {
        let options = Options { interests, judge_files: false };
        Self { session: Session::new(Timestamp::from_nanos(1), options), details: Details::default(), now: 1 }
    }

    /// A session in which the server has greeted and the client has responded.
    fn answered(subjects: &[Field], capabilities: u32) -> Self {
        let mut this = Self::new(subjects);
        this.greet(capabilities);
        this
    }

    fn greet(&mut self, capabilities: u32) {
        self.pass(S, 0, &greeting());
        self.pass(C, 1, &response(capabilities));
    }

    fn accepted(subjects: &[Field], capabilities: u32) -> Self {
        let mut this = Self::answered(subjects, capabilities);
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

    /// A command and the only packet of its answer, so many nanoseconds later.
    fn command(&mut self, command: &[u8], answer: &[u8], nanos: u64) {
        self.pass(C, 0, command);
        self.now += nanos;
        self.pass(S, 1, answer);
    }

    fn said(&mut self) -> String {
        let said = std::mem::take(&mut self.details.fields).into_iter();
        said.map(|(subject, word)| format!("{}={word} ", subject.label())).collect()
    }

    fn told(&mut self) -> Vec<SlowCommand> {
        std::mem::take(&mut self.details.slow)
    }

    /// Digest and traceparent of the only slow command.
    fn digest(&mut self) -> (String, Option<String>) {
        let [slow] = <[_; 1]>::try_from(self.told()).unwrap();
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

/// An OK that says which schema is the current one.
fn tracked(schema: &[u8]) -> Vec<u8> {
    let len = schema.len() as u8;
    // A system variable stands in front, and what is not known behind.
    let state = [b"\0\x04\x01a\x01b\x01", &[len + 1, len][..], schema, b"\x02\x01\x31"].concat();
    [b"\0\0\0\x02\x40\0\0\0", &[state.len() as u8][..], &state].concat()
}

#[test]
fn who_talks_to_whom() {
    use Field::{Client, Schema, ServerVersion, ThreadId, User};
    let mut all = Watched::answered(&[User, Schema, ServerVersion, Client, ThreadId], WITH_SCHEMA);
    assert_eq!(
        all.said(),
        "server_version=8.0.41 thread_id=16777223 user=app client=libmysql/8.0.41 ",
        "the schema is not the current one before the server agrees"
    );
    all.pass(S, 2, OK);
    assert_eq!(all.said(), "schema=shop ");
    assert_eq!(Watched::answered(&[], WITH_SCHEMA).said(), "", "nobody asked");
    let mut refused = Watched::answered(&[User, Schema], WITH_SCHEMA);
    refused.pass(S, 2, ERR);
    assert_eq!(refused.said(), "user=app ");
}

/// A rule about users must see one as soon as a server could take one.
#[test]
fn a_user_who_asks_for_tls_is_told_only_without_it() {
    let asked = || Watched::answered(&[Field::User], CLIENT | TLS);
    assert_eq!(asked().said(), "");
    let mut greeted = Watched::new(&[Field::User]);
    greeted.pass(S, 0, &greeting());
    greeted.pass(C, 1, &response(CLIENT)[..34]);
    assert_eq!(greeted.said(), format!("user={} ", UNREADABLE));
}

#[test]
fn the_current_schema_is_followed() {
    let mut session = Watched::accepted(&[Field::Schema], WITH_SCHEMA);
    session.command(b"\x02stock", ERR, 0);
    assert_eq!(session.said(), "");
    session.pass(C, 0, b"\x02stock");
    assert_eq!(session.said(), "", "not before the server agrees");
    session.pass(S, 1, OK);
    assert_eq!(session.said(), "schema=stock ");
    for (statement, schema) in [
        (&b"\x03USE `my stock`"[..], "schema=my%20stock "),
        (b"\x03use 'x'", "schema=% "),
        (b"\x03SELECT 1", ""),
    ] {
        session.command(statement, OK, 0);
        assert_eq!(session.said(), schema, "without session tracking");
    }
    session.command(b"\x03USE nowhere", ERR, 0);
    assert_eq!(session.said(), "");

    let mut tracking = Watched::accepted(&[Field::Schema], TRACKING);
    tracking.command(b"\x03CALL moves()", &tracked(b"moved"), 0);
    assert_eq!(tracking.said(), "schema=moved ");
    tracking.command(b"\x03USE elsewhere", OK, 0);
    assert_eq!(tracking.said(), "", "the server would have said so");
    assert_eq!(tracking.session.prefix_len(S), 512);
}

#[test]
fn another_user_is_told_at_once_and_taken_back_if_refused() {
    let to = |user: &str| format!("\x11{user}\0\x03pwdstock\0\x21\0").into_bytes();
    let mut session = Watched::accepted(&[Field::User, Field::Schema], WITH_SCHEMA);
    session.pass(C, 0, &to("report"));
    assert_eq!(session.said(), "user=report ");
    session.pass(S, 1, OK);
    assert_eq!(session.said(), "schema=stock ");
    session.pass(C, 0, &to("admin"));
    session.pass(S, 1, ERR);
    assert_eq!(session.said(), "user=admin user=report ");
    session.pass(C, 0, &to("a"));
    session.pass(C, 0, &to("b"));
    session.pass(S, 1, ERR);
    assert_eq!(session.said(), "user=a user=b ", "b is not decided yet");
    session.pass(S, 1, ERR);
    assert_eq!(session.said(), "user=report ");
    session.pass(C, 0, b"\x11no end");
    assert_eq!(session.said(), "user=% ");
}

#[test]
fn slow_and_failed_commands_are_told_without_their_literals() {
    let mut session = Watched::slow();
    session.command(b"\x03\0\x01SELECT 'secret'", OK, 999);
    assert_eq!(session.told(), []);
    session.command(b"\x03\0\x01SELECT 'secret'", OK, 1000);
    let slow = SlowCommand {
        command: Command::QUERY,
        verb: Some(Verb::Select),
        commands: 1,
        took: Duration::from_micros(1),
        errno: None,
        answered: true,
        digest: "SELECT ?".into(),
        traceparent: None,
    };
    assert_eq!(session.told(), std::slice::from_ref(&slow));
    session.command(b"\x03\0\x01SELECT 'secret'", ERR, 0);
    assert_eq!(session.told(), [SlowCommand { took: Duration::ZERO, errno: Some(1045), ..slow }]);
    session.command(b"\x0e", OK, 2000);
    let told = session.told();
    assert_eq!((told[0].command, told[0].verb, told[0].digest.as_str()), (Command::PING, None, ""));

    session.pass(C, 0, b"\x03\0\x01SELECT a");
    session.pass(C, 0, b"\x0e");
    session.now += 1000;
    session.record_unanswered();
    let told = session.told();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|slow| !slow.answered && slow.took == Duration::from_micros(1)), "{told:?}");
}

/// A string with a backslash before a quote can only be read once the SQL mode is known.
#[test]
fn the_sql_mode_is_followed() {
    const TEXT: &[u8] = b"\x03\0\x01SELECT 'a\\', b, '";
    let mode_of = |flags: u8| [b"\0\0\0\x02", &[flags][..], b"\0\0"].concat();
    let mut session = Watched::slow();
    session.command(TEXT, ERR, 0);
    assert_eq!(session.digest().0, "SELECT...", "the server has said nothing of it");
    session.command(b"\x0e", OK, 0);
    session.command(TEXT, &mode_of(2), 1000);
    assert_eq!(session.digest().0, "SELECT ?");
    session.command(TEXT, OK, 1000);
    assert_eq!(session.digest().0, "SELECT ?, b, ?");
    session.command(b"\x1f", OK, 0);
    session.command(TEXT, ERR, 0);
    assert_eq!(session.digest().0, "SELECT...", "the session began anew");
}

#[test]
fn a_prepared_statement_has_the_digest_it_was_prepared_with() {
    const PREPARED: &[u8] = b"\0\x07\0\0\0\0\0\0\0\0\0\0";
    const TRACE: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = || Some(String::from_utf8(TRACE.to_vec()).unwrap());
    let mut session = Watched::slow();
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
