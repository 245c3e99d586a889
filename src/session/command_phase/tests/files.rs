//! LOAD DATA LOCAL INFILE.

use super::*;

const LOAD: &[u8] = b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
const REQUEST: &[u8] = b"\xfbf";
const MORE_RESULTS: &[u8] = b"\0\0\0\x0a\0\0\0";

/// A command phase after a file request.
fn requested() -> Conversation {
    Conversation::after(&[(C, 0, LOAD), (S, 1, REQUEST)])
}

fn loaded(tally: Tally) -> Event {
    ended(Command::QUERY, Some(Verb::Load), tally)
}

#[test]
fn a_file_is_requested_and_sent() {
    let expected = [started(Command::QUERY), Event::LocalInfile];
    assert_eq!(emitted(&[(C, 0, LOAD), (S, 1, REQUEST)]), expected);
    let mut accepted = requested();
    assert_eq!(accepted.emitted(&[(C, 2, b"\x03no command"), (C, 3, b"\x01"), (C, 4, b"")]), []);
    assert_eq!(accepted.emitted(&[(S, 5, OK_PACKET)]), [loaded(Tally::default())]);
    accepted.desync((C, 6, b"more"));
    assert!(!accepted.phase.has_quit());
}

#[test]
fn the_client_can_refuse_with_an_empty_packet() {
    let mut refused = requested();
    assert_eq!(refused.emitted(&[(C, 2, b""), (S, 3, ERR_PACKET)]), [loaded(failed(1064))]);
    assert_eq!(refused.emitted(&[(C, 0, PING), (S, 1, OK_PACKET)]), [started(Command::PING), pinged()]);
}

#[test]
fn the_server_can_refuse_a_file_while_it_arrives() {
    let expected = [loaded(failed(1064)), started(Command::PING), pinged()];
    // The client sends the rest, and then the next command.
    let rest = [(C, 3, &b"two"[..]), (C, 4, b""), (C, 0, PING), (S, 1, OK_PACKET)];
    let mut late = requested();
    late.emitted(&[(C, 2, b"one")]);
    assert_eq!([late.emitted(&[(S, 3, ERR_PACKET)]), late.emitted(&rest)].concat(), expected);

    // The refusal arrives after packets that the client sent meanwhile, and its id does not follow theirs.
    let mut crossing = requested();
    crossing.emitted(&[(C, 2, b"one"), (C, 3, b"two"), (C, 4, b"")]);
    assert_eq!(crossing.emitted(&[(S, 3, ERR_PACKET), (C, 0, PING), (S, 1, OK_PACKET)]), expected);

    // The next command is sent before the refusal arrives.
    let mut ahead = requested();
    ahead.emitted(&[(C, 2, b"one"), (C, 3, b"")]);
    assert_eq!(ahead.emitted(&[(C, 0, PING)]), [started(Command::PING)]);
    assert_eq!(ahead.emitted(&[(S, 3, ERR_PACKET), (S, 1, OK_PACKET)]), [expected[0], expected[2]]);

    // The next command was sent before the file request.
    let mut early = Conversation::after(&[(C, 0, LOAD), (C, 0, PING), (S, 1, REQUEST), (C, 2, b"one")]);
    assert_eq!(early.emitted(&[(S, 3, ERR_PACKET), (C, 3, b"two"), (C, 4, b"")]), [expected[0]]);
    assert_eq!(early.emitted(&[(S, 1, OK_PACKET)]), [expected[2]]);

    // The client stops at the refusal.
    let mut stopped = requested();
    stopped.emitted(&[(C, 2, b"one")]);
    assert_eq!(stopped.emitted(&[(S, 3, ERR_PACKET), (C, 0, PING), (S, 1, OK_PACKET)]), expected);
    stopped.desync((C, 3, b"two"));
}

#[test]
fn more_results_can_follow_a_file() {
    let mut conversation = requested();
    assert_eq!(conversation.emitted(&[(C, 2, b"one"), (C, 3, b""), (S, 4, MORE_RESULTS)]), []);
    assert_eq!(conversation.emitted(&[(S, 5, REQUEST)]), [Event::LocalInfile], "another file");
    assert_eq!(conversation.emitted(&[(C, 6, b"two"), (C, 7, b""), (S, 8, MORE_RESULTS)]), []);
    let rows = [(S, 9, &b"\x01"[..]), (S, 10, b"\x03def"), (S, 11, EOF_PACKET), (S, 12, b"\x011")];
    assert_eq!(conversation.emitted(&rows), []);
    let tally = Tally { rows: 1, result_sets: 1, ..Tally::default() };
    assert_eq!(conversation.emitted(&[(S, 13, EOF_PACKET)]), [loaded(tally)]);
}

#[test]
fn a_file_can_have_more_packets_than_sequence_ids() {
    let mut conversation = requested();
    for piece in 2..=257_u32 {
        assert_eq!(conversation.emitted(&[(C, piece as u8, b"\x03piece")]), [], "{piece}");
    }
    assert_eq!(conversation.emitted(&[(C, 2, b""), (S, 3, OK_PACKET)]), [loaded(Tally::default())]);
}

#[test]
fn progress_can_be_reported_while_a_file_arrives() {
    let mut conversation = Conversation::new(CLASSIC | Capabilities::MARIADB_PROGRESS);
    conversation.emitted(&[(C, 0, LOAD), (S, 1, REQUEST), (C, 2, b"one")]);
    let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\0";
    assert_eq!(conversation.emitted(&[(S, 3, progress), (C, 3, b"two"), (C, 4, b"")]), []);
    assert_eq!(conversation.emitted(&[(S, 5, OK_PACKET)]), [loaded(Tally::default())]);
}

#[test]
fn a_packet_of_a_file_can_have_many_fragments() {
    let mut conversation = requested();
    conversation.head((C, 2, b"long"));
    conversation.phase.packet_end(C, 5);
    assert_eq!(conversation.emitted(&[(C, 6, b""), (S, 7, OK_PACKET)]), [loaded(Tally::default())]);
}
