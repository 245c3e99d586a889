//! Sessions from the greeting on.

mod details;

use std::time::Duration;

use super::*;
use crate::event::details::Details;
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;

const C: Sender = Sender::Client;
const S: Sender = Sender::Server;

const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
const ERR_PACKET: &[u8] = b"\xff\x15\x04#28000";
const CLIENT: u32 = 1 | 1 << 9 | 1 << 15 | 1 << 19 | 1 << 20;

/// A session and its output.
struct Conversation {
    session: Session,
    events: Vec<Event>,
    details: Details,
}

impl Conversation {
    fn new() -> Self {
        Self {
            session: Session::new(Timestamp::from_nanos(1), Options::default()),
            events: Vec::new(),
            details: Details::default(),
        }
    }

    /// A session after the handshake response of a client with these capabilities.
    fn responded(capabilities: u32) -> Self {
        let mut this = Self::new();
        this.pass(S, 0, &greeting());
        this.pass(C, 1, &response(capabilities));
        this.events.clear();
        this
    }

    fn accepted() -> Self {
        let mut this = Self::responded(CLIENT);
        this.pass(S, 2, OK_PACKET);
        this.events.clear();
        this
    }

    fn take(&mut self, sender: Sender, sequence_id: u8, prefix: &[u8]) -> Outcome {
        let read = || Timestamp::from_nanos(5_001);
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.details);
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete: true };
        self.session.packet(sender, &packet, &mut out)
    }

    fn pass(&mut self, sender: Sender, sequence_id: u8, prefix: &[u8]) {
        assert_eq!(self.take(sender, sequence_id, prefix), Ok(()), "{prefix:?}");
    }

    fn end(&mut self, reason: Option<OpaqueReason>) -> Vec<Event> {
        self.session.end(reason, &mut self.events);
        std::mem::take(&mut self.events)
    }
}

fn greeting() -> Vec<u8> {
    let front = b"\x0a8.0.41\0\x07\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0\xff\xff\xff\x02\0\xff\xdf\x15";
    [&front[..], &[0; 10], b"123456789012\0caching_sha2_password\0"].concat()
}

fn response(capabilities: u32) -> Vec<u8> {
    let attributes = b"\x2e\x0c_client_name\x08libmysql\x0f_client_version\x068.0.41";
    [&capabilities.to_le_bytes()[..], &[0; 28], b"app\0\x06hidden", b"caching_sha2_password\0", attributes]
        .concat()
}

fn handshake(result: HandshakeResult) -> Event {
    Event::Handshake { result, duration: Some(Duration::from_micros(5)) }
}

fn undecided(result: HandshakeResult) -> Event {
    Event::Handshake { result, duration: None }
}

#[test]
fn prefixes_are_shorter_in_the_command_phase() {
    let prefixes = |session: &Session| (session.prefix_len(C), session.prefix_len(S));
    assert_eq!(prefixes(&Session::new(Timestamp::default(), Options::default())), (4096, 4096));
    let conversation = Conversation::accepted();
    assert_eq!((conversation.session.phase(), prefixes(&conversation.session)), (Phase::Command, (512, 64)));
}

#[test]
fn the_end_of_the_connection_phase_has_a_result() {
    let mut accepted = Conversation::responded(CLIENT);
    accepted.pass(S, 2, OK_PACKET);
    assert_eq!(accepted.end(None), [handshake(HandshakeResult::Ok)]);

    let mut refused = Conversation::responded(CLIENT);
    refused.pass(S, 2, ERR_PACKET);
    refused.events.remove(0);
    assert_eq!(refused.end(None), [handshake(HandshakeResult::Error)]);
    assert_eq!(refused.session.phase(), Phase::Authentication);

    assert_eq!(Conversation::responded(CLIENT).end(None), [undecided(HandshakeResult::Aborted)]);
    let mut greeted = Conversation::new();
    greeted.pass(S, 0, &greeting());
    greeted.events.clear();
    assert_eq!(greeted.end(None), [undecided(HandshakeResult::Aborted)]);

    let mut tls = Conversation::responded(CLIENT | 1 << 11);
    assert!(tls.session.awaits_tls());
    assert_eq!(tls.end(Some(OpaqueReason::Tls)), [undecided(HandshakeResult::Tls)]);

    assert_eq!(Conversation::new().end(None), [], "no greeting");
    assert_eq!(Conversation::responded(CLIENT).end(Some(OpaqueReason::Desync)), [], "not known");
}

#[test]
fn compression_begins_after_the_ok() {
    for compression in [1 << 5, 1 << 26, 1 << 5 | 1 << 26] {
        let mut compressed = Conversation::responded(CLIENT | compression);
        assert_eq!(compressed.take(S, 2, OK_PACKET), Err(OpaqueReason::Compressed));
        assert_eq!(compressed.session.phase(), Phase::Command);
        assert_eq!(compressed.end(Some(OpaqueReason::Compressed)), [handshake(HandshakeResult::Ok)]);
    }
}

#[test]
fn a_command_ends_without_a_response_when_the_session_ends() {
    for reason in [None, Some(OpaqueReason::Desync)] {
        let mut conversation = Conversation::accepted();
        conversation.pass(C, 0, b"\x03SELECT 1");
        conversation.events.clear();
        let (command, verb) = (Command::QUERY, Some(Verb::Select));
        assert_eq!(conversation.end(reason), [Event::CommandEnded { command, verb, response: None }]);
        assert_eq!(conversation.end(None), []);
    }
}

#[test]
fn the_report_names_the_peers_and_contains_no_content() {
    let mut conversation = Conversation::accepted();
    conversation.pass(C, 0, b"\x03SELECT 'secret'");
    conversation.pass(S, 1, b"\xff\x28\x04#42000secret");
    assert_eq!(conversation.take(C, 7, b"\x03SELECT 'secret'"), Err(OpaqueReason::Desync));
    let expected = "server=8.0.41 client=libmysql/8.0.41 capabilities=0x188201/0x0 \
                    packets=\"S:74:0:greeting C:111:1:handshake S:7:2:authentication \
                    C:16:0:command S:15:1:command C:16:7:command\"";
    assert_eq!(conversation.session.report(None).to_string(), expected);
}

#[test]
fn the_report_has_the_last_eight_packets() {
    let mut conversation = Conversation::accepted();
    for _ in 0..5 {
        conversation.pass(C, 0, b"\x0e");
        conversation.pass(S, 1, OK_PACKET);
    }
    let packets = ["C:1:0:command S:7:1:command"; 4].join(" ");
    let report = conversation.session.report(None).to_string();
    assert!(report.ends_with(&format!(" packets=\"{packets}\"")), "{report}");
}
