use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::event::details::Details;

mod files;
mod session_state;

const C: Sender = Sender::Client;
const S: Sender = Sender::Server;

const CLASSIC: Capabilities = Capabilities::PROTOCOL_41;
const DEPRECATE_EOF: Capabilities = Capabilities::new(1 << 9 | 1 << 24, 0);

const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
const ERR_PACKET: &[u8] = b"\xff\x28\x04#42000";
const EOF_PACKET: &[u8] = b"\xfe\0\0\x02\0";

const QUERY: &[u8] = b"\x03SELECT 1";
const PING: &[u8] = b"\x0e";
const QUIT: &[u8] = b"\x01";

/// A packet: its sender, its sequence id, its payload.
type Passed<'a> = (Sender, u8, &'a [u8]);

/// A command phase and its output.
struct Conversation {
    phase: CommandPhase,
    events: Vec<Event>,
    details: Details,
    now: u64,
}

impl Conversation {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            phase: CommandPhase::new(capabilities, None, Timestamp::from_nanos(1), Options::default()),
            events: Vec::new(),
            details: Details::default(),
            now: 1,
        }
    }

    /// A command phase after these packets, without their events.
    fn after(packets: &[Passed]) -> Self {
        let mut this = Self::new(CLASSIC);
        this.emitted(packets);
        this
    }

    fn take(&mut self, (sender, sequence_id, prefix): Passed, complete: bool) -> Outcome {
        let read = || Timestamp::from_nanos(self.now);
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.details);
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete };
        match sender {
            C => self.phase.client_packet(&packet, &mut out),
            S => self.phase.server_packet(&packet, &mut out),
        }
    }

    /// Takes packets. Returns their events.
    fn emitted(&mut self, packets: &[Passed]) -> Vec<Event> {
        for packet in packets {
            assert_eq!(self.take(*packet, true), Ok(()), "{packet:?} of {packets:?}");
        }
        std::mem::take(&mut self.events)
    }

    /// Takes the beginning of a long packet.
    fn head(&mut self, packet: Passed) {
        assert_eq!(self.take(packet, false), Ok(()), "{packet:?}");
    }

    /// Takes a packet that is not valid in the current state.
    fn desync(&mut self, packet: Passed) {
        assert_eq!(self.take(packet, true), Err(OpaqueReason::Desync), "{packet:?}");
    }

    fn end(&mut self) -> Vec<Event> {
        self.phase.end(&mut self.events);
        std::mem::take(&mut self.events)
    }
}

fn emitted(packets: &[Passed]) -> Vec<Event> {
    Conversation::new(CLASSIC).emitted(packets)
}

fn started(command: Command) -> Event {
    Event::CommandStarted(command)
}

/// The end of a response that took no time.
fn ended(command: Command, verb: Option<Verb>, tally: Tally) -> Event {
    let response = Response { tally, duration: Duration::ZERO, first_byte: Duration::ZERO };
    Event::CommandEnded { command, verb, response: Some(response) }
}

fn queried(tally: Tally) -> Event {
    ended(Command::QUERY, Some(Verb::Select), tally)
}

fn pinged() -> Event {
    ended(Command::PING, None, Tally::default())
}

fn failed(errno: u16) -> Tally {
    Tally { errno: Some(errno), ..Tally::default() }
}

#[test]
fn each_response_belongs_to_the_oldest_command() {
    let mut conversation = Conversation::new(CLASSIC);
    let sent = conversation.emitted(&[(C, 0, QUERY), (C, 0, PING)]);
    assert_eq!(sent, [started(Command::QUERY), started(Command::PING)]);
    let ended = conversation.emitted(&[(S, 1, ERR_PACKET), (S, 1, OK_PACKET)]);
    assert_eq!(ended, [queried(failed(1064)), pinged()]);
    conversation.desync((S, 2, OK_PACKET));
}

#[test]
fn a_response_is_timed_from_the_commands_first_packet_to_its_own_last() {
    let mut conversation = Conversation::new(CLASSIC);
    let packets = [
        (C, 0, QUERY),
        (C, 0, PING),
        (S, 1, &b"\x01"[..]),
        (S, 2, b"\x03def"),
        (S, 3, EOF_PACKET),
        (S, 4, b"\x011"),
        (S, 5, EOF_PACKET),
        (S, 1, OK_PACKET),
    ];
    for packet in packets {
        conversation.now += 1000;
        assert_eq!(conversation.take(packet, true), Ok(()));
    }
    let micros = Duration::from_micros;
    let tally = Tally { rows: 1, result_sets: 1, ..Tally::default() };
    let query = Response { tally, first_byte: micros(2), duration: micros(6) };
    let ping = Response { tally: Tally::default(), first_byte: micros(6), duration: micros(6) };
    let expected = [
        started(Command::QUERY),
        started(Command::PING),
        Event::CommandEnded { command: Command::QUERY, verb: Some(Verb::Select), response: Some(query) },
        Event::CommandEnded { command: Command::PING, verb: None, response: Some(ping) },
    ];
    assert_eq!(conversation.events, expected);
}

#[test]
fn sequence_ids_are_checked() {
    for sequence_id in [0, 2, 255] {
        Conversation::after(&[(C, 0, QUERY)]).desync((S, sequence_id, OK_PACKET));
    }
    for sequence_id in [1, 2, 255] {
        Conversation::after(&[]).desync((C, sequence_id, QUERY));
        Conversation::after(&[(C, 0, QUERY)]).desync((C, sequence_id, b""));
    }
    Conversation::after(&[]).desync((S, 0, OK_PACKET));
    Conversation::after(&[(C, 0, QUERY)]).desync((S, 2, ERR_PACKET));
    let mut wrapped =
        Conversation::after(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET)]);
    for row in 4..=257_u32 {
        assert_eq!(wrapped.emitted(&[(S, row as u8, b"\x011")]), []);
    }
    let tally = Tally { rows: 254, result_sets: 1, ..Tally::default() };
    assert_eq!(wrapped.emitted(&[(S, 2, EOF_PACKET)]), [queried(tally)]);
}

#[test]
fn an_empty_packet_is_a_command() {
    let asleep = ended(Command::SLEEP, None, failed(1047));
    assert_eq!(emitted(&[(C, 0, b""), (S, 1, b"\xff\x17\x04#08S01")]), [started(Command::SLEEP), asleep]);
}

#[test]
fn some_commands_have_no_response() {
    let (close, piece) = (b"\x19\x07\0\0\0", b"\x18\x07\0\0\0\0\0data");
    let sent = |command| Event::CommandSent(command);
    assert_eq!(
        emitted(&[(C, 0, close), (C, 0, piece), (C, 0, PING), (S, 1, OK_PACKET)]),
        [sent(Command::STMT_CLOSE), sent(Command::STMT_SEND_LONG_DATA), started(Command::PING), pinged()]
    );
}

#[test]
fn no_command_after_quit_is_counted() {
    let mut conversation = Conversation::after(&[(C, 0, PING)]);
    assert!(!conversation.phase.has_quit());
    let quit = conversation.emitted(&[(C, 0, QUIT)]);
    assert_eq!(quit, [Event::CommandSent(Command::QUIT)]);
    assert!(conversation.phase.has_quit());
    assert_eq!(conversation.emitted(&[(C, 0, QUIT), (C, 0, PING), (C, 9, b"nonsense")]), []);
    assert_eq!(
        conversation.emitted(&[(S, 1, OK_PACKET)]),
        [pinged()],
        "an earlier command still gets its response"
    );
}

#[test]
fn a_session_that_becomes_opaque_ends_its_commands_without_a_response() {
    for (byte, reason) in [(0x20, OpaqueReason::Clone), (0x21, OpaqueReason::Replication)] {
        let mut conversation = Conversation::new(CLASSIC);
        assert_eq!(conversation.take((C, 0, &[byte]), true), Err(reason));
        let command = Command(byte);
        let unanswered = Event::CommandEnded { command, verb: None, response: None };
        assert_eq!(conversation.end(), [started(command), unanswered]);
    }
}

#[test]
fn the_queue_is_bounded() {
    let mut conversation = Conversation::new(CLASSIC);
    for _ in 0..1024 {
        conversation.now += 1;
        conversation.emitted(&[(C, 0, PING)]);
    }
    assert_eq!(conversation.take((C, 0, PING), true), Err(OpaqueReason::Memory));
    assert_eq!(conversation.take((C, 0, QUIT), true), Ok(()), "it takes no entry");
    let unanswered = Event::CommandEnded { command: Command::PING, verb: None, response: None };
    let emitted = conversation.end();
    assert_eq!((emitted.len(), &emitted[0]), (1025, &Event::CommandSent(Command::QUIT)));
    assert!(emitted[1..].iter().all(|event| *event == unanswered));
}

#[test]
fn many_equal_commands_without_a_response_end_in_two_events() {
    let mut conversation = Conversation::new(CLASSIC);
    for _ in 0..5000 {
        conversation.take((C, 0, PING), true).expect("there is room");
    }
    let command = Command::PING;
    let ended = conversation.end().split_off(5000);
    let first = Event::CommandEnded { command, verb: None, response: None };
    assert_eq!(ended, [first, Event::CommandsAbandoned { command, count: 4999 }]);
}

#[test]
fn unsolicited_errors_are_server_notices() {
    let (timeout, killed) = (&b"\xff\xbf\x0f#HY000"[..], &b"\xff\x87\x07#70100"[..]);
    let notice = |errno| Event::ServerNotice { errno };
    let timed_out = [notice(4031), Event::IdleClosed { by: ClosedBy::Server, idle: Duration::ZERO }];
    assert_eq!(emitted(&[(S, 0, timeout)]), timed_out);
    // The idle time-out is emitted once, and not after another error.
    assert_eq!(emitted(&[(S, 0, timeout), (S, 0, timeout)]), [&timed_out[..], &[notice(4031)]].concat());
    assert_eq!(emitted(&[(S, 1, killed), (S, 0, timeout)]), [notice(1927), notice(4031)]);
    assert_eq!(emitted(&[(S, 1, killed)]), [notice(1927)]);
    // The client sends a command at the same time: 4031 has the id 0, and no response follows; 1927 looks like the response.
    let mut crossing = Conversation::after(&[(C, 0, PING)]);
    assert_eq!(crossing.emitted(&[(S, 0, timeout)]), timed_out);
    assert_eq!(crossing.end(), [Event::CommandEnded { command: Command::PING, verb: None, response: None }]);
    let mut crossing = Conversation::after(&[(C, 0, PING)]);
    assert_eq!(crossing.emitted(&[(S, 1, killed)]), [ended(Command::PING, None, failed(1927))]);
    // During a response.
    for (sequence_id, error, errno) in [(0, timeout, 4031), (1, killed, 1927)] {
        let mut busy = Conversation::after(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def")]);
        let of_idle = timed_out.iter().skip(1).filter(|_| errno == 4031);
        let expected: Vec<_> = [notice(errno)].iter().chain(of_idle).copied().collect();
        assert_eq!(busy.emitted(&[(S, sequence_id, error)]), expected);
        let result_set = Tally { result_sets: 1, ..Tally::default() };
        assert_eq!(busy.emitted(&[(S, 3, EOF_PACKET), (S, 4, EOF_PACKET)]), [queried(result_set)]);
    }
    Conversation::after(&[]).desync((S, 0, b"\xff\x01"));
}

/// The OK after OUT parameters, if the result set before it did not announce it, and definitions beyond 16 bits.
#[test]
fn packets_can_follow_a_response_that_looked_complete() {
    let prepared = b"\0\x01\0\0\0\0\0\0\0\0\0\0";
    for (command, response) in [(&b"\x17\x01\0\0\0"[..], OK_PACKET), (b"\x16SELECT ?", prepared)] {
        let mut conversation = Conversation::after(&[(C, 0, command), (S, 1, response)]);
        assert_eq!(conversation.emitted(&[(S, 2, OK_PACKET), (S, 3, b"\x03def")]), []);
        conversation.desync((S, 3, OK_PACKET));

        let mut sent_ahead = Conversation::after(&[(C, 0, command), (C, 0, PING), (S, 1, response)]);
        assert_eq!(sent_ahead.emitted(&[(S, 2, OK_PACKET), (S, 1, OK_PACKET)]), [pinged()]);

        let mut next = Conversation::after(&[(C, 0, command), (S, 1, response), (C, 0, PING)]);
        next.desync((S, 2, OK_PACKET));
    }
    let mut ping = Conversation::after(&[(C, 0, PING), (S, 1, OK_PACKET)]);
    ping.desync((S, 2, OK_PACKET));
}

#[test]
fn a_change_user_can_have_several_rounds_of_authentication() {
    let mut conversation = Conversation::after(&[(C, 0, b"\x11app\0")]);
    let rounds = [
        (S, 1, &b"\xfecaching_sha2_password\0salt"[..]),
        (C, 2, b"\x03 looks like a command"),
        (S, 3, b"\x01\x04"),
    ];
    assert_eq!(conversation.emitted(&rounds), []);
    assert_eq!(conversation.emitted(&[(C, 4, b"")]), []);
    let changed = ended(Command::CHANGE_USER, None, Tally::default());
    assert_eq!(conversation.emitted(&[(S, 5, OK_PACKET)]), [changed]);
    conversation.desync((C, 6, b"more"));
    // The client sends one packet for each packet of the server, with the next id.
    let rounds = &rounds[..2];
    Conversation::after(&[(C, 0, b"\x11app\0")]).desync((C, 2, b"before the server's packet"));
    Conversation::after(&[(C, 0, b"\x11app\0"), rounds[0]]).desync((C, 3, b"another id"));
    Conversation::after(&[(C, 0, b"\x11app\0"), rounds[0], rounds[1]]).desync((C, 3, b"twice"));
}

#[test]
fn acknowledgements_of_a_replica_are_no_commands() {
    let (event, marked, ack) =
        (&b"\0event"[..], &b"\0\xef\x01event"[..], &b"\xef\0\0\0\0\0\0\0\0bin.000001"[..]);
    for capabilities in [CLASSIC, DEPRECATE_EOF] {
        let mut conversation = Conversation::new(capabilities);
        assert_eq!(conversation.emitted(&[(C, 0, b"\x12")]), [started(Command::BINLOG_DUMP)]);
        assert_eq!(conversation.emitted(&[(S, 1, event), (S, 2, marked), (C, 0, ack)]), []);
        assert_eq!(conversation.emitted(&[(S, 1, event), (S, 2, marked), (S, 1, marked), (C, 0, ack)]), []);
        let dumped = ended(Command::BINLOG_DUMP, None, Tally::default());
        assert_eq!(conversation.emitted(&[(S, 1, EOF_PACKET)]), [dumped]);
    }
    let unknown = Command(0xef);
    assert_eq!(emitted(&[(C, 0, ack)]), [started(unknown)], "no binary log is sent");
    for sequence_id in [0, 2, 4] {
        Conversation::after(&[(C, 0, b"\x12"), (S, 1, event), (S, 2, event)]).desync((S, sequence_id, event));
    }
}

#[test]
fn the_end_of_a_long_packet_belongs_to_its_own_exchange() {
    // The last packet of a response: the ids of the next response start again.
    let mut conversation = Conversation::after(&[(C, 0, QUERY), (C, 0, PING)]);
    conversation.head((S, 1, ERR_PACKET));
    conversation.phase.packet_end(S, 1);
    assert_eq!(conversation.emitted(&[(S, 1, OK_PACKET)]), [queried(failed(1064)), pinged()]);

    // A row of many fragments.
    let mut conversation =
        Conversation::after(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET)]);
    conversation.head((S, 4, b"\x011"));
    conversation.phase.packet_end(S, 9);
    assert_eq!(conversation.emitted(&[(S, 10, EOF_PACKET)]).len(), 1);

    // Neither a part of a parameter nor a replica's acknowledgement has a response.
    let cases: [(&[u8], &[u8], &[u8]); 2] = [(QUERY, b"\x01", b"\x18"), (b"\x12", b"\0event", b"\xef")];
    for (command, first, piece) in cases {
        let mut conversation = Conversation::after(&[(C, 0, command), (S, 1, first)]);
        conversation.head((C, 0, piece));
        conversation.phase.packet_end(C, 7);
        conversation.emitted(&[(S, 2, b"\0")]);
    }

    // A command of many fragments, and a secret.
    let mut conversation = Conversation::new(CLASSIC);
    conversation.head((C, 0, QUERY));
    conversation.phase.packet_end(C, 4);
    assert_eq!(conversation.emitted(&[(S, 5, OK_PACKET)]).len(), 2);
    let mut conversation = Conversation::after(&[(C, 0, b"\x11app\0"), (S, 1, b"\xfeplugin\0")]);
    conversation.head((C, 2, b"secret"));
    conversation.phase.packet_end(C, 3);
    assert_eq!(conversation.emitted(&[(S, 4, OK_PACKET)]).len(), 1);

    // A packet that can follow a complete response.
    let mut conversation = Conversation::after(&[(C, 0, QUERY)]);
    conversation.head((S, 1, OK_PACKET));
    conversation.phase.packet_end(S, 3);
    conversation.emitted(&[(S, 4, OK_PACKET)]);
    conversation.desync((S, 4, OK_PACKET));
}

#[test]
fn a_command_that_is_too_long_is_refused_before_its_end() {
    let too_long = &b"\xff\x81\x04#08S01"[..];
    let sending = || {
        let mut conversation = Conversation::new(CLASSIC);
        conversation.head((C, 0, QUERY));
        conversation.events.clear();
        conversation
    };
    for sequence_id in [1, 3] {
        let mut refused = sending();
        assert_eq!(refused.emitted(&[(S, sequence_id, too_long)]), [queried(failed(1153))]);
        refused.phase.packet_end(C, 5);
        assert_eq!(refused.emitted(&[(C, 0, PING), (S, 1, OK_PACKET)]), [started(Command::PING), pinged()]);
    }
    sending().desync((S, 3, OK_PACKET));
    let mut sent = sending();
    sent.phase.packet_end(C, 5);
    sent.desync((S, 3, too_long));
    let mut responding = sending();
    responding.emitted(&[(S, 1, b"\x01")]);
    responding.desync((S, 4, too_long));
    let mut another = Conversation::after(&[(C, 0, PING)]);
    another.head((C, 0, QUERY));
    another.desync((S, 3, too_long));
}
