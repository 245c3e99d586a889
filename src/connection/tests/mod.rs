//! Connections as a whole: the bytes that are read and the events that are emitted.

mod block_local_infile;
mod hold_split_eof;
mod link;
mod password_guard;
mod proxy_header;
mod tls_originate;
mod tls_terminate;

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::connection::tests::link::{Link, observe_mysql, packet};
use crate::event::{ClientFirst, Event, HandshakeResult, Phase, Protocol, ServerFirst};
use crate::rules::{Expected, Inspection};

/// Connection whose reads are counted.
struct Watched(Link);

/// Chunk that counts its reads, or refuses them.
struct Counted<'a> {
    bytes: &'a [u8],
    reads: &'a Cell<usize>,
    refuses: bool,
}

impl Chunk for Counted<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        self.reads.set(self.reads.get() + 1);
        let end = start.saturating_add(max).min(self.bytes.len());
        (!self.refuses).then(|| Bytes::copy_from_slice(&self.bytes[start..end]))
    }
}

impl Watched {
    fn new(inspection: Inspection) -> Self {
        Self::expecting(inspection, Expected::Mysql)
    }

    fn expecting(inspection: Inspection, expected: Expected) -> Self {
        let stall = Duration::from_secs(10);
        Self(Link::new(Rules { inspection, expected, stall, ..observe_mysql() }))
    }

    fn take(&mut self, sender: Sender, bytes: &[u8], refuses: bool) -> usize {
        let reads = Cell::new(0);
        self.0.now = Timestamp::from_nanos(1_000_001);
        let chunk = Counted { bytes, reads: &reads, refuses };
        self.0.call(|connection, out| match sender {
            Sender::Client => assert_eq!(connection.client(&chunk, false, out), ClientVerdict::Pass),
            Sender::Server => assert_eq!(connection.server(&chunk, false, out), ServerVerdict::Pass),
        });
        reads.get()
    }

    /// Takes bytes of the client. Returns the number of reads.
    fn client(&mut self, bytes: &[u8]) -> usize {
        self.take(Sender::Client, bytes, false)
    }

    fn server(&mut self, bytes: &[u8]) -> usize {
        self.take(Sender::Server, bytes, false)
    }

    fn end(&mut self, sender: Sender) {
        self.0.take(sender, b"", true);
    }

    fn stop_inspecting(&mut self) {
        self.0.call(|connection, out| connection.stop_inspecting(out));
    }

    fn tick(&mut self, after: Duration) {
        let now = Timestamp::from_nanos(1 + after.as_nanos() as u64);
        let before = self.0.events.len();
        let due = self.0.connection.is_due(now);
        assert_eq!(self.0.tick(now), TickVerdict::Continue);
        assert_eq!(due, self.0.events.len() > before, "a tick that is not due emits nothing");
    }

    fn close(&mut self) {
        self.0.close(ClosedBy::Proxy);
    }

    /// Events since the last call, without those that count bytes and packets.
    fn emitted(&mut self) -> Vec<Event> {
        let counted = |event: &Event| matches!(event, Event::Bytes { .. } | Event::Packets { .. });
        std::mem::take(&mut self.0.events).into_iter().filter(|event| !counted(event)).collect()
    }
}

fn recognised(protocol: Protocol, waited_as: Option<Expected>) -> Event {
    Event::Recognised { protocol, waited_as }
}

fn closed(protocol: Protocol, phase: Phase, by: ClosedBy) -> Event {
    Event::Closed { protocol, phase, by }
}

/// Greeting of a server that offers TLS.
fn greeting() -> Vec<u8> {
    let mut payload =
        b"\x0a8.0.41\0\x07\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0\xff\xff\xff\x02\0\xff\xdf\x15".to_vec();
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(b"123456789012\0mysql_native_password\0");
    packet(0, &payload)
}

/// Handshake response of `len` bytes that requests TLS.
fn response(len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[..4].copy_from_slice(&0x0001_0a01_u32.to_le_bytes());
    packet(1, &payload)
}

#[test]
fn a_silent_connection_is_waiting_once_and_ends_as_the_expected_protocol() {
    let mut silent = Watched::new(Inspection::Full);
    silent.tick(Duration::ZERO);
    silent.tick(Duration::ZERO);
    assert_eq!(silent.emitted(), [Event::Waiting(Expected::Mysql)]);
    silent.close();
    let expected = [
        recognised(Protocol::Mysql, Some(Expected::Mysql)),
        closed(Protocol::Mysql, Phase::Greeting, ClosedBy::Proxy),
    ];
    assert_eq!(silent.emitted(), expected);
}

#[test]
fn an_undecided_connection_is_decided_at_its_end() {
    let mut client = Watched::new(Inspection::Full);
    client.client(b"PRO");
    assert_eq!(client.emitted(), []);
    client.close();
    let expected = [
        recognised(Protocol::ClientFirst, None),
        Event::ClientFirst(ClientFirst::Other),
        closed(Protocol::ClientFirst, Phase::Greeting, ClosedBy::Proxy),
    ];
    assert_eq!(client.emitted(), expected);
}

#[test]
fn an_uninspected_connection_is_opaque_from_its_first_callback_on() {
    let expected = [recognised(Protocol::Mysql, None), Event::Opaque(OpaqueReason::Configured)];
    let mut data = Watched::new(Inspection::Nothing);
    assert_eq!(data.server(&greeting()), 0, "no read");
    assert_eq!(data.emitted(), expected);
    let mut tick = Watched::new(Inspection::Nothing);
    tick.tick(Duration::ZERO);
    assert_eq!(tick.emitted(), expected);
    let mut close = Watched::new(Inspection::Nothing);
    close.close();
    assert_eq!(close.emitted()[..2], expected);
}

#[test]
fn inspection_of_the_first_bytes_ends_after_one_read() {
    let mut mysql = Watched::new(Inspection::FirstBytes);
    assert_eq!(mysql.server(&greeting()), 1);
    assert_eq!(mysql.server(&greeting()), 0);
    let expected = [
        recognised(Protocol::Mysql, None),
        Event::ServerFirst(ServerFirst::Mysql),
        Event::Opaque(OpaqueReason::Configured),
    ];
    assert_eq!(mysql.emitted(), expected);
}

#[test]
fn a_greeting_timeout_is_emitted_once_if_a_server_first_protocol_is_expected() {
    for expected in Expected::ALL {
        let mut silent = Watched::expecting(Inspection::Full, *expected);
        silent.tick(Duration::from_millis(4999));
        silent.emitted();
        silent.tick(Duration::from_secs(5));
        let server_first = matches!(expected, Expected::Mysql | Expected::ServerFirst);
        assert_eq!(silent.emitted(), vec![Event::GreetingTimeout; usize::from(server_first)], "{expected:?}");
        silent.tick(Duration::from_secs(50));
        assert_eq!(silent.emitted(), []);
    }
}

#[test]
fn the_end_of_inspection_is_emitted_once_before_and_after_the_greeting() {
    let mut mysql = Watched::new(Inspection::Full);
    mysql.server(&greeting());
    mysql.emitted();
    for _ in 0..2 {
        mysql.stop_inspecting();
    }
    assert_eq!(mysql.emitted(), [Event::Opaque(OpaqueReason::Configured)]);
    assert_eq!(mysql.client(&response(32)), 0, "no read");
    let mut silent = Watched::new(Inspection::Full);
    silent.stop_inspecting();
    silent.tick(Duration::from_secs(50));
    assert_eq!(
        silent.emitted(),
        [recognised(Protocol::Mysql, None), Event::Opaque(OpaqueReason::Configured)]
    );
}

#[test]
fn the_peer_whose_stream_ends_first_has_closed_the_connection() {
    for (ends, by) in [
        (vec![], ClosedBy::Proxy),
        (vec![Sender::Client, Sender::Server], ClosedBy::Client),
        (vec![Sender::Server, Sender::Client], ClosedBy::Server),
    ] {
        let mut watched = Watched::new(Inspection::Full);
        ends.into_iter().for_each(|sender| watched.end(sender));
        watched.close();
        assert_eq!(watched.emitted().last(), Some(&closed(Protocol::Mysql, Phase::Greeting, by)));
    }
}

/// Servers use the flag and not the length to decide if TLS begins. The byte after the packet shows if it does.
#[test]
fn the_byte_after_the_ssl_request_shows_tls() {
    let mut long = response(1000);
    long[700..].fill(0x16);
    for cut in [600, 700, 1003, 1004] {
        let mut watched = Watched::new(Inspection::Full);
        watched.server(&greeting());
        watched.emitted();
        watched.client(&long[..cut]);
        watched.client(&long[cut..]);
        assert_eq!(watched.emitted(), [], "cut at {cut}");
        // OpenSSL also takes a ClientHello in the framing of SSL 2, which begins with 0x80.
        watched.client(&[0x80]);
        let unseen = Event::Handshake { result: HandshakeResult::Tls, duration: None };
        assert_eq!(watched.emitted(), [unseen, Event::Opaque(OpaqueReason::Tls)], "cut at {cut}");
    }
    let mut tls = Watched::new(Inspection::Full);
    tls.server(&greeting());
    tls.emitted();
    tls.client(&[response(32), b"\x16\x03\x01".to_vec()].concat());
    let unseen = Event::Handshake { result: HandshakeResult::Tls, duration: None };
    assert_eq!(tls.emitted(), [unseen, Event::Opaque(OpaqueReason::Tls)]);
}

#[test]
fn payload_that_is_not_inspected_is_not_read() {
    let mut watched = Watched::new(Inspection::Full);
    watched.server(&greeting());
    let long = packet(1, &[0; 300_000]);
    assert_eq!(watched.client(&long[..100_000]), 1, "16 KiB show that the rest is payload");
    assert_eq!(watched.client(&long[100_000..]), 0);
    assert_eq!(watched.client(&packet(3, &[0; 10])), 1);
}

#[test]
fn a_chunk_that_cannot_be_read_ends_inspection() {
    let mut watched = Watched::new(Inspection::Full);
    assert_eq!(watched.take(Sender::Server, b"x", true), 1);
    assert_eq!(watched.emitted(), [Event::Opaque(OpaqueReason::Desync)]);
    assert_eq!(watched.server(&greeting()), 0);
    watched.close();
    let expected =
        [recognised(Protocol::Mysql, None), closed(Protocol::Mysql, Phase::Opaque, ClosedBy::Proxy)];
    assert_eq!(watched.emitted(), expected);
}

/// No rule receives the header, so it is forwarded to a server that receives it. The session does not violate the protocol.
#[test]
fn a_forwarded_proxy_header_is_not_a_desync() {
    let header = [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], &response(32)].concat();
    for cut in 1..header.len() {
        let mut watched = Watched::new(Inspection::Full);
        watched.server(&greeting());
        watched.emitted();
        watched.client(&header[..cut]);
        watched.client(&header[cut..]);
        watched.server(&packet(2, b"\0\0\0\x02\0\0\0"));
        assert_eq!(watched.emitted(), [Event::Opaque(OpaqueReason::NotMysql)], "cut at {cut}");
        assert!(watched.0.details.desync.is_none());
    }
}
