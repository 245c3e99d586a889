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

/// Who sent it, its sequence id, its payload.
type Passed<'a> = (Sender, u8, &'a [u8]);

/// A command phase and what it told.
struct Watched {
    phase: CommandPhase,
    events: Vec<Event>,
    details: Details,
    now: u64,
}

impl Watched {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            phase: CommandPhase::new(capabilities, None, Timestamp::from_nanos(1), Options::default()),
            events: Vec::new(),
            details: Details::default(),
            now: 1,
        }
    }

    /// Past these packets; what they told is forgotten.
    fn past(packets: &[Passed]) -> Self {
        let mut this = Self::new(CLASSIC);
        this.told(packets);
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

    /// Lets packets pass; gives what they told.
    fn told(&mut self, packets: &[Passed]) -> Vec<Event> {
        for packet in packets {
            assert_eq!(self.take(*packet, true), Ok(()), "{packet:?} of {packets:?}");
        }
        std::mem::take(&mut self.events)
    }

    /// A long packet, of which only the head has come.
    fn head(&mut self, packet: Passed) {
        assert_eq!(self.take(packet, false), Ok(()), "{packet:?}");
    }

    /// A packet that cannot stand here.
    fn desync(&mut self, packet: Passed) {
        assert_eq!(self.take(packet, true), Err(OpaqueReason::Desync), "{packet:?}");
    }

    fn end(&mut self) -> Vec<Event> {
        self.phase.end(&mut self.events);
        std::mem::take(&mut self.events)
    }
}

fn told(packets: &[Passed]) -> Vec<Event> {
    Watched::new(CLASSIC).told(packets)
}

fn started(command: Command) -> Event {
    Event::CommandStarted(command)
}

/// The end of an answer that took no time.
fn ended(command: Command, verb: Option<Verb>, tally: Tally) -> Event {
    let answer = Answer { tally, took: Duration::ZERO, first_byte: Duration::ZERO };
    Event::CommandEnded { command, verb, answer: Some(answer) }
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
fn each_answer_goes_to_the_oldest_command() {
    let mut watched = Watched::new(CLASSIC);
    let sent = watched.told(&[(C, 0, QUERY), (C, 0, PING)]);
    assert_eq!(sent, [started(Command::QUERY), started(Command::PING)]);
    let answered = watched.told(&[(S, 1, ERR_PACKET), (S, 1, OK_PACKET)]);
    assert_eq!(answered, [queried(failed(1064)), pinged()]);
    watched.desync((S, 2, OK_PACKET));
}

#[test]
fn an_answer_takes_from_the_commands_first_packet_to_its_own_last() {
    let mut watched = Watched::new(CLASSIC);
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
        watched.now += 1000;
        assert_eq!(watched.take(packet, true), Ok(()));
    }
    let micros = Duration::from_micros;
    let tally = Tally { rows: 1, result_sets: 1, ..Tally::default() };
    let query = Answer { tally, first_byte: micros(2), took: micros(6) };
    let ping = Answer { tally: Tally::default(), first_byte: micros(6), took: micros(6) };
    let expected = [
        started(Command::QUERY),
        started(Command::PING),
        Event::CommandEnded { command: Command::QUERY, verb: Some(Verb::Select), answer: Some(query) },
        Event::CommandEnded { command: Command::PING, verb: None, answer: Some(ping) },
    ];
    assert_eq!(watched.events, expected);
}

#[test]
fn sequence_ids_are_checked() {
    for sequence_id in [0, 2, 255] {
        Watched::past(&[(C, 0, QUERY)]).desync((S, sequence_id, OK_PACKET));
    }
    for sequence_id in [1, 2, 255] {
        Watched::past(&[]).desync((C, sequence_id, QUERY));
        Watched::past(&[(C, 0, QUERY)]).desync((C, sequence_id, b""));
    }
    Watched::past(&[]).desync((S, 0, OK_PACKET));
    Watched::past(&[(C, 0, QUERY)]).desync((S, 2, ERR_PACKET));
    let mut wrapped =
        Watched::past(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET)]);
    for row in 4..=257_u32 {
        assert_eq!(wrapped.told(&[(S, row as u8, b"\x011")]), []);
    }
    let tally = Tally { rows: 254, result_sets: 1, ..Tally::default() };
    assert_eq!(wrapped.told(&[(S, 2, EOF_PACKET)]), [queried(tally)]);
}

#[test]
fn an_empty_packet_is_a_command() {
    let asleep = ended(Command::SLEEP, None, failed(1047));
    assert_eq!(told(&[(C, 0, b""), (S, 1, b"\xff\x17\x04#08S01")]), [started(Command::SLEEP), asleep]);
}

#[test]
fn some_commands_have_no_answer() {
    let (close, piece) = (b"\x19\x07\0\0\0", b"\x18\x07\0\0\0\0\0data");
    let sent = |command| Event::CommandSent(command);
    assert_eq!(
        told(&[(C, 0, close), (C, 0, piece), (C, 0, PING), (S, 1, OK_PACKET)]),
        [sent(Command::STMT_CLOSE), sent(Command::STMT_SEND_LONG_DATA), started(Command::PING), pinged()]
    );
}

#[test]
fn nothing_counts_behind_quit() {
    let mut watched = Watched::past(&[(C, 0, PING)]);
    assert!(!watched.phase.has_quit());
    let quit = watched.told(&[(C, 0, QUIT)]);
    assert_eq!(quit, [Event::CommandSent(Command::QUIT)]);
    assert!(watched.phase.has_quit());
    assert_eq!(watched.told(&[(C, 0, QUIT), (C, 0, PING), (C, 9, b"nonsense")]), []);
    assert_eq!(watched.told(&[(S, 1, OK_PACKET)]), [pinged()], "what was asked before is still answered");
}

#[test]
fn a_session_that_is_given_up_owes_no_answer() {
    for (byte, reason) in [(0x20, OpaqueReason::Clone), (0x21, OpaqueReason::Replication)] {
        let mut watched = Watched::new(CLASSIC);
        assert_eq!(watched.take((C, 0, &[byte]), true), Err(reason));
        let command = Command(byte);
        let unanswered = Event::CommandEnded { command, verb: None, answer: None };
        assert_eq!(watched.end(), [started(command), unanswered]);
    }
}

#[test]
fn the_queue_is_bounded() {
    let mut watched = Watched::new(CLASSIC);
    for _ in 0..1024 {
        watched.now += 1;
        watched.told(&[(C, 0, PING)]);
    }
    assert_eq!(watched.take((C, 0, PING), true), Err(OpaqueReason::Memory));
    assert_eq!(watched.take((C, 0, QUIT), true), Ok(()), "it needs no room");
    let unanswered = Event::CommandEnded { command: Command::PING, verb: None, answer: None };
    let told = watched.end();
    assert_eq!((told.len(), &told[0]), (1025, &Event::CommandSent(Command::QUIT)));
    assert!(told[1..].iter().all(|event| *event == unanswered));
}

#[test]
fn a_flood_of_equal_commands_ends_in_two_events() {
    let mut watched = Watched::new(CLASSIC);
    for _ in 0..5000 {
        watched.take((C, 0, PING), true).expect("there is room");
    }
    let command = Command::PING;
    let ended = watched.end().split_off(5000);
    let first = Event::CommandEnded { command, verb: None, answer: None };
    assert_eq!(ended, [first, Event::CommandsAbandoned { command, count: 4999 }]);
}

#[test]
fn errors_of_the_servers_own_accord() {
    let (timeout, killed) = (&b"\xff\xbf\x0f#HY000"[..], &b"\xff\x87\x07#70100"[..]);
    let notice = |errno| Event::ServerNotice { errno };
    let timed_out = [notice(4031), Event::IdleClosed { by: ClosedBy::Server, idle: Duration::ZERO }];
    assert_eq!(told(&[(S, 0, timeout)]), timed_out);
    // It has no time-out twice, nor behind another end.
    assert_eq!(told(&[(S, 0, timeout), (S, 0, timeout)]), [&timed_out[..], &[notice(4031)]].concat());
    assert_eq!(told(&[(S, 1, killed), (S, 0, timeout)]), [notice(1927), notice(4031)]);
    assert_eq!(told(&[(S, 1, killed)]), [notice(1927)]);
    // A command is on its way: 4031 counts from 0, and the answer does not come; 1927 looks like the answer.
    let mut crossing = Watched::past(&[(C, 0, PING)]);
    assert_eq!(crossing.told(&[(S, 0, timeout)]), timed_out);
    assert_eq!(crossing.end(), [Event::CommandEnded { command: Command::PING, verb: None, answer: None }]);
    let mut crossing = Watched::past(&[(C, 0, PING)]);
    assert_eq!(crossing.told(&[(S, 1, killed)]), [ended(Command::PING, None, failed(1927))]);
    // In the middle of an answer.
    for (sequence_id, error, errno) in [(0, timeout, 4031), (1, killed, 1927)] {
        let mut busy = Watched::past(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def")]);
        let of_idle = timed_out.iter().skip(1).filter(|_| errno == 4031);
        let expected: Vec<_> = [notice(errno)].iter().chain(of_idle).copied().collect();
        assert_eq!(busy.told(&[(S, sequence_id, error)]), expected);
        let result_set = Tally { result_sets: 1, ..Tally::default() };
        assert_eq!(busy.told(&[(S, 3, EOF_PACKET), (S, 4, EOF_PACKET)]), [queried(result_set)]);
    }
    Watched::past(&[]).desync((S, 0, b"\xff\x01"));
}

/// The OK behind OUT parameters, when the result set before did not announce it, and definitions beyond 16 bits.
#[test]
fn an_answer_can_have_a_tail() {
    let prepared = b"\0\x01\0\0\0\0\0\0\0\0\0\0";
    for (command, answer) in [(&b"\x17\x01\0\0\0"[..], OK_PACKET), (b"\x16SELECT ?", prepared)] {
        let mut watched = Watched::past(&[(C, 0, command), (S, 1, answer)]);
        assert_eq!(watched.told(&[(S, 2, OK_PACKET), (S, 3, b"\x03def")]), []);
        watched.desync((S, 3, OK_PACKET));

        let mut sent_ahead = Watched::past(&[(C, 0, command), (C, 0, PING), (S, 1, answer)]);
        assert_eq!(sent_ahead.told(&[(S, 2, OK_PACKET), (S, 1, OK_PACKET)]), [pinged()]);

        let mut next = Watched::past(&[(C, 0, command), (S, 1, answer), (C, 0, PING)]);
        next.desync((S, 2, OK_PACKET));
    }
    let mut ping = Watched::past(&[(C, 0, PING), (S, 1, OK_PACKET)]);
    ping.desync((S, 2, OK_PACKET));
}

#[test]
fn authentication_goes_round_in_change_user() {
    let mut watched = Watched::past(&[(C, 0, b"\x11app\0")]);
    let rounds = [
        (S, 1, &b"\xfecaching_sha2_password\0salt"[..]),
        (C, 2, b"\x03 looks like a command"),
        (S, 3, b"\x01\x04"),
    ];
    assert_eq!(watched.told(&rounds), []);
    assert_eq!(watched.told(&[(C, 4, b"")]), []);
    let changed = ended(Command::CHANGE_USER, None, Tally::default());
    assert_eq!(watched.told(&[(S, 5, OK_PACKET)]), [changed]);
    watched.desync((C, 6, b"more"));
    // One packet for each of the server, with the id that follows.
    let rounds = &rounds[..2];
    Watched::past(&[(C, 0, b"\x11app\0")]).desync((C, 2, b"before the server asks"));
    Watched::past(&[(C, 0, b"\x11app\0"), rounds[0]]).desync((C, 3, b"another id"));
    Watched::past(&[(C, 0, b"\x11app\0"), rounds[0], rounds[1]]).desync((C, 3, b"twice"));
}

#[test]
fn a_replica_acknowledges_events() {
    let (event, marked, ack) =
        (&b"\0event"[..], &b"\0\xef\x01event"[..], &b"\xef\0\0\0\0\0\0\0\0bin.000001"[..]);
    for capabilities in [CLASSIC, DEPRECATE_EOF] {
        let mut watched = Watched::new(capabilities);
        assert_eq!(watched.told(&[(C, 0, b"\x12")]), [started(Command::BINLOG_DUMP)]);
        assert_eq!(watched.told(&[(S, 1, event), (S, 2, marked), (C, 0, ack)]), []);
        assert_eq!(watched.told(&[(S, 1, event), (S, 2, marked), (S, 1, marked), (C, 0, ack)]), []);
        let dumped = ended(Command::BINLOG_DUMP, None, Tally::default());
        assert_eq!(watched.told(&[(S, 1, EOF_PACKET)]), [dumped]);
    }
    let unknown = Command(0xef);
    assert_eq!(told(&[(C, 0, ack)]), [started(unknown)], "nothing is dumped");
    for sequence_id in [0, 2, 4] {
        Watched::past(&[(C, 0, b"\x12"), (S, 1, event), (S, 2, event)]).desync((S, sequence_id, event));
    }
}

#[test]
fn the_end_of_a_long_packet_belongs_to_its_own_exchange() {
    // The last packet of an answer: the next answer begins anew.
    let mut watched = Watched::past(&[(C, 0, QUERY), (C, 0, PING)]);
    watched.head((S, 1, ERR_PACKET));
    watched.phase.packet_end(S, 1);
    assert_eq!(watched.told(&[(S, 1, OK_PACKET)]), [queried(failed(1064)), pinged()]);

    // A row of many fragments.
    let mut watched =
        Watched::past(&[(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET)]);
    watched.head((S, 4, b"\x011"));
    watched.phase.packet_end(S, 9);
    assert_eq!(watched.told(&[(S, 10, EOF_PACKET)]).len(), 1);

    // A piece of a parameter has no answer, a replica's acknowledgement neither.
    let cases: [(&[u8], &[u8], &[u8]); 2] = [(QUERY, b"\x01", b"\x18"), (b"\x12", b"\0event", b"\xef")];
    for (command, first, piece) in cases {
        let mut watched = Watched::past(&[(C, 0, command), (S, 1, first)]);
        watched.head((C, 0, piece));
        watched.phase.packet_end(C, 7);
        watched.told(&[(S, 2, b"\0")]);
    }

    // A command of many fragments, and a secret.
    let mut watched = Watched::new(CLASSIC);
    watched.head((C, 0, QUERY));
    watched.phase.packet_end(C, 4);
    assert_eq!(watched.told(&[(S, 5, OK_PACKET)]).len(), 2);
    let mut watched = Watched::past(&[(C, 0, b"\x11app\0"), (S, 1, b"\xfeplugin\0")]);
    watched.head((C, 2, b"secret"));
    watched.phase.packet_end(C, 3);
    assert_eq!(watched.told(&[(S, 4, OK_PACKET)]).len(), 1);

    // What may follow an answer.
    let mut watched = Watched::past(&[(C, 0, QUERY)]);
    watched.head((S, 1, OK_PACKET));
    watched.phase.packet_end(S, 3);
    watched.told(&[(S, 4, OK_PACKET)]);
    watched.desync((S, 4, OK_PACKET));
}

#[test]
fn a_command_that_is_too_long_is_refused_before_its_end() {
    let too_long = &b"\xff\x81\x04#08S01"[..];
    let sending = || {
        let mut watched = Watched::new(CLASSIC);
        watched.head((C, 0, QUERY));
        watched.events.clear();
        watched
    };
    for sequence_id in [1, 3] {
        let mut refused = sending();
        assert_eq!(refused.told(&[(S, sequence_id, too_long)]), [queried(failed(1153))]);
        refused.phase.packet_end(C, 5);
        assert_eq!(refused.told(&[(C, 0, PING), (S, 1, OK_PACKET)]), [started(Command::PING), pinged()]);
    }
    sending().desync((S, 3, OK_PACKET));
    let mut sent = sending();
    sent.phase.packet_end(C, 5);
    sent.desync((S, 3, too_long));
    let mut answered = sending();
    answered.told(&[(S, 1, b"\x01")]);
    answered.desync((S, 4, too_long));
    let mut another = Watched::past(&[(C, 0, PING)]);
    another.head((C, 0, QUERY));
    another.desync((S, 3, too_long));
}
