use super::*;

const V1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
/// Header that MariaDB accepts and the specification does not.
const SLOPPY: &[u8] = b"PROXYTCP4 1.2.3.4 5.6.7.8 1 2\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";

fn packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u32).to_le_bytes().to_vec();
    wire[3] = sequence_id;
    wire.extend_from_slice(payload);
    wire
}

fn greeting(tls: bool) -> Vec<u8> {
    let capabilities: u32 = if tls { 0x00ff_ffff } else { 0x00ff_f7ff };
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut payload = b"\x0a10.11.0\0\x01\0\0\0abcdefgh\0".to_vec();
    payload.extend([a, b, 33, 2, 0, c, d, 21]);
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    packet(0, &payload)
}

/// Handshake response, or SSLRequest.
fn response(tls: bool) -> Vec<u8> {
    let mut payload = vec![0x85, if tls { 0xae } else { 0xa6 }, 0x3f, 0x20];
    payload.extend([0; 28]);
    packet(1, &payload)
}

/// Returns the state after bytes of the client, whole and byte by byte.
fn client(before: impl Fn(&mut HeaderGuard), bytes: &[u8]) -> GuardState {
    let (mut whole, mut cut) = (HeaderGuard::default(), HeaderGuard::default());
    before(&mut whole);
    before(&mut cut);
    let watch = whole.client_bytes(bytes);
    let by_bytes =
        bytes.chunks(1).map(|byte| cut.client_bytes(byte)).find(|watch| *watch != GuardState::Watching);
    assert_eq!(by_bytes.unwrap_or(GuardState::Watching), watch);
    watch
}

#[test]
fn a_header_before_any_packet_is_refused() {
    let nothing = |_: &mut HeaderGuard| {};
    for (header, format) in [(V1, Format::V1), (SLOPPY, Format::V1), (V2, Format::V2)] {
        let packets = [response(false), packet(3, b""), packet(5, &[7; 300])];
        for count in 0..=packets.len() {
            let bytes = [packets[..count].concat(), header.to_vec()].concat();
            assert_eq!(client(nothing, &bytes), GuardState::Header(format), "after {count} packets");
        }
    }
    let inside = [packet(1, V1), packet(3, V2)].concat();
    assert_eq!(client(nothing, &inside), GuardState::Watching, "a payload is not a packet header");
}

#[test]
fn a_header_in_place_of_a_fragment_is_refused() {
    let long = [vec![0xff, 0xff, 0xff, 1], vec![0; 0xff_ffff], V1.to_vec()].concat();
    assert_eq!(HeaderGuard::default().client_bytes(&long), GuardState::Header(Format::V1));
}

#[test]
fn the_final_ok_ends_the_guard() {
    let mut guard = HeaderGuard::default();
    assert_eq!(guard.server_bytes(&greeting(true)), GuardState::Watching);
    assert_eq!(guard.client_bytes(&response(false)), GuardState::Watching);
    for other in [b"\xfemysql_clear_password\0".as_slice(), b"\x01\x04", b"\x02", b"\xff\x15\x04no"] {
        assert_eq!(guard.server_bytes(&packet(2, other)), GuardState::Watching);
    }
    let ok = packet(4, b"\0\0\0\x02\0\0\0");
    let (first, rest) = ok.split_at(3);
    assert_eq!(guard.server_bytes(first), GuardState::Watching);
    assert_eq!(guard.server_bytes(rest), GuardState::Over);
}

#[test]
fn an_ok_before_any_packet_of_the_client_does_not_end_the_guard() {
    let mut guard = HeaderGuard::default();
    guard.server_bytes(&greeting(false));
    assert_eq!(guard.server_bytes(&packet(1, b"\0\0\0\x02\0\0\0")), GuardState::Watching);
    assert_eq!(guard.client_bytes(V1), GuardState::Header(Format::V1));
}

#[test]
fn tls_ends_the_guard_only_if_both_peers_support_it() {
    // A TLS record. Read as a packet header, it has a length of 66326 bytes and the sequence id 3.
    let record = b"\x16\x03\x01\x03".as_slice();
    for (offered, asked, over) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        let before = |guard: &mut HeaderGuard| {
            assert_eq!(guard.server_bytes(&greeting(offered)), GuardState::Watching)
        };
        let watch = client(before, &[&response(asked), record].concat());
        assert_eq!(watch == GuardState::Over, over, "offered {offered}, asked {asked}");
        let header = [&response(asked), record, &vec![0; 66_326], V1].concat();
        let expected = if over { GuardState::Over } else { GuardState::Header(Format::V1) };
        assert_eq!(client(before, &header), expected);
    }
    let before =
        |guard: &mut HeaderGuard| assert_eq!(guard.server_bytes(&greeting(true)), GuardState::Watching);
    let plain = [response(true), V1.to_vec()].concat();
    assert_eq!(
        client(before, &plain),
        GuardState::Header(Format::V1),
        "TLS was requested and does not begin"
    );
    let later = [response(true), packet(3, b"x"), record.to_vec(), vec![0; 66_326], V1.to_vec()].concat();
    assert_eq!(client(before, &later), GuardState::Header(Format::V1), "TLS begins at once or not at all");
}

#[test]
fn only_the_server_shows_that_the_protocol_is_not_mysql() {
    for banner in [b"220 mail".as_slice(), b"SSH-2.0", b"\x05\0\0\x01\x0a"] {
        assert_eq!(HeaderGuard::default().server_bytes(banner), GuardState::Over);
        let mut guard = HeaderGuard::default();
        let watches: Vec<_> = banner.chunks(1).map(|byte| guard.server_bytes(byte)).collect();
        assert!(watches.contains(&GuardState::Over));
    }
    // A client's bytes do not end the guard, because a client could otherwise hide from it.
    let mut guard = HeaderGuard::default();
    assert_eq!(guard.client_bytes(b"SSH-"), GuardState::Watching);
    assert_eq!(guard.server_bytes(&greeting(false)), GuardState::Watching);
}
