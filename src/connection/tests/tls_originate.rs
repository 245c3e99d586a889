//! TLS to the server for a client without TLS.

use std::time::Duration;

use bytes::Bytes;

use super::link::{Link, login, observe_mysql, packet};
use crate::connection::chunk::{ClientVerdict, Edit, HeldRest, Reply, ServerVerdict, TickVerdict};
use crate::event::{ClosedBy, Event, HandshakeResult, Sender, TlsResult};
use crate::mysql::wire::capability::Capabilities;
use crate::password_key::{PasswordKey, PasswordKeyRef};
use crate::proxy_protocol::{Endpoints, Format};
use crate::rules::{
    ClearCapabilities, Inspection, Need, OriginateTls, ProxyHeaderRules, ReceiveRules, Rules, SendRules,
    Untrusted,
};

pub(super) const SSL: u32 = 1 << 11;
/// `PROTOCOL_41`, `SECURE_CONNECTION` and `PLUGIN_AUTH`.
pub(super) const CLIENT: u32 = 1 << 9 | 1 << 15 | 1 << 19;
pub(super) const OK: &[u8] = b"\0\0\0\x02\0\0\0";

pub(super) fn rules() -> Rules {
    Rules { originate_tls: Some(OriginateTls::default()), ..observe_mysql() }
}

/// Greeting with an offer of TLS, and the response of a client without TLS.
fn greeting_and_response() -> [Vec<u8>; 2] {
    let [greeting, _] = login("8.4.0", CLIENT | SSL, &[]);
    let [_, response] = login("8.4.0", CLIENT, &[]);
    [greeting, response]
}

/// Host with one connection. It keeps the client's bytes that are held, and delivers them again in the next turn.
pub(super) struct Host {
    pub(super) link: Link,
    held: Vec<u8>,
    /// Bytes that the server gets without TLS.
    pub(super) clear: Vec<u8>,
    /// Bytes that the server gets in TLS. `None` until TLS starts.
    pub(super) in_tls: Option<Vec<u8>>,
    pub(super) client: Vec<u8>,
    /// Bytes for the partner.
    pub(super) handed_over: Vec<u8>,
    /// Number of turns between bytes to the server and the start of TLS.
    turns: usize,
    pub(super) is_closed: bool,
}

impl Host {
    pub(super) fn new(rules: Rules) -> Self {
        let link = Link::new(rules);
        let (held, clear, client) = (Vec::new(), Vec::new(), Vec::new());
        Self { link, held, clear, in_tls: None, client, handed_over: Vec::new(), turns: 0, is_closed: false }
    }

    pub(super) fn client(&mut self, bytes: &[u8]) {
        let offered = [&std::mem::take(&mut self.held), bytes].concat();
        let chunk = Bytes::from(offered.clone());
        let edited = |Edit { drain, prepend }: Edit| [&prepend, &offered[drain..]].concat();
        match self.link.call(|connection, out| connection.client(&chunk, false, out)) {
            ClientVerdict::Pass => self.forward(&offered),
            ClientVerdict::Edit(edit) => self.forward(&edited(edit)),
            ClientVerdict::Hold => self.held = offered,
            ClientVerdict::Close => self.is_closed = true,
            ClientVerdict::HoldRest(rest) => {
                let HeldRest { drain, send, is_due_next_turn } = *rest;
                self.forward(&send);
                self.held = offered[drain..].to_vec();
                if is_due_next_turn {
                    self.turns += 1;
                    self.client(b"");
                }
            }
            ClientVerdict::StartServerTls(edit) => {
                assert!(self.in_tls.replace(Vec::new()).is_none());
                self.forward(&edited(edit));
            }
            ClientVerdict::HandOver(_) => panic!("the second filter hands over no bytes of the client"),
            ClientVerdict::Resume(_) => panic!("the filter holds no bytes of the server"),
            ClientVerdict::Reply(reply) => {
                let Reply { edit, bytes, closes } = *reply;
                self.client.extend(bytes);
                self.forward(&edited(edit));
                self.is_closed |= closes;
            }
        }
    }

    fn forward(&mut self, bytes: &[u8]) {
        self.in_tls.as_mut().unwrap_or(&mut self.clear).extend(bytes);
    }

    pub(super) fn server(&mut self, bytes: &[u8]) {
        let chunk = Bytes::copy_from_slice(bytes);
        match self.link.call(|connection, out| connection.server(&chunk, false, out)) {
            ServerVerdict::Pass => self.client.extend(bytes),
            ServerVerdict::Edit(Edit { drain, prepend }) => {
                self.client.extend([&prepend, &bytes[drain..]].concat());
            }
            ServerVerdict::Resume(Edit { drain, prepend }) => {
                self.client.extend([&prepend, &bytes[drain..]].concat());
                self.client(b"");
            }
            ServerVerdict::HandOver(hand_over) => {
                assert_eq!(hand_over.edit, Edit { drain: bytes.len(), prepend: Vec::new() });
                self.handed_over.extend(hand_over.bytes);
            }
        }
    }

    fn results(&self) -> Vec<TlsResult> {
        let result = |event: &Event| if let Event::Tls { result, .. } = event { Some(*result) } else { None };
        self.link.events.iter().filter_map(result).collect()
    }

    pub(super) fn sends(&mut self, sender: Sender, bytes: &[u8], size: usize) {
        for chunk in bytes.chunks(size) {
            match sender {
                Sender::Client => self.client(chunk),
                Sender::Server => self.server(chunk),
            }
        }
    }
}

/// Greeting without the flag SSL.
fn without_offer(greeting: &[u8]) -> Vec<u8> {
    let [expected, _] = login("8.4.0", CLIENT, &[]);
    assert_eq!(expected.len(), greeting.len());
    expected
}

/// SSLRequest for this response, and the response with the next sequence id.
fn in_tls(response: &[u8]) -> [Vec<u8>; 2] {
    let mut request = packet(1, &response[4..36]);
    request[5] |= 0x08;
    let mut next = response.to_vec();
    (next[3], next[5]) = (2, next[5] | 0x08);
    [request, next]
}

#[test]
fn a_login_is_renumbered_however_it_is_cut() {
    let [greeting, response] = greeting_and_response();
    let [request, in_tls] = in_tls(&response);
    let switch = |id| packet(id, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    for size in 1..=greeting.len().max(response.len()) {
        let mut host = Host::new(rules());
        host.sends(Sender::Server, &greeting, size);
        assert_eq!(host.client, without_offer(&greeting), "{size}");
        host.sends(Sender::Client, &response, size);
        assert_eq!(host.clear, request, "only the SSLRequest is sent in the clear: {size}");
        assert_eq!((host.turns, host.in_tls.as_ref()), (2, Some(&in_tls)), "{size}");
        host.client.clear();
        host.sends(Sender::Server, &switch(3), size);
        assert_eq!(host.client, switch(2), "{size}");
        host.sends(Sender::Client, &packet(3, &[7; 20]), size);
        host.sends(Sender::Server, &packet(5, OK), size);
        assert_eq!(host.client, [switch(2), packet(4, OK)].concat(), "{size}");
        host.client.clear();
        host.sends(Sender::Client, &packet(0, b"\x0e"), size);
        host.sends(Sender::Server, &packet(1, OK), size);
        assert_eq!(host.client, packet(1, OK), "{size}");
        let expected = [in_tls.as_slice(), &packet(4, &[7; 20]), &packet(0, b"\x0e")].concat();
        assert_eq!(host.in_tls, Some(expected), "{size}");
        assert_eq!(host.results(), [TlsResult::Established]);
        let handshake = |result| move |event: &&Event| matches!(event, Event::Handshake { result: found, .. } if *found == result);
        assert_eq!(host.link.events.iter().filter(handshake(HandshakeResult::Ok)).count(), 1);
        assert!(!host.link.connection.is_rewritten(), "nothing is left to do");
        assert!(!host.is_closed && !host.link.events.iter().any(|event| matches!(event, Event::Opaque(_))));
    }
}

/// Key that only turns bits.
pub(super) struct Turned;

impl PasswordKey for Turned {
    fn public_pem(&self) -> &'static str {
        "PEM"
    }

    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        Some(block.iter().map(|byte| !byte).collect())
    }

    fn encrypt_for(&self, server_pem: &[u8], password: &[u8]) -> Option<Vec<u8>> {
        (server_pem == b"KEY").then(|| password.iter().map(|byte| !byte).collect())
    }
}

#[test]
fn a_password_is_encrypted_for_the_filter_and_sent_in_tls() {
    const SCRAMBLE: &[u8] = b"abcdefghijklmnopqrst";
    let [greeting, response] = greeting_and_response();
    let [_, in_tls] = in_tls(&response);
    let switch = |id| packet(id, &[b"\xfecaching_sha2_password\0", SCRAMBLE, b"\0"].concat());
    let encrypted: Vec<_> = b"secret\0".iter().zip(SCRAMBLE).map(|(byte, with)| !(byte ^ with)).collect();
    for size in [1, 3, usize::MAX] {
        let originate = OriginateTls { password_key: Some(PasswordKeyRef(&Turned)) };
        let mut host = Host::new(Rules { originate_tls: Some(originate), ..observe_mysql() });
        host.sends(Sender::Server, &greeting, size);
        host.sends(Sender::Client, &response, size);
        host.client.clear();
        host.sends(Sender::Server, &switch(3), size);
        host.sends(Sender::Client, &packet(3, &[7; 32]), size);
        host.sends(Sender::Server, &packet(5, b"\x01\x04"), size);
        host.sends(Sender::Client, &packet(5, b"\x02"), size);
        host.sends(Sender::Client, &packet(7, &encrypted), size);
        host.sends(Sender::Server, &packet(7, OK), size);
        let expected = [switch(2), packet(4, b"\x01\x04"), packet(6, b"\x01PEM"), packet(8, OK)].concat();
        assert_eq!(host.client, expected, "{size}");
        let expected = [in_tls.as_slice(), &packet(4, &[7; 32]), &packet(6, b"secret\0")].concat();
        assert_eq!(host.in_tls, Some(expected), "{size}");
        assert_eq!(host.link.counts([Event::PlaintextFullAuth]), [1]);
        assert!(!host.is_closed && !host.link.connection.is_rewritten());
    }
}

#[test]
fn a_refused_login_is_renumbered() {
    let [greeting, response] = greeting_and_response();
    let error = |id| packet(id, b"\xff\x15\x04#28000Access denied");
    let mut host = Host::new(rules());
    host.server(&greeting);
    host.client(&response);
    host.client.clear();
    host.server(&error(3));
    assert_eq!(host.client, error(2));
    assert_eq!(host.results(), [TlsResult::Established]);
}

#[test]
fn nothing_is_sent_without_tls() {
    let [offered, response] = greeting_and_response();
    let [plain, _] = login("8.4.0", CLIENT, &[]);
    let [_, with_tls] = login("8.4.0", CLIENT | SSL, &[]);
    let short = packet(1, &[0; 31]);
    for (greeting, response, result, message) in [
        (&plain, &response, TlsResult::NotOffered, "#08S01The server offers no TLS"),
        (&offered, &with_tls, TlsResult::ClientTls, "#08S01Connect without TLS"),
        (&offered, &short, TlsResult::Refused, "#08S01A client must use protocol 4.1"),
    ] {
        for size in [1, usize::MAX] {
            let mut host = Host::new(rules());
            host.server(greeting);
            host.client.clear();
            host.sends(Sender::Client, response, size);
            let error = String::from_utf8_lossy(&host.client).into_owned();
            assert_eq!(
                &host.client[3..7],
                [2, 0xff, 0x13, 0x04],
                "an error with the next sequence id: {error}"
            );
            assert_eq!(usize::from(host.client[0]), host.client.len() - 4);
            assert!(error.contains(message), "{error}");
            assert!(host.is_closed && host.clear.is_empty() && host.in_tls.is_none());
            assert_eq!(host.results(), [result]);
            host.server(&packet(2, OK));
            assert_eq!(error, String::from_utf8_lossy(&host.client), "nothing follows the error");
            let now = host.link.now;
            assert!(host.link.connection.is_due(now));
            assert_eq!(host.link.tick(now), TickVerdict::Close);
        }
    }
}

#[test]
fn a_client_that_speaks_first_is_closed() {
    let mut host = Host::new(rules());
    host.client(b"\x16\x03\x01");
    assert!(host.is_closed && host.clear.is_empty());
    assert_eq!(host.results(), [TlsResult::Refused]);
}

#[test]
fn bytes_that_the_server_sends_before_tls_do_not_reach_the_client() {
    let [greeting, response] = greeting_and_response();
    // A second packet behind the greeting, in one chunk and in two.
    for cut in [0, greeting.len()] {
        let mut host = Host::new(rules());
        let (first, rest) = greeting.split_at(cut);
        host.server(first);
        host.client.clear();
        host.server(&[rest, &packet(1, OK)].concat());
        assert_eq!(host.client, b"");
        assert_eq!(host.results(), [TlsResult::Refused]);
        host.client(&response);
        assert!(host.is_closed && host.clear.is_empty());
    }
    // A packet between the SSLRequest and TLS.
    let mut link = Host::new(rules());
    link.server(&greeting);
    let chunk = Bytes::from(response.clone());
    let verdict = link.link.call(|connection, out| connection.client(&chunk, false, out));
    assert!(matches!(verdict, ClientVerdict::HoldRest(_)), "{verdict:?}");
    link.client.clear();
    link.server(&packet(2, OK));
    assert_eq!(link.client, b"");
    let verdict = link.link.call(|connection, out| connection.client(&chunk, false, out));
    assert_eq!(verdict, ClientVerdict::Close);
    assert_eq!(link.results(), [TlsResult::Refused]);
}

#[test]
fn an_error_of_the_server_before_tls_reaches_the_client() {
    let error = packet(0, b"\xff\x10\x04Too many connections");
    let mut host = Host::new(rules());
    host.server(&error);
    assert_eq!(host.client, error);
    host.client(b"more");
    assert!(host.is_closed && host.clear.is_empty());
    assert_eq!(host.results(), []);

    let [greeting, response] = greeting_and_response();
    let late = packet(1, b"\xff\x87\x04#08S01Got timeout reading communication packets");
    let mut host = Host::new(rules());
    host.server(&greeting);
    host.client.clear();
    host.server(&late);
    assert_eq!(host.client, late);
    host.client(&response);
    assert!(host.is_closed && host.clear.is_empty());
}

#[test]
fn a_violation_before_the_decision_ends_the_connection() {
    let [greeting, response] = greeting_and_response();
    let mut host = Host::new(rules());
    host.server(&greeting);
    host.client(&response);
    // A second packet of the client without one of the server.
    host.client(&packet(3, b"second"));
    assert!(host.is_closed);
    let mut other = Host::new(rules());
    other.server(b"\x05\0\0\0HELLO");
    other.client(&response);
    assert!(other.is_closed && other.clear.is_empty());
}

#[test]
fn a_connection_that_ends_before_tls_is_established_has_failed() {
    let [greeting, response] = greeting_and_response();
    let mut host = Host::new(rules());
    host.server(&greeting);
    host.client(&response);
    host.link.close(ClosedBy::Proxy);
    assert_eq!(host.results(), [TlsResult::Failed]);
}

#[test]
fn tls_stays_in_force_without_inspection_and_without_other_rules() {
    let [greeting, response] = greeting_and_response();
    let [request, in_tls] = in_tls(&response);
    let without = Rules { inspection: Inspection::Nothing, ..rules() };
    for (rules, disables) in [(without, false), (rules(), true)] {
        let mut host = Host::new(rules);
        host.server(&greeting);
        if disables {
            let held = host.link.call(|connection, out| connection.disable_rewriting(out));
            assert!(!held);
        }
        host.client(&response);
        assert_eq!((&host.clear, host.in_tls.as_ref()), (&request, Some(&in_tls)));
        host.client.clear();
        host.server(&packet(3, OK));
        assert_eq!(host.client, packet(2, OK));
    }
}

/// A client that sends its PROXY header together with its handshake response.
#[test]
fn a_header_is_removed_before_the_response_is_held() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";
    let [greeting, response] = greeting_and_response();
    let [request, in_tls] = in_tls(&response);
    let receive = ReceiveRules {
        need: Need::Optional,
        trusted: true,
        untrusted: Untrusted::Close,
        timeout: Duration::from_secs(3),
        max_header_bytes: 536,
    };
    let send = SendRules { format: Format::V1, only_unless_received: false, endpoints: None };
    for (send, sent) in [(None, b"".as_slice()), (Some(send), HEADER)] {
        for first in [HEADER.len(), HEADER.len() + 1, HEADER.len() + 20, HEADER.len() + response.len()] {
            let proxy_header = Some(ProxyHeaderRules { receive: Some(receive), send });
            let mut host = Host::new(Rules { proxy_header, ..rules() });
            host.server(&greeting);
            let bytes = [HEADER, &response].concat();
            host.client(&bytes[..first]);
            host.client(&bytes[first..]);
            assert_eq!(host.clear, [sent, &request].concat(), "{first}");
            assert_eq!(host.in_tls.as_ref(), Some(&in_tls), "{first}");
            host.server(&packet(3, OK));
            assert_eq!(host.client.last_chunk(), packet(2, OK).last_chunk::<11>(), "{first}");
            assert!(!host.is_closed, "{first}");
        }
    }
}

#[test]
fn other_stages_work_beside_it() {
    const HEADER: &[u8] = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n";
    let [greeting, response] = greeting_and_response();
    let [request, in_tls] = in_tls(&response);
    let endpoints =
        Endpoints { source: "10.0.0.1:1".parse().unwrap(), destination: "10.0.0.2:2".parse().unwrap() };
    let send = SendRules { format: Format::V1, only_unless_received: false, endpoints: Some(endpoints) };
    let rules = Rules {
        proxy_header: Some(ProxyHeaderRules { receive: None, send: Some(send) }),
        clear_capabilities: ClearCapabilities { compress: true, ..ClearCapabilities::default() },
        block_local_infile: true,
        ..rules()
    };
    let compress = Capabilities::COMPRESS.split().0;
    let [with_compression, _] = login("8.4.0", CLIENT | SSL | compress, &[]);
    let mut host = Host::new(rules);
    host.server(&with_compression);
    assert_eq!(host.client, without_offer(&greeting));
    host.client(&response);
    assert_eq!(host.clear, [HEADER, &request].concat(), "the PROXY header precedes everything");
    host.server(&packet(3, OK));
    assert_eq!(host.in_tls, Some(in_tls));
    assert!(!host.is_closed);
    assert_eq!(host.link.counts([Event::ProxyHeaderSent(Format::V1)]), [1]);
}
