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

/// Response to COM_STMT_PREPARE as packets: COM_STMT_PREPARE_OK with these numbers of parameters and columns, then `payloads`.
fn response(params: u16, columns: u16, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
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

/// Numbers of split, held and lost EOFs.
fn counts(connection: &Link) -> [usize; 3] {
    let [held, lost] = connection.counts([Event::PrepareEofHeld, Event::PrepareEofLost]);
    [splits(connection).len(), held, lost]
}

/// For each late EOF, the number of its bytes that arrived together with the bytes before it.
fn splits(connection: &Link) -> Vec<u8> {
    let passed = |event: &Event| match event {
        Event::PrepareEofSplit { passed } => Some(*passed),
        _ => None,
    };
    connection.events.iter().filter_map(passed).collect()
}

fn always() -> Link {
    let mut link = logged_in(HoldSplitEof::Always, CLASSIC, "9.1.0");
    prepare(&mut link);
    link
}

/// After the first chunk everything before the last column definition is forwarded, and after the second everything.
#[test]
fn a_response_is_held_from_its_last_definition_on_however_it_is_cut() {
    for long in [5, 60, 61, 300] {
        let (first, last) = (definition(long), definition(long + 1));
        for (params, packets) in [
            (0, response(0, 2, &[&first, &last, EOF])),
            (1, response(1, 2, &[&first, EOF, &first, &last, EOF])),
        ] {
            let whole = packets.concat();
            let tail = whole.len() - 9 - 4 - last.len();
            for cut in 1..whole.len() {
                let mut link = always();
                let now = link.server(&whole[..cut]);
                assert_eq!(now, whole[..cut.min(tail)], "{params} parameters, cut at {cut}");
                let then = link.server(&whole[cut..]);
                assert_eq!([now, then].concat(), whole, "{params} parameters, cut at {cut}");
                let late = Vec::from_iter((cut + 9).checked_sub(whole.len()).map(|passed| passed as u8));
                assert_eq!(splits(&link), late, "cut at {cut}");
                assert_eq!(counts(&link)[1..], [usize::from(cut > tail), 0], "cut at {cut}");
            }
            let mut link = always();
            let mut left = Vec::new();
            for byte in &whole {
                let now = link.server(&[*byte]);
                let at = left.len();
                left.extend(now);
                assert!(at < tail || left.len() == tail || left.len() == whole.len());
            }
            assert_eq!(left, whole);
            assert_eq!(counts(&link), [1, 1, 0]);
        }
    }
}

#[test]
fn responses_are_held_for_the_clients_of_the_rule() {
    let whole = response(0, 1, &[&definition(9), EOF]).concat();
    let deprecated = CLASSIC | DEPRECATE_EOF;
    let release = Some(AffectedClient::ConnectorJ([8, 0, 27]));
    for (rule, capabilities, version, affected, held) in [
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
        let mut link = logged_in(rule, capabilities, version);
        prepare(&mut link);
        let len = link.server(&whole[..whole.len() - 1]).len();
        assert_eq!(len, if held { 16 } else { whole.len() - 1 }, "{rule:?} {version}");
        let hazards: Vec<_> = link
            .events
            .iter()
            .filter_map(|event| match event {
                Event::EofHazardClient(affected) => Some(*affected),
                _ => None,
            })
            .collect();
        assert_eq!(hazards, Vec::from_iter(affected), "{rule:?} {version}");
        let split = usize::from(capabilities == CLASSIC || held);
        assert_eq!(counts(&link), [split, usize::from(held), 0], "{rule:?} {version}");
    }
}

#[test]
fn responses_without_columns_are_not_held() {
    let whole = response(2, 0, &[&definition(5), &definition(5), EOF]).concat();
    let mut link = always();
    for byte in &whole {
        assert_eq!(link.server(&[*byte]), [*byte]);
    }
    link.client(&packet(0, b"\x03SELECT 1"));
    for byte in [packet(1, b"\x01"), packet(2, &definition(5)), packet(3, EOF), packet(4, EOF)].concat() {
        assert_eq!(link.server(&[byte]), [byte]);
    }
    assert_eq!(counts(&link), [0, 0, 0]);
}

#[test]
fn consecutive_responses_are_held_one_after_the_other() {
    let mut link = always();
    prepare(&mut link);
    prepare(&mut link);
    let whole = response(0, 1, &[&definition(9), EOF]).concat();
    let cut = whole.len() - 3;
    let first = link.server(&whole[..cut]);
    let second = link.server(&[&whole[cut..], &whole[..cut]].concat());
    let third = link.server(&[&whole[cut..], &whole].concat());
    assert_eq!(first, whole[..16]);
    assert_eq!(second, [&whole[16..], &whole[..16]].concat());
    assert_eq!(third, [&whole[16..], &whole].concat());
    assert_eq!(counts(&link), [2, 2, 0]);
}

#[test]
fn unexpected_bytes_release_held_bytes() {
    let packets = response(0, 1, &[&definition(9), EOF]);
    let (head, rest) = (&packets[0], [&packets[1], &packets[2][..3]].concat());
    let held = |link: &mut Link, bytes: &[u8]| {
        let before = link.server(&[head, bytes].concat());
        assert_eq!(&before, head);
    };
    let error = b"\xff\x28\x04#HY000gone";
    for (case, bytes, next) in [
        ("an error instead of the EOF", &packets[1], packet(3, error)),
        ("an unsolicited error", &packets[1], packet(0, error)),
        ("another definition", &packets[1], packet(3, &definition(9))),
        ("a wrong sequence id", &packets[1], packet(77, EOF)),
        ("a packet that is too long", &packets[1], packet(3, &[0xfe; 70_000])[..69_000].to_vec()),
    ] {
        let mut link = always();
        held(&mut link, bytes);
        assert_eq!(link.server(&next), [bytes.as_slice(), &next].concat(), "{case}");
        assert_eq!(link.server(b"x"), b"x", "{case}");
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
fn held_bytes_that_a_reset_loses_are_counted() {
    for (by, lost) in [(ClosedBy::Server, 1), (ClosedBy::Proxy, 1), (ClosedBy::Client, 0)] {
        let whole = response(0, 1, &[&definition(9), EOF]).concat();
        let mut link = always();
        link.server(&whole[..whole.len() - 2]);
        link.close(by);
        assert_eq!(counts(&link), [1, 1, lost], "{by:?}");
    }
    let mut link = always();
    link.close(ClosedBy::Server);
    assert_eq!(counts(&link), [0, 0, 0]);
}

#[test]
fn the_number_of_held_bytes_is_limited() {
    let packets = response(0, 1, &[&definition(200_000), EOF]);
    let whole = packets.concat();
    let mut link = always();
    let (mut left, mut given) = (Vec::new(), 0);
    for chunk in whole.chunks(1000) {
        given += chunk.len();
        left.extend(link.server(chunk));
        assert!(given - left.len() <= MAX_HELD);
    }
    assert_eq!(left, whole);
}

/// Bytes that cannot be held are forwarded. Inspection ends, so that the connection needs no more memory.
#[test]
fn without_room_no_bytes_are_held() {
    let whole = response(0, 1, &[&definition(40), EOF]).concat();
    let cut = whole.len() - 9;
    let tail = cut - 16;
    for (room, fits) in [(48, true), (47, false), (0, false)] {
        let mut link = always();
        link.room = room;
        let now = link.server(&whole[..cut]);
        assert_eq!(now, whole[..if fits { tail - 32 } else { cut }], "room for {room}");
        let memory = Event::Opaque(OpaqueReason::Memory);
        assert_eq!(link.counts([memory]), [usize::from(!fits)], "room for {room}");
        assert_eq!([now, link.server(&whole[cut..])].concat(), whole);
    }
}

/// The start of a file request must be held. If that is impossible, the connection ends as for any other lost protection.
#[test]
fn without_room_for_the_beginning_of_a_request_the_connection_ends() {
    let setup = Rules { block_local_infile: true, ..observe_mysql() };
    let mut link = Link::logged_in(setup, login("5.7.4", CLASSIC, &[]));
    link.client(&packet(0, b"\x03SELECT 1"));
    link.room = 7;
    let request = packet(1, b"\xfb/etc/passwd");
    assert_eq!(link.server(&request[..8]), error_of_the_filter(1, 1835));
    assert_eq!(link.counts([Event::ProtectionLost(ProtectionLost::Memory)]), [1]);
    assert_eq!(link.server(&request[8..]), b"");
    assert_eq!(link.take(Sender::Client, b"root:x:0:0", false), b"");
}
