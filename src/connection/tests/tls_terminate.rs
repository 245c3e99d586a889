//! A client's TLS that ends in the proxy: the filter of the first listener, and its partner behind the end of TLS.

use bytes::Bytes;

use super::link::{login, packet};
use super::tls_originate::{CLIENT, Host, OK, SSL, rules as originate};
use crate::connection::chunk::{ClientVerdict, HandOver, Reply, ServerVerdict, TickVerdict};
use crate::connection::clear_start::ClearStart;
use crate::event::{ClosedBy, Event, HandshakeResult, Sender, TlsResult, TlsSide};
use crate::rules::{ClearCapabilities, Inspection, Rules};

fn rules() -> Rules {
    Rules { terminate_tls: true, ..originate() }
}

/// Greeting with an offer of TLS, SSLRequest, and the response of a client with TLS.
fn with_tls() -> [Vec<u8>; 3] {
    let [greeting, mut response] = login("8.4.0", CLIENT | SSL, &[]);
    response[3] = 2;
    let request = packet(1, &response[4..36]);
    [greeting, request, response]
}

/// Both filters of one connection. TLS between them changes no byte here.
struct Pair {
    start: ClearStart,
    start_events: Vec<Event>,
    held: Vec<u8>,
    second: Host,
    /// Bytes that the client gets without TLS.
    clear: Vec<u8>,
    is_closed: bool,
}

impl Pair {
    fn new(rules: Rules) -> Self {
        let (start, start_events, second) = (ClearStart::default(), Vec::new(), Host::new(rules));
        Self { start, start_events, held: Vec::new(), second, clear: Vec::new(), is_closed: false }
    }

    fn client(&mut self, bytes: &[u8]) {
        let offered = [&std::mem::take(&mut self.held), bytes].concat();
        let chunk = Bytes::from(offered.clone());
        match self.start.client(&chunk, false, &mut self.start_events) {
            ClientVerdict::Pass => self.second.client(&offered),
            ClientVerdict::Hold => self.held = offered,
            ClientVerdict::Close => self.is_closed = true,
            ClientVerdict::HandOver(hand_over) => {
                let HandOver { edit, bytes } = *hand_over;
                assert_eq!(bytes, offered[..edit.drain]);
                self.second.link.call(|connection, _| connection.tls_requested());
                self.second.client(&offered[edit.drain..]);
            }
            ClientVerdict::Reply(reply) => {
                let Reply { edit, bytes, closes } = *reply;
                assert_eq!((edit.drain, edit.prepend), (offered.len(), Vec::new()));
                self.clear.extend(bytes);
                self.is_closed |= closes;
            }
            other => panic!("{other:?}"),
        }
    }

    fn server(&mut self, bytes: &[u8]) {
        self.second.server(bytes);
        let handed_over = std::mem::take(&mut self.second.handed_over);
        if !handed_over.is_empty() && self.start.handed_over() {
            self.clear.extend(handed_over);
        }
    }

    fn sends(&mut self, sender: Sender, bytes: &[u8], size: usize) {
        for chunk in bytes.chunks(size) {
            match sender {
                Sender::Client => self.client(chunk),
                Sender::Server => self.server(chunk),
            }
        }
    }

    /// Results of TLS on this side.
    fn results(&self, on: TlsSide) -> Vec<TlsResult> {
        let events = self.start_events.iter().chain(&self.second.link.events);
        let result = |event: &Event| match event {
            Event::Tls { side, result } if *side == on => Some(*result),
            _ => None,
        };
        events.filter_map(result).collect()
    }
}

#[test]
fn a_login_passes_however_it_is_cut() {
    let [greeting, request, response] = with_tls();
    let switch = packet(3, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    for size in 1..=greeting.len().max(request.len() + response.len()) {
        let mut pair = Pair::new(rules());
        pair.sends(Sender::Server, &greeting, size);
        assert_eq!(pair.clear, greeting, "the greeting arrives without TLS: {size}");
        // The client does not wait between its SSLRequest and TLS.
        pair.sends(Sender::Client, &[request.as_slice(), &response].concat(), size);
        assert_eq!(pair.second.clear, request, "only the SSLRequest is sent in the clear: {size}");
        assert_eq!(pair.second.in_tls.as_ref(), Some(&response), "{size}");
        pair.sends(Sender::Server, &switch, size);
        pair.sends(Sender::Client, &packet(4, &[7; 20]), size);
        pair.sends(Sender::Server, &packet(5, OK), size);
        assert_eq!(pair.second.client, [switch.clone(), packet(5, OK)].concat(), "{size}");
        pair.sends(Sender::Client, &packet(0, b"\x0e"), size);
        pair.sends(Sender::Server, &packet(1, OK), size);
        let expected = [response.as_slice(), &packet(4, &[7; 20]), &packet(0, b"\x0e")].concat();
        assert_eq!(pair.second.in_tls, Some(expected), "{size}");
        assert_eq!(pair.clear, greeting);
        for side in [TlsSide::Downstream, TlsSide::Upstream] {
            assert_eq!(pair.results(side), [TlsResult::Established], "{size}");
        }
        let link = &pair.second.link;
        let handshakes = link
            .events
            .iter()
            .filter(|event| matches!(event, Event::Handshake { result: HandshakeResult::Ok, .. }));
        assert_eq!(handshakes.count(), 1);
        assert!(!link.connection.is_rewritten(), "nothing is left to do");
        assert!(!link.events.iter().any(|event| matches!(event, Event::Opaque(_) | Event::Hazard(_))));
        assert!(!pair.is_closed && !pair.second.is_closed);
    }
}

#[test]
fn a_password_in_tls_is_no_hazard() {
    let [greeting, request, response] = with_tls();
    let mut pair = Pair::new(rules());
    pair.server(&greeting);
    pair.client(&[request.as_slice(), &response].concat());
    pair.server(&packet(3, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"));
    pair.client(&packet(4, &[7; 32]));
    pair.server(&packet(5, b"\x01\x04"));
    pair.client(&packet(6, b"secret\0"));
    pair.server(&packet(7, OK));
    let expected = [response.as_slice(), &packet(4, &[7; 32]), &packet(6, b"secret\0")].concat();
    assert_eq!(pair.second.in_tls, Some(expected));
    let exposed = |event: &&Event| matches!(event, Event::Hazard(_) | Event::PlaintextFullAuth);
    assert_eq!(pair.second.link.events.iter().find(exposed), None);
}

#[test]
fn a_client_without_tls_is_refused() {
    let [greeting, plain] = login("8.4.0", CLIENT, &[]);
    for size in [1, 6, usize::MAX] {
        let mut pair = Pair::new(rules());
        pair.server(&greeting);
        pair.clear.clear();
        let chunks: Vec<_> = plain.chunks(size).collect();
        for chunk in chunks {
            if !pair.is_closed {
                pair.client(chunk);
            }
        }
        assert_eq!(&pair.clear[3..13], b"\x02\xff\x57\x0c#HY000", "{size}");
        assert!(pair.is_closed && pair.second.clear.is_empty(), "the server gets nothing");
        assert_eq!(pair.results(TlsSide::Downstream), [TlsResult::NotRequested]);
    }
}

#[test]
fn a_client_that_breaks_the_protocol_before_tls_is_refused() {
    let [greeting, request, response] = with_tls();
    let altered = |at: usize, byte: u8| {
        let mut altered = request.clone();
        altered[at] = byte;
        altered
    };
    // Not an SSLRequest: a longer packet with CLIENT_SSL, another sequence id, another length, a ClientHello.
    for first in [response.clone(), altered(3, 2), altered(0, 33), b"\x16\x03\x01\0\xff\xff".to_vec()] {
        let mut pair = Pair::new(rules());
        pair.server(&greeting);
        pair.client(&first);
        assert!(pair.is_closed && pair.second.clear.is_empty() && pair.start.is_refused(), "{first:?}");
        assert_eq!(pair.results(TlsSide::Downstream), [TlsResult::Refused]);
    }
    let mut early = Pair::new(rules());
    early.client(&request);
    assert!(early.is_closed);
    assert_eq!(early.results(TlsSide::Downstream), [TlsResult::Refused]);
}

/// What follows an SSLRequest belongs to TLS. Commands there reach neither the inspector nor the server.
#[test]
fn bytes_after_the_request_are_handed_to_tls() {
    let [greeting, request, _] = with_tls();
    let mut start = ClearStart::default();
    assert!(start.handed_over());
    drop(greeting);
    let injected = [request.as_slice(), &packet(0, b"\x03DROP TABLE t")].concat();
    let mut events = Vec::new();
    let verdict = start.client(&Bytes::from(injected), false, &mut events);
    let ClientVerdict::HandOver(hand_over) = verdict else { panic!("{verdict:?}") };
    assert_eq!((hand_over.edit.drain, &hand_over.bytes), (36, &request), "the rest goes to the end of TLS");
    assert!(!start.handed_over(), "nothing of the server gets between the client's TLS");
    assert_eq!(events, []);
}

#[test]
fn a_response_that_follows_no_request_is_refused() {
    let [greeting, _, response] = with_tls();
    let without_flag = {
        let mut response = response.clone();
        response[5] &= !0x08;
        response
    };
    let wrong_id = {
        let mut response = response.clone();
        response[3] = 1;
        response
    };
    for (requested, bytes) in [(false, response), (true, without_flag), (true, wrong_id)] {
        let mut second = Host::new(rules());
        second.server(&greeting);
        if requested {
            second.link.call(|connection, _| connection.tls_requested());
        }
        second.client(&bytes);
        assert!(second.is_closed && second.clear.is_empty() && second.in_tls.is_none());
        let refused = Event::Tls { side: TlsSide::Downstream, result: TlsResult::Refused };
        assert_eq!(second.link.counts([refused]), [1]);
        let now = second.link.now;
        assert_eq!(second.link.tick(now), TickVerdict::Close);
    }
}

#[test]
fn a_server_without_tls_is_refused_with_the_clients_sequence_id() {
    let [offered, request, response] = with_tls();
    let [plain, _] = login("8.4.0", CLIENT, &[]);
    let mut pair = Pair::new(rules());
    pair.server(&plain);
    assert_eq!(pair.clear, offered, "the filter offers TLS itself");
    pair.client(&[request.as_slice(), &response].concat());
    assert_eq!(&pair.second.client[3..7], [3, 0xff, 0x13, 0x04]);
    assert!(pair.second.is_closed && pair.second.clear.is_empty());
    assert_eq!(pair.results(TlsSide::Upstream), [TlsResult::NotOffered]);
    assert_eq!(pair.results(TlsSide::Downstream), [TlsResult::Established]);
}

#[test]
fn an_error_of_the_server_before_tls_reaches_the_client() {
    let error = packet(0, b"\xff\x10\x04Too many connections");
    let mut pair = Pair::new(rules());
    pair.server(&error);
    assert_eq!((&pair.clear, pair.second.client.len()), (&error, 0));
    let [greeting, ..] = with_tls();
    let late = packet(1, b"\xff\x87\x04#08S01Got timeout reading communication packets");
    let mut pair = Pair::new(rules());
    pair.server(&greeting);
    pair.server(&late);
    assert_eq!(pair.clear, [greeting, late].concat());
}

#[test]
fn a_client_that_leaves_before_tls_has_failed() {
    let [greeting, request, _] = with_tls();
    for (requests, expected) in [(true, vec![TlsResult::Failed]), (false, vec![])] {
        let mut pair = Pair::new(rules());
        pair.server(&greeting);
        if requests {
            pair.client(&request);
        }
        pair.second.link.close(ClosedBy::Client);
        assert_eq!(pair.results(TlsSide::Downstream), expected);
    }
}

/// A server of another protocol, and a client that breaks the protocol too.
#[test]
fn a_connection_has_one_result() {
    let mut pair = Pair::new(rules());
    pair.server(b"\x05\0\0\0HELLO");
    pair.client(b"\x05\0\0\0HELLO");
    assert!(pair.is_closed && pair.second.clear.is_empty());
    assert_eq!(pair.results(TlsSide::Downstream), [TlsResult::Refused]);
}

/// The first listener connects to a server, not to the second listener.
#[test]
fn a_greeting_that_no_partner_hands_over_is_dropped() {
    let [greeting, request, _] = with_tls();
    let mut start = ClearStart::default();
    let mut events = Vec::new();
    let ServerVerdict::Edit(edit) = start.server(&Bytes::from(greeting.clone()), &mut events) else {
        panic!("dropped")
    };
    assert_eq!((edit.drain, edit.prepend.len()), (greeting.len(), 0));
    assert!(start.is_refused());
    assert_eq!(events, [Event::Tls { side: TlsSide::Downstream, result: TlsResult::Failed }]);
    assert_eq!(start.client(&Bytes::from(request), false, &mut events), ClientVerdict::Close);
}

#[test]
fn tls_stays_in_force_without_inspection_and_other_stages_work_beside_it() {
    let [_, request, response] = with_tls();
    let [compressing, _] = login("8.4.0", CLIENT | SSL | 0x20, &[]);
    let [greeting, ..] = with_tls();
    let without = Rules { inspection: Inspection::Nothing, ..rules() };
    let clear_capabilities = ClearCapabilities { compress: true, ..ClearCapabilities::default() };
    let beside = Rules { clear_capabilities, block_local_infile: true, ..rules() };
    for (rules, sent, disables) in
        [(without, &greeting, false), (rules(), &greeting, true), (beside, &compressing, false)]
    {
        let mut pair = Pair::new(rules);
        pair.server(sent);
        assert_eq!(pair.clear, greeting);
        if disables {
            pair.second.link.call(|connection, out| connection.disable_rewriting(out));
        }
        pair.client(&[request.as_slice(), &response].concat());
        assert_eq!((&pair.second.clear, pair.second.in_tls.as_ref()), (&request, Some(&response)));
        pair.server(&packet(3, OK));
        assert_eq!(pair.second.client, packet(3, OK));
    }
}
