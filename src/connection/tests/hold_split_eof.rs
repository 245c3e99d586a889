//! COM_STMT_PREPARE responses that are held until they are complete.

use super::link::{Link, error_of_the_filter, login, observe_mysql, packet};
use crate::event::{ClosedBy, Event, OpaqueReason, ProtectionLost, Sender};
use crate::mysql::peer::bug_106252::AffectedClient;
use crate::rules::{HoldSplitEof, Rules};

/// Maximum number of bytes that are held.
const MAX_HELD: usize = 64 << 10;
const CONNECT_ATTRS: u32 = 1 << 20;
const CLASSIC: u32 = 0x000f_a281 | CONNECT_ATTRS;
const DEPRECATE_EOF: u32 = 1 << 24;
const EOF: &[u8] = b"\xfe\0\0\x02\0";

fn definition(len: usize) -> Vec<u8> {
    [b"\x03def".as_slice(), &vec![b'c'; len]].concat()
}

/// The answer to COM_STMT_PREPARE in packets: how many parameters and columns its head says, and what follows.
fn answer(params: u16, columns: u16, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let head = [b"\0\x01\0\0\0".as_slice(), &columns.to_le_bytes(), &params.to_le_bytes(), &[0; 3]].concat();
    let all = std::iter::once(head.as_slice()).chain(payloads.iter().copied());
    all.enumerate().map(|(at, payload)| packet(at as u8 + 1, payload)).collect()
}

fn logged_in(hold_split_eof: HoldSplitEof, capabilities: u32, version: &str) -> Link {
    let attributes = ["_client_name", "MySQL Connector/J", "_client_version", version];
    let named = capabilities & CONNECT_ATTRS != 0;
    let login = login("5.7.4", capabilities, if named { &attributes } else { &[] });
    Link::logged_in(Rules { hold_split_eof, ..observe_mysql() }, login)
}

fn prepare(connection: &mut Link) {
    connection.client(&packet(0, b"\x16SELECT 1"));
}

/// How often: split, held, lost.
fn told(connection: &Link) -> [usize; 3] {
    let [held, lost] = connection.counts([Event::PrepareEofHeld, Event::PrepareEofLost]);
    [splits(connection).len(), held, lost]
}

/// How many bytes of each EOF that came late came with what is in front of it.
fn splits(connection: &Link) -> Vec<u8> {
    let passed = |event: &Event| match event {
        Event::PrepareEofSplit { passed } => Some(*passed),
        _ => None,
    };
    connection.events.iter().filter_map(passed).collect()
}

fn always() -> Link {
    let mut watched = logged_in(HoldSplitEof::Always, CLASSIC, "9.1.0");
    prepare(&mut watched);
    watched
}

/// Every cut of one answer in two, and what leaves at each: all of it but what is behind the last definition's beginning.
#[test]
fn every_cut_of_an_answer() {
    for long in [5, 60, 61, 300] {
        let (first, last) = (definition(long), definition(long + 1));
        for (params, packets) in
            [(0, answer(0, 2, &[&first, &last, EOF])), (1, answer(1, 2, &[&first, EOF, &first, &last, EOF]))]
        {
            let whole = packets.concat();
            let tail = whole.len() - 9 - 4 - last.len();
            for cut in 1..whole.len() {
                let mut watched = always();
                let now = watched.server(&whole[..cut]);
                assert_eq!(now, whole[..cut.min(tail)], "{params} parameters, cut at {cut}");
                let then = watched.server(&whole[cut..]);
                assert_eq!([now, then].concat(), whole, "{params} parameters, cut at {cut}");
                let late = Vec::from_iter((cut + 9).checked_sub(whole.len()).map(|passed| passed as u8));
                assert_eq!(splits(&watched), late, "cut at {cut}");
                assert_eq!(told(&watched)[1..], [usize::from(cut > tail), 0], "cut at {cut}");
            }
            let mut watched = always();
            let mut left = Vec::new();
            for byte in &whole {
                let now = watched.server(&[*byte]);
                let at = left.len();
                left.extend(now);
                assert!(at < tail || left.len() == tail || left.len() == whole.len());
            }
            assert_eq!(left, whole);
            assert_eq!(told(&watched), [1, 1, 0]);
        }
    }
}

#[test]
fn who_is_held_for() {
    let whole = answer(0, 1, &[&definition(9), EOF]).concat();
    let deprecated = CLASSIC | DEPRECATE_EOF;
    let release = Some(AffectedClient::ConnectorJ([8, 0, 27]));
    for (rule, capabilities, version, suspect, held) in [
        (HoldSplitEof::Off, CLASSIC, "8.0.27", release, false),
        (HoldSplitEof::AffectedClients, CLASSIC, "8.0.27", release, true),
        (HoldSplitEof::AffectedClients, CLASSIC, "8.0.32", None, false),
        (
            HoldSplitEof::AffectedClients,
            CLASSIC & !CONNECT_ATTRS,
            "8.0.32",
            Some(AffectedClient::Unnamed),
            true,
        ),
        (HoldSplitEof::Always, CLASSIC, "8.0.32", None, true),
        (HoldSplitEof::Always, deprecated, "8.0.27", None, false),
    ] {
        let mut watched = logged_in(rule, capabilities, version);
        prepare(&mut watched);
        let len = watched.server(&whole[..whole.len() - 1]).len();
        assert_eq!(len, if held { 16 } else { whole.len() - 1 }, "{rule:?} {version}");
        let hazards: Vec<_> = watched
            .events
            .iter()
            .filter_map(|event| match event {
                Event::EofHazardClient(suspect) => Some(*suspect),
                _ => None,
            })
            .collect();
        assert_eq!(hazards, Vec::from_iter(suspect), "{rule:?} {version}");
        let split = usize::from(capabilities == CLASSIC || held);
        assert_eq!(told(&watched), [split, usize::from(held), 0], "{rule:?} {version}");
    }
}

#[test]
fn without_columns_there_is_nothing_to_hold() {
    let whole = answer(2, 0, &[&definition(5), &definition(5), EOF]).concat();
    let mut watched = always();
    for byte in &whole {
        assert_eq!(watched.server(&[*byte]), [*byte]);
    }
    watched.client(&packet(0, b"\x03SELECT 1"));
    for byte in [packet(1, b"\x01"), packet(2, &definition(5)), packet(3, EOF), packet(4, EOF)].concat() {
        assert_eq!(watched.server(&[byte]), [byte]);
    }
    assert_eq!(told(&watched), [0, 0, 0]);
}

#[test]
fn answers_behind_each_other() {
    let mut watched = always();
    prepare(&mut watched);
    prepare(&mut watched);
    let whole = answer(0, 1, &[&definition(9), EOF]).concat();
    let cut = whole.len() - 3;
    let first = watched.server(&whole[..cut]);
    let second = watched.server(&[&whole[cut..], &whole[..cut]].concat());
    let third = watched.server(&[&whole[cut..], &whole].concat());
    assert_eq!(first, whole[..16]);
    assert_eq!(second, [&whole[16..], &whole[..16]].concat());
    assert_eq!(third, [&whole[16..], &whole].concat());
    assert_eq!(told(&watched), [2, 2, 0]);
}

#[test]
fn anything_unexpected_lets_go() {
    let packets = answer(0, 1, &[&definition(9), EOF]);
    let (head, rest) = (&packets[0], [&packets[1], &packets[2][..3]].concat());
    let held = |watched: &mut Link, bytes: &[u8]| {
        let before = watched.server(&[head, bytes].concat());
        assert_eq!(&before, head);
    };
    let error = b"\xff\x28\x04#HY000gone";
    for (what, bytes, behind) in [
        ("an error in its place", &packets[1], packet(3, error)),
        ("an error of the server's own accord", &packets[1], packet(0, error)),
        ("another definition", &packets[1], packet(3, &definition(9))),
        ("what cannot stand there", &packets[1], packet(77, EOF)),
        ("what is too long", &packets[1], packet(3, &[0xfe; 70_000])[..69_000].to_vec()),
    ] {
        let mut watched = always();
        held(&mut watched, bytes);
        assert_eq!(watched.server(&behind), [bytes.as_slice(), &behind].concat(), "{what}");
        assert_eq!(watched.server(b"x"), b"x", "{what}");
    }
    let mut ended = always();
    held(&mut ended, &rest);
    assert_eq!(ended.take(Sender::Server, b"", true), rest);
    let mut off = always();
    held(&mut off, &rest);
    assert!(!off.call(|connection, out| connection.disable_rewriting(out)));
    assert_eq!(off.server(&packets[2][3..4]), [&rest, &packets[2][3..4]].concat());
    let mut opaque = always();
    held(&mut opaque, &rest);
    opaque.call(|connection, out| connection.stop_inspecting(out));
    assert_eq!(opaque.server(&packets[2][3..]), [&rest, &packets[2][3..]].concat());
}

#[test]
fn what_a_reset_takes_away_is_counted() {
    for (by, lost) in [(ClosedBy::Server, 1), (ClosedBy::Proxy, 1), (ClosedBy::Client, 0)] {
        let whole = answer(0, 1, &[&definition(9), EOF]).concat();
        let mut watched = always();
        watched.server(&whole[..whole.len() - 2]);
        watched.close(by);
        assert_eq!(told(&watched), [1, 1, lost], "{by:?}");
    }
    let mut watched = always();
    watched.close(ClosedBy::Server);
    assert_eq!(told(&watched), [0, 0, 0]);
}

#[test]
fn held_bytes_are_bounded() {
    let packets = answer(0, 1, &[&definition(200_000), EOF]);
    let whole = packets.concat();
    let mut watched = always();
    let (mut left, mut given) = (Vec::new(), 0);
    for chunk in whole.chunks(1000) {
        given += chunk.len();
        left.extend(watched.server(chunk));
        assert!(given - left.len() <= MAX_HELD);
    }
    assert_eq!(left, whole);
}

/// What cannot be held passes, because held bytes cannot be given back at once. Inspection ends, so that nothing more is kept.
#[test]
fn without_room_nothing_is_held() {
    let whole = answer(0, 1, &[&definition(40), EOF]).concat();
    let cut = whole.len() - 9;
    let tail = cut - 16;
    for (room, fits) in [(48, true), (47, false), (0, false)] {
        let mut watched = always();
        watched.room = room;
        let now = watched.server(&whole[..cut]);
        assert_eq!(now, whole[..if fits { tail - 32 } else { cut }], "room for {room}");
        let memory = Event::Opaque(OpaqueReason::Memory);
        assert_eq!(watched.counts([memory]), [usize::from(!fits)], "room for {room}");
        assert_eq!([now, watched.server(&whole[cut..])].concat(), whole);
    }
}

/// The beginning of a request for a file has to be held. Where that cannot be, the connection ends as for any other lost
/// protection.
#[test]
fn without_room_for_the_beginning_of_a_request_the_connection_ends() {
    let setup = Rules { block_local_infile: true, ..observe_mysql() };
    let mut watched = Link::logged_in(setup, login("5.7.4", CLASSIC, &[]));
    watched.client(&packet(0, b"\x03SELECT 1"));
    watched.room = 7;
    let request = packet(1, b"\xfb/etc/passwd");
    assert_eq!(watched.server(&request[..8]), error_of_the_filter(1, 1835));
    assert_eq!(watched.counts([Event::ProtectionLost(ProtectionLost::Memory)]), [1]);
    assert_eq!(watched.server(&request[8..]), b"");
    assert_eq!(watched.take(Sender::Client, b"root:x:0:0", false), b"");
}
