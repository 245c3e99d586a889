//! LOAD DATA LOCAL INFILE.

use super::*;

const LOAD: &[u8] = b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
const ASKED: &[u8] = b"\xfbf";
const MORE_RESULTS: &[u8] = b"\0\0\0\x0a\0\0\0";

/// The server has asked for the file.
fn asked() -> Watched {
    Watched::past(&[(C, 0, LOAD), (S, 1, ASKED)])
}

fn loaded(tally: Tally) -> Event {
    ended(Command::QUERY, Some(Verb::Load), tally)
}

#[test]
fn a_file_is_asked_for_and_sent() {
    let expected = [started(Command::QUERY), Event::LocalInfile];
    assert_eq!(told(&[(C, 0, LOAD), (S, 1, ASKED)]), expected);
    let mut accepted = asked();
    assert_eq!(accepted.told(&[(C, 2, b"\x03no command"), (C, 3, b"\x01"), (C, 4, b"")]), []);
    assert_eq!(accepted.told(&[(S, 5, OK_PACKET)]), [loaded(Tally::default())]);
    accepted.desync((C, 6, b"more"));
    assert!(!accepted.phase.has_quit());
}

#[test]
fn the_client_can_refuse_with_an_empty_packet() {
    let mut refused = asked();
    assert_eq!(refused.told(&[(C, 2, b""), (S, 3, ERR_PACKET)]), [loaded(failed(1064))]);
    assert_eq!(refused.told(&[(C, 0, PING), (S, 1, OK_PACKET)]), [started(Command::PING), pinged()]);
}

#[test]
fn the_server_can_refuse_while_the_file_comes() {
    let expected = [loaded(failed(1064)), started(Command::PING), pinged()];
    // The client sends the rest, and the next command behind it.
    let rest = [(C, 3, &b"two"[..]), (C, 4, b""), (C, 0, PING), (S, 1, OK_PACKET)];
    let mut late = asked();
    late.told(&[(C, 2, b"one")]);
    assert_eq!([late.told(&[(S, 3, ERR_PACKET)]), late.told(&rest)].concat(), expected);

    // The refusal comes behind what was sent meanwhile, and has a number of its own.
    let mut crossing = asked();
    crossing.told(&[(C, 2, b"one"), (C, 3, b"two"), (C, 4, b"")]);
    assert_eq!(crossing.told(&[(S, 3, ERR_PACKET), (C, 0, PING), (S, 1, OK_PACKET)]), expected);

    // The next command is sent before the refusal is seen.
    let mut ahead = asked();
    ahead.told(&[(C, 2, b"one"), (C, 3, b"")]);
    assert_eq!(ahead.told(&[(C, 0, PING)]), [started(Command::PING)]);
    assert_eq!(ahead.told(&[(S, 3, ERR_PACKET), (S, 1, OK_PACKET)]), [expected[0], expected[2]]);

    // The next command was sent before the file was asked for.
    let mut early = Watched::past(&[(C, 0, LOAD), (C, 0, PING), (S, 1, ASKED), (C, 2, b"one")]);
    assert_eq!(early.told(&[(S, 3, ERR_PACKET), (C, 3, b"two"), (C, 4, b"")]), [expected[0]]);
    assert_eq!(early.told(&[(S, 1, OK_PACKET)]), [expected[2]]);

    // The client stops where it was told so.
    let mut stopped = asked();
    stopped.told(&[(C, 2, b"one")]);
    assert_eq!(stopped.told(&[(S, 3, ERR_PACKET), (C, 0, PING), (S, 1, OK_PACKET)]), expected);
    stopped.desync((C, 3, b"two"));
}

#[test]
fn more_results_can_follow_a_file() {
    let mut watched = asked();
    assert_eq!(watched.told(&[(C, 2, b"one"), (C, 3, b""), (S, 4, MORE_RESULTS)]), []);
    assert_eq!(watched.told(&[(S, 5, ASKED)]), [Event::LocalInfile], "another file");
    assert_eq!(watched.told(&[(C, 6, b"two"), (C, 7, b""), (S, 8, MORE_RESULTS)]), []);
    let rows = [(S, 9, &b"\x01"[..]), (S, 10, b"\x03def"), (S, 11, EOF_PACKET), (S, 12, b"\x011")];
    assert_eq!(watched.told(&rows), []);
    let tally = Tally { rows: 1, result_sets: 1, ..Tally::default() };
    assert_eq!(watched.told(&[(S, 13, EOF_PACKET)]), [loaded(tally)]);
}

#[test]
fn a_file_has_more_pieces_than_sequence_ids() {
    let mut watched = asked();
    for piece in 2..=257_u32 {
        assert_eq!(watched.told(&[(C, piece as u8, b"\x03piece")]), [], "{piece}");
    }
    assert_eq!(watched.told(&[(C, 2, b""), (S, 3, OK_PACKET)]), [loaded(Tally::default())]);
}

#[test]
fn progress_can_be_reported_while_a_file_comes() {
    let mut watched = Watched::new(CLASSIC | Capabilities::MARIADB_PROGRESS);
    watched.told(&[(C, 0, LOAD), (S, 1, ASKED), (C, 2, b"one")]);
    let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\0";
    assert_eq!(watched.told(&[(S, 3, progress), (C, 3, b"two"), (C, 4, b"")]), []);
    assert_eq!(watched.told(&[(S, 5, OK_PACKET)]), [loaded(Tally::default())]);
}

#[test]
fn a_piece_can_have_many_fragments() {
    let mut watched = asked();
    watched.head((C, 2, b"long"));
    watched.phase.packet_end(C, 5);
    assert_eq!(watched.told(&[(C, 6, b""), (S, 7, OK_PACKET)]), [loaded(Tally::default())]);
}
