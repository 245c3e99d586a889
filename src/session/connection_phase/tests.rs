use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::event::Sender;
use crate::event::details::Details;
use crate::mysql::peer::client::{Connector, Series};

const C: Sender = Sender::Client;
const S: Sender = Sender::Server;

const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
const ERR_PACKET: &[u8] = b"\xff\x15\x04#28000Access denied for user 'app'";

/// LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, CONNECT_ATTRS.
const CLIENT: u32 = 1 | 1 << 9 | 1 << 15 | 1 << 19 | 1 << 20;
const SSL: u32 = 1 << 11;

/// A connection phase that began 5 us ago, and its output.
struct Login {
    phase: ConnectionPhase,
    peers: String,
    events: Vec<Event>,
    details: Details,
    /// Sequence id of the next packet of either peer.
    next_id: u8,
}

impl Login {
    fn new() -> Self {
        let phase = ConnectionPhase::new(Timestamp::from_nanos(1), Options::default());
        Self { phase, peers: String::new(), events: Vec::new(), details: Details::default(), next_id: 0 }
    }

    /// A connection phase after the greeting of a server that names `plugin`.
    fn greeted(plugin: &str) -> Self {
        let mut this = Self::new();
        this.pass(S, &greeting(plugin));
        assert_eq!(this.phase.state, State::Handshake);
        this.events.clear();
        this
    }

    /// A connection phase after the handshake response of a client that names `plugin`.
    fn responded(plugin: &str) -> Self {
        let mut this = Self::greeted("mysql_native_password");
        this.pass(C, &response(CLIENT, plugin));
        assert_eq!(this.phase.state, State::Authentication);
        let client = Event::Client { connector: Connector::Other, series: Series::Other };
        assert_eq!(std::mem::take(&mut this.events), [client]);
        this
    }

    fn take(&mut self, sender: Sender, prefix: &[u8]) -> Outcome<Progress> {
        let read = || Timestamp::from_nanos(5_001);
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.details);
        let sequence_id = self.next_id;
        self.next_id = sequence_id.wrapping_add(1);
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete: true };
        match sender {
            C => self.phase.client_packet(&packet, &mut self.peers, &mut out).map(|()| Progress::Continues),
            S => self.phase.server_packet(&packet, &mut self.peers, &mut out),
        }
    }

    fn pass(&mut self, sender: Sender, prefix: &[u8]) {
        assert_eq!(self.take(sender, prefix), Ok(Progress::Continues), "{prefix:?}");
    }
}

fn greeting(plugin: &str) -> Vec<u8> {
    let front = b"\x0a8.0.41\0\x07\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0\xff\xff\xff\x02\0\xff\xdf\x15";
    [&front[..], &[0; 10], b"123456789012\0", plugin.as_bytes(), b"\0"].concat()
}

fn response(capabilities: u32, plugin: &str) -> Vec<u8> {
    let attributes = b"\x24\x0c_client_name\x04curl\x0f_client_version\x010";
    [&capabilities.to_le_bytes()[..], &[0; 28], b"app\0\x03pwd", plugin.as_bytes(), b"\0", attributes]
        .concat()
}

fn handshake(result: HandshakeResult) -> Event {
    Event::Handshake { result, duration: Some(Duration::from_micros(5)) }
}

fn refused(errno: u16, plugin: AuthPlugin) -> [Event; 2] {
    [Event::HandshakeError { errno, plugin }, handshake(HandshakeResult::Error)]
}

#[test]
fn the_handshake_follows_the_greeting() {
    let mut login = Login::new();
    assert_eq!((login.phase.phase(), login.phase.is_undecided()), (Phase::Greeting, false));
    login.pass(S, &greeting("caching_sha2_password"));
    assert_eq!((login.phase.phase(), login.phase.is_undecided()), (Phase::Handshake, true));
    let (flavor, release) = identify(b"8.0.41");
    let after = Duration::from_micros(5);
    assert_eq!(login.events, [Event::Greeting { flavor, release, after }]);
}

#[test]
fn a_greeting_of_version_9_is_emitted_and_makes_the_connection_opaque() {
    let mut login = Login::new();
    assert_eq!(login.take(S, b"\x093.20.32\0\x07\0\0\0scramble\0"), Err(OpaqueReason::NotMysql));
    assert!(matches!(login.events[..], [Event::Greeting { .. }]));
    assert_eq!(login.peers, "server=3.20.32");
    assert_eq!(Login::new().take(S, b"\x09no end"), Err(OpaqueReason::NotMysql));
}

#[test]
fn an_error_instead_of_a_greeting_is_a_pre_handshake_error() {
    for error in [&b"\xff\x10\x04Too many connections"[..], b"\xff\x10\x04#08004Too many connections"] {
        let mut login = Login::new();
        login.pass(S, error);
        login.pass(S, b"anything");
        login.pass(C, b"anything");
        assert_eq!(login.events, [Event::PreHandshakeError { errno: 1040 }]);
        assert_eq!((login.phase.phase(), login.phase.is_undecided()), (Phase::Greeting, false));
    }
}

#[test]
fn other_packets_than_a_greeting_are_not_mysql() {
    for bytes in [&b""[..], b"\x0a8.0", b"\x0b", b"\xff\x10", OK_PACKET] {
        assert_eq!(Login::new().take(S, bytes), Err(OpaqueReason::NotMysql), "{bytes:?}");
    }
    assert_eq!(Login::new().take(C, b"\x0a8.0"), Err(OpaqueReason::NotMysql), "the server speaks first");
}

#[test]
fn the_authentication_follows_the_handshake() {
    let mut login = Login::responded("client_ed25519");
    assert_eq!((login.phase.phase(), login.phase.is_undecided()), (Phase::Authentication, true));
    assert_eq!(login.phase.capabilities(), Capabilities::new(CLIENT, 0));
    assert_eq!(login.peers, "server=8.0.41 client=curl/0");
    login.pass(S, b"\x01a challenge");
    login.pass(C, b"a secret that looks like \x03 a command");
    login.pass(S, b"\x01another");
    login.pass(C, b"");
    assert_eq!(
        login.take(S, OK_PACKET),
        Ok(Progress::Accepted { capabilities: Capabilities::new(CLIENT, 0), affected_client: None })
    );
    assert_eq!(login.events, [handshake(HandshakeResult::Ok)]);
}

/// A server reads packets after the login as commands, and one of them can be a COM_CHANGE_USER.
#[test]
fn the_client_sends_one_packet_for_each_packet_of_the_server() {
    const QUIT: &[u8] = b"\x01";
    let mut after_the_login = Login::responded("client_ed25519");
    assert_eq!(after_the_login.take(C, b"\x11evil\0"), Err(OpaqueReason::Desync));
    let mut twice = Login::responded("client_ed25519");
    twice.pass(S, b"\x01a challenge");
    twice.pass(C, b"a secret");
    assert_eq!(twice.take(C, b"\x11evil\0"), Err(OpaqueReason::Desync));
    for sequence_id in [0, 1, 2, 4, 255] {
        let mut other = Login::responded("client_ed25519");
        other.pass(S, b"\x01a challenge");
        other.next_id = sequence_id;
        assert_eq!(other.take(C, b"\x11evil\0"), Err(OpaqueReason::Desync), "{sequence_id}");
    }
    for sequence_id in [0, 2, 255] {
        let mut numbered = Login::greeted("client_ed25519");
        numbered.next_id = sequence_id;
        let response = numbered.take(C, &response(CLIENT, "client_ed25519"));
        assert_eq!(response, Err(OpaqueReason::Desync), "a response with the id {sequence_id}");
    }
    let mut quits = Login::responded("client_ed25519");
    quits.next_id = 0;
    quits.pass(C, QUIT);
    quits.pass(C, b"ignored by servers");
    assert!(quits.phase.has_quit());
}

#[test]
fn an_invalid_response_to_a_greeting_is_a_desync() {
    assert_eq!(Login::greeted("").take(C, b"\x01"), Err(OpaqueReason::Desync), "shorter than any response");
    assert_eq!(Login::greeted("").take(C, &response(CLIENT, "")[..31]), Err(OpaqueReason::Desync));
    for bytes in [OK_PACKET, b"\xfe", b""] {
        assert_eq!(Login::greeted("").take(S, bytes), Err(OpaqueReason::Desync), "it is the client's turn");
    }
}

#[test]
fn the_response_320_names_no_plugin() {
    let mut login = Login::greeted("mysql_old_password");
    login.pass(C, b"\x05\0\xff\xff\xffapp\0scramble");
    assert_eq!(login.phase.phase(), Phase::Authentication);
    assert_eq!(login.phase.capabilities(), Capabilities::new(5, 0), "because PROTOCOL_41 is missing");
    login.pass(S, ERR_PACKET);
    let client = Event::Client { connector: Connector::None, series: Series::None };
    assert_eq!(login.events.remove(0), client, "no attributes");
    assert_eq!(login.events, refused(1045, AuthPlugin::OldPassword));
}

#[test]
fn tls_follows_if_both_peers_have_the_flag() {
    let mut login = Login::greeted("mysql_native_password");
    login.pass(C, &response(CLIENT | SSL, "")[..32]);
    assert!(login.phase.awaits_tls());
    assert_eq!((login.phase.phase(), login.phase.is_undecided()), (Phase::Handshake, true));

    let mut without = Login::greeted("mysql_native_password");
    without.phase.capabilities = Capabilities::new(!SSL, 0);
    without.pass(C, &response(CLIENT | SSL, ""));
    assert!(!without.phase.awaits_tls(), "the server does not offer it");
}

#[test]
fn after_the_tls_flag_only_an_error_is_read() {
    let requested = || {
        let mut login = Login::greeted("mysql_native_password");
        login.pass(C, &response(CLIENT | SSL, "parsec"));
        login
    };
    // Servers decide by the flag alone, so bytes that look like a response are TLS.
    assert_eq!(requested().take(S, OK_PACKET), Err(OpaqueReason::Tls));
    assert_eq!(requested().take(S, b"\xfemysql_native_password\0"), Err(OpaqueReason::Tls));
    let mut not_offered = requested();
    not_offered.pass(S, b"\xff\x57\x0c#HY000");
    assert_eq!(not_offered.events, refused(3159, AuthPlugin::Parsec));
    assert_eq!(not_offered.phase.phase(), Phase::Handshake);
}

#[test]
fn the_server_can_request_another_plugin() {
    let cases: [(&[u8], AuthPlugin); 5] = [
        (b"\xfecaching_sha2_password\0salt", AuthPlugin::CachingSha2Password),
        (b"\xfemysql_clear_password", AuthPlugin::ClearPassword),
        (b"\x02authentication_webauthn_client\0", AuthPlugin::Webauthn),
        (b"\xfemade_up\0", AuthPlugin::Other),
        (b"\xfe", AuthPlugin::OldPassword),
    ];
    for (request, plugin) in cases {
        let mut login = Login::responded("mysql_native_password");
        login.pass(S, request);
        login.pass(C, b"secret");
        login.pass(S, ERR_PACKET);
        let mut expected = vec![Event::AuthSwitch(plugin)];
        if plugin == AuthPlugin::ClearPassword {
            expected.push(Event::Hazard(HazardKind::ClearPassword));
        }
        expected.extend(refused(1045, plugin));
        assert_eq!(login.events, expected);
    }
}

#[test]
fn a_fast_authentication_needs_no_packet_of_the_client() {
    let mut fast = Login::responded("caching_sha2_password");
    fast.pass(S, b"\x01\x03");
    assert!(
        matches!(fast.take(S, OK_PACKET), Ok(Progress::Accepted { .. })),
        "without a packet of the client"
    );
    assert_eq!(fast.events, [handshake(HandshakeResult::Ok)]);
}

#[test]
fn a_full_authentication_without_tls_is_emitted() {
    let mut full = Login::responded("caching_sha2_password");
    full.pass(S, b"\x01\x04");
    full.pass(C, b"\x02");
    full.pass(S, b"\x01-----BEGIN PUBLIC KEY-----");
    full.pass(C, &[0x5a; 256]);
    assert_eq!(full.events, [Event::PlaintextFullAuth]);

    let mut by_default = Login::greeted("caching_sha2_password");
    by_default.pass(C, &response(CLIENT & !(1 << 19), ""));
    by_default.events.clear();
    by_default.pass(S, b"\x01\x04");
    assert_eq!(
        by_default.events,
        [Event::PlaintextFullAuth],
        "the server's plugin, because the client names none"
    );

    for (plugin, data) in [("parsec", &b"\x01\x04"[..]), ("caching_sha2_password", b"\x01\x04\0")] {
        let mut other = Login::responded(plugin);
        other.pass(S, data);
        assert_eq!(other.events, [], "{plugin}");
    }
}

#[test]
fn the_server_refuses_a_client_only_after_its_response() {
    // Before, an error is not about the client.
    let mut at_once = Login::greeted("mysql_native_password");
    at_once.pass(S, ERR_PACKET);
    assert_eq!(at_once.events, [Event::ServerNotice { errno: 1045 }]);
    assert_eq!((at_once.phase.phase(), at_once.phase.is_undecided()), (Phase::Handshake, true));

    let mut later = Login::responded("client_ed25519");
    later.pass(S, ERR_PACKET);
    later.pass(C, b"anything");
    later.pass(S, ERR_PACKET);
    assert_eq!(later.events, refused(1045, AuthPlugin::Ed25519), "once");
    assert_eq!((later.phase.phase(), later.phase.is_undecided()), (Phase::Authentication, false));

    let mut no_plugin = Login::greeted("");
    no_plugin.pass(C, &response(CLIENT, ""));
    no_plugin.events.clear();
    no_plugin.pass(S, ERR_PACKET);
    assert_eq!(no_plugin.events, refused(1045, AuthPlugin::None));
}

#[test]
fn an_invalid_packet_in_the_authentication_is_a_desync() {
    for bytes in [&b""[..], b"\x03", b"\xff\x15"] {
        assert_eq!(Login::responded("").take(S, bytes), Err(OpaqueReason::Desync), "{bytes:?}");
    }
}

#[test]
fn a_version_text_is_shown_with_safe_characters_only() {
    let mut login = Login::new();
    let version = [b"\x0a8.0 \"x\n".as_slice(), &[b'9'; 60], &greeting("")[7..]].concat();
    login.pass(S, &version);
    assert_eq!(login.peers, format!("server=8.0__x_{}", "9".repeat(40 - 7)));
}
