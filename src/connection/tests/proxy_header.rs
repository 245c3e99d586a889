//! PROXY headers, with the inspector after the stages.

use std::time::Duration;

use bytes::Bytes;

use super::link::{Link, observe_mysql};
use crate::clock::Timestamp;
use crate::connection::chunk::{Chunk, ClientVerdict, TickVerdict};
use crate::event::refusal::RefusalReason;
use crate::event::{ClosedBy, Event, HeaderResult, Sender};
use crate::proxy_protocol::{Endpoints, Format, encode};
use crate::rules::{Expected, Need, ProxyHeaderRules, ReceiveRules, Rules, SendRules, Untrusted};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x0c\xea";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// Handshake response of 0x50 bytes: its first byte is `P`.
const RESPONSE: &[u8] = &{
    let mut packet = [0; 0x54];
    (packet[0], packet[3], packet[4], packet[5]) = (0x50, 1, 0x85, 0xa6);
    packet
};

const OFF: ProxyHeaderRules = ProxyHeaderRules { receive: None, send: None };
const OPTIONAL: ReceiveRules = ReceiveRules {
    need: Need::Optional,
    trusted: true,
    untrusted: Untrusted::Close,
    timeout: Duration::from_secs(3),
    max_header_bytes: 536,
};
const REQUIRED: ReceiveRules = ReceiveRules { need: Need::Required, ..OPTIONAL };
const LATE: ReceiveRules = ReceiveRules { need: Need::BeforeConnect, ..OPTIONAL };

fn receiving(receive: ReceiveRules) -> ProxyHeaderRules {
    ProxyHeaderRules { receive: Some(receive), ..OFF }
}

fn untrusted(receive: ReceiveRules, untrusted: Untrusted) -> ProxyHeaderRules {
    receiving(ReceiveRules { trusted: false, untrusted, ..receive })
}

fn send(format: Format) -> SendRules {
    let endpoints = Endpoints {
        source: "198.51.100.1:5000".parse().unwrap(),
        destination: "198.51.100.2:3306".parse().unwrap(),
    };
    SendRules { format, only_unless_received: false, endpoints: Some(endpoints) }
}

/// Connection, and a host that keeps held bytes.
struct Host {
    link: Link,
    held: Vec<u8>,
    /// Bytes that have reached the server.
    server: Vec<u8>,
    closed: bool,
}

impl Host {
    fn new(rules: ProxyHeaderRules) -> Self {
        Self::expecting(Expected::Mysql, rules)
    }

    fn expecting(expected: Expected, rules: ProxyHeaderRules) -> Self {
        let link = Link::new(Rules { expected, proxy_header: Some(rules), ..observe_mysql() });
        Self { link, held: Vec::new(), server: Vec::new(), closed: false }
    }

    fn send(&mut self, bytes: &[u8], end_stream: bool) -> ClientVerdict {
        self.held.extend(bytes);
        let all = Bytes::copy_from_slice(&self.held);
        let verdict = self.link.call(|connection, out| connection.client(&all, end_stream, out));
        match &verdict {
            ClientVerdict::Hold => return verdict,
            ClientVerdict::Pass => self.server.extend(all),
            ClientVerdict::Edit(edit) => {
                self.server.extend(&edit.prepend);
                self.server.extend(&all[edit.drain..]);
            }
            ClientVerdict::Close => self.closed = true,
            other => panic!("{other:?}"),
        }
        self.held.clear();
        verdict
    }

    fn client(&mut self, bytes: &[u8]) -> ClientVerdict {
        self.send(bytes, false)
    }

    fn set_time(&mut self, millis: u64) {
        self.link.now = Timestamp::from_nanos(1 + millis * 1_000_000);
    }

    fn tick_at(&mut self, millis: u64) -> TickVerdict {
        self.set_time(millis);
        self.link.tick(self.link.now)
    }

    fn disable(&mut self) -> bool {
        self.link.call(|connection, out| connection.disable_rewriting(out))
    }

    /// Headers that were counted.
    fn counts(&self) -> Vec<(Option<Format>, HeaderResult)> {
        let of_headers = self.link.events.iter().filter_map(|event| match event {
            Event::ProxyHeader { format, result } => Some((*format, *result)),
            _ => None,
        });
        of_headers.collect()
    }

    fn bytes(&self) -> u64 {
        let sum = self.link.events.iter().map(|event| match event {
            Event::Bytes { sender: Sender::Client, count } => *count,
            _ => 0,
        });
        sum.sum()
    }

    fn refusal_reason(&mut self) -> Option<RefusalReason> {
        self.link.details.refusal.take().map(|refusal| refusal.why)
    }
}

const STRIPPED: HeaderResult = HeaderResult::Stripped;

/// Cases: rules, first bytes, true if the rest reaches the server, and the headers that are counted.
#[test]
fn every_case_of_the_decision_table_holds_however_the_bytes_are_cut() {
    use HeaderResult::{Malformed, Missing, Untrusted as NotTrusted};
    let (close, strip) = (Untrusted::Close, Untrusted::Strip);
    let bad = b"PROXY TCP5 ".as_slice();
    let (v1, v2) = (Some(Format::V1), Some(Format::V2));
    let send_only = ProxyHeaderRules { send: Some(send(Format::V1)), ..OFF };
    let cases = [
        (receiving(OPTIONAL), V1, true, vec![(v1, STRIPPED)]),
        (receiving(OPTIONAL), V2, true, vec![(v2, STRIPPED)]),
        (receiving(OPTIONAL), LOCAL, true, vec![(v2, STRIPPED)]),
        (receiving(OPTIONAL), b"", true, vec![]),
        (receiving(OPTIONAL), bad, false, vec![(v1, Malformed)]),
        (receiving(REQUIRED), V1, true, vec![(v1, STRIPPED)]),
        (receiving(REQUIRED), b"", false, vec![(None, Missing)]),
        (receiving(REQUIRED), bad, false, vec![(v1, Malformed)]),
        (receiving(LATE), V2, true, vec![(v2, STRIPPED)]),
        (receiving(LATE), b"", false, vec![(None, Missing)]),
        (untrusted(OPTIONAL, close), V1, false, vec![(v1, NotTrusted)]),
        (untrusted(OPTIONAL, close), b"", true, vec![]),
        (untrusted(OPTIONAL, close), bad, false, vec![(v1, NotTrusted)]),
        (untrusted(OPTIONAL, strip), V1, true, vec![(v1, NotTrusted)]),
        (untrusted(OPTIONAL, strip), V2, true, vec![(v2, NotTrusted)]),
        (untrusted(OPTIONAL, strip), b"", true, vec![]),
        (untrusted(OPTIONAL, strip), bad, false, vec![(v1, Malformed)]),
        (untrusted(REQUIRED, close), V2, false, vec![(v2, NotTrusted)]),
        (untrusted(REQUIRED, close), b"", false, vec![(None, Missing)]),
        (untrusted(REQUIRED, strip), V1, true, vec![(v1, NotTrusted)]),
        (untrusted(REQUIRED, strip), b"", false, vec![(None, Missing)]),
        (untrusted(LATE, strip), V1, true, vec![(v1, NotTrusted)]),
        (send_only, V1, false, vec![(v1, Malformed)]),
        (send_only, V2, false, vec![(v2, Malformed)]),
        (send_only, b"", true, vec![]),
    ];
    for (rules, header, passes, counted) in cases {
        let sent = rules.send.map(|send| encode(send.format, send.endpoints)).unwrap_or_default();
        let expected = if passes { [&sent, RESPONSE].concat() } else { Vec::new() };
        let bytes = [header, RESPONSE].concat();
        for cut in 0..=bytes.len() {
            let mut host = Host::new(rules);
            let (first, rest) = bytes.split_at(cut);
            for part in [first, rest] {
                if !host.closed && !part.is_empty() {
                    host.client(part);
                }
            }
            let text = format!("{rules:?} {} cut at {cut}", header.escape_ascii());
            assert_eq!((host.server.as_slice(), host.closed), (expected.as_slice(), !passes), "{text}");
            assert_eq!(host.counts(), counted, "{text}");
            assert_eq!(host.bytes(), if passes { RESPONSE.len() as u64 } else { 0 }, "{text}");
            let believed = counted == [(v1, STRIPPED)] || (counted == [(v2, STRIPPED)] && header == V2);
            let source = believed.then(|| "192.0.2.1:1111".parse().unwrap());
            assert_eq!(host.link.details.source, source, "{text}");
            assert_eq!(host.refusal_reason().is_some(), !passes, "{text}");
            assert_eq!(host.refusal_reason(), None, "reported once");
        }
        let mut host = Host::new(rules);
        for byte in bytes.chunks(1).take_while(|_| passes) {
            host.client(byte);
        }
        assert_eq!(host.server, expected, "byte by byte");
    }
}

#[test]
fn only_the_start_of_a_signature_is_held() {
    let beginnings = |signature: &'static [u8]| (1..signature.len()).map(|len| &signature[..len]);
    for beginning in beginnings(b"PROXY ").chain(beginnings(b"\r\n\r\n\0\r\nQUIT\n")) {
        for next in [b"".as_slice(), b"x", b"\xff\xff\xff"] {
            let bytes = [beginning, next].concat();
            let mut host = Host::expecting(Expected::Unknown, receiving(OPTIONAL));
            let verdict = host.client(&bytes);
            let is_signature = |bytes: &[u8]| bytes == b"PROXY";
            let expected = match next {
                b"" => ClientVerdict::Hold,
                // The word alone is a signature (section 2.2), and a header without the space after it is malformed.
                _ if is_signature(beginning) => ClientVerdict::Close,
                // MariaDB would accept it as a header.
                _ if beginning.len() >= 4 => ClientVerdict::Close,
                _ if matches!(beginning, b"PRO" | b"\r\n\r") && next.len() > 1 => ClientVerdict::Pass,
                _ => ClientVerdict::Pass,
            };
            assert_eq!(verdict, expected, "{}", bytes.escape_ascii());
            assert_eq!(host.disable(), next.is_empty());
            // The same in two chunks: bytes that are no longer a signature are not held.
            let mut host = Host::expecting(Expected::Unknown, receiving(OPTIONAL));
            assert_eq!(host.client(beginning), ClientVerdict::Hold);
            if !next.is_empty() {
                assert_eq!(host.client(next), expected, "{} cut", bytes.escape_ascii());
            }
        }
    }
}

/// The last byte of each case makes the header malformed.
#[test]
fn a_malformed_header_is_refused_however_it_is_cut() {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let of_binary = |rest: &[u8]| [SIGNATURE, rest].concat();
    for bytes in [
        b"PROXY\r".to_vec(),
        b"PROXY x".to_vec(),
        b"PROXY TCP4\r".to_vec(),
        b"PROXY TCP6 g".to_vec(),
        b"PROXY UNKNOWN\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 x".to_vec(),
        of_binary(b"\x11"),
        of_binary(b"\x22"),
        of_binary(b"\x21\x41"),
        of_binary(b"\x21\x13"),
        of_binary(b"\x21\x11\0\x0b"),
        of_binary(b"\x21\x11\xff\xff"),
    ] {
        let mut whole = Host::new(receiving(OPTIONAL));
        assert_eq!(whole.client(&bytes), ClientVerdict::Close, "{}", bytes.escape_ascii());
        for cut in 1..bytes.len() {
            let mut host = Host::new(receiving(OPTIONAL));
            let (first, rest) = bytes.split_at(cut);
            let text = format!("{} cut at {cut}", bytes.escape_ascii());
            assert_eq!(host.client(first), ClientVerdict::Hold, "{text}");
            assert_eq!(host.client(rest), ClientVerdict::Close, "{text}");
            assert_eq!(host.counts(), whole.counts(), "{text}");
        }
        let mut host = Host::new(receiving(OPTIONAL));
        let verdicts: Vec<_> = bytes.chunks(1).map(|byte| host.client(byte)).collect();
        let held = verdicts.iter().take_while(|verdict| **verdict == ClientVerdict::Hold).count();
        assert_eq!((held, host.counts()), (bytes.len() - 1, whole.counts()), "{}", bytes.escape_ascii());
        assert_eq!(host.refusal_reason(), whole.refusal_reason(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn held_bytes_are_not_read_again_before_they_can_be_complete() {
    struct Unread(usize);
    impl Chunk for Unread {
        fn len(&self) -> usize {
            self.0
        }
        fn read(&self, _: usize, _: usize) -> Option<Bytes> {
            panic!("read");
        }
    }
    let mut host = Host::new(receiving(OPTIONAL));
    assert_eq!(host.client(&V2[..16]), ClientVerdict::Hold);
    for len in 17..V2.len() {
        let verdict = host.link.call(|connection, out| connection.client(&Unread(len), false, out));
        assert_eq!(verdict, ClientVerdict::Hold);
    }
}

#[test]
fn a_stream_that_ends_within_a_header_is_refused() {
    let mut host = Host::new(receiving(OPTIONAL));
    assert_eq!(host.send(b"PRO", true), ClientVerdict::Pass);
    assert_eq!((host.server.as_slice(), host.counts()), (b"PRO".as_slice(), vec![]));
    for (bytes, format) in [(&V1[..20], Format::V1), (&V2[..20], Format::V2)] {
        let mut host = Host::new(receiving(OPTIONAL));
        assert_eq!(host.client(bytes), ClientVerdict::Hold);
        assert_eq!(host.send(b"", true), ClientVerdict::Close);
        assert_eq!(host.counts(), [(Some(format), HeaderResult::Malformed)]);
        assert_eq!(host.refusal_reason(), Some(RefusalReason::Truncated));
    }
    // A health check.
    for rules in [REQUIRED, LATE] {
        let mut host = Host::new(receiving(rules));
        assert_eq!(host.send(b"", true), ClientVerdict::Close);
        assert_eq!((host.counts(), host.refusal_reason()), (vec![], None));
        assert_eq!(host.send(b"", true), ClientVerdict::Close);
        host.link.close(ClosedBy::Proxy);
        assert!(matches!(host.link.events.last(), Some(Event::Closed { by: ClosedBy::Client, .. })));
    }
    let mut host = Host::new(receiving(REQUIRED));
    assert_eq!(host.send(b"PRO", true), ClientVerdict::Close);
    assert_eq!(host.counts(), [(None, HeaderResult::Missing)]);
}

#[test]
fn a_header_that_does_not_arrive_in_time_is_refused() {
    let greet = |host: &mut Host, millis: u64| {
        host.set_time(millis);
        host.link.take(Sender::Server, b"\x04\0\0\0\x0a5.5", false);
    };
    // Nothing is overdue on an optional port, unless bytes are held.
    let mut host = Host::new(receiving(OPTIONAL));
    assert_eq!(host.tick_at(3_600_000), TickVerdict::Continue);
    host.set_time(7_000);
    assert_eq!(host.client(b"PROX"), ClientVerdict::Hold);
    assert_eq!(host.tick_at(9_999), TickVerdict::Continue);
    assert_eq!(host.tick_at(10_000), TickVerdict::Close);
    assert_eq!(host.counts(), [(None, HeaderResult::Timeout)]);
    assert_eq!(host.refusal_reason(), Some(RefusalReason::Timeout { held: 4, connected: true }));
    assert_eq!(host.tick_at(20_000), TickVerdict::Continue, "once");
    assert_eq!(host.client(b"Y TCP4"), ClientVerdict::Close, "bytes before the close are not forwarded");

    // If the server speaks first, a header may come with the client's first bytes. So the time begins with the greeting.
    let mut host = Host::new(receiving(REQUIRED));
    assert_eq!(host.tick_at(4_000), TickVerdict::Continue);
    greet(&mut host, 4_500);
    greet(&mut host, 4_600);
    assert_eq!(host.tick_at(7_499), TickVerdict::Continue);
    assert_eq!(host.tick_at(7_500), TickVerdict::Close);
    assert_eq!(host.refusal_reason(), Some(RefusalReason::Timeout { held: 0, connected: true }));

    for (expected, rules) in [(Expected::Mysql, LATE), (Expected::Unknown, REQUIRED)] {
        let mut host = Host::expecting(expected, receiving(rules));
        let connects_late = rules.need == Need::BeforeConnect;
        assert_eq!(host.link.connection.holds_connection(), connects_late);
        assert_eq!(host.tick_at(2_999), TickVerdict::Continue);
        assert_eq!(host.tick_at(3_000), TickVerdict::Close);
        assert_eq!(host.counts(), [(None, HeaderResult::Timeout)]);
        assert_eq!(
            host.refusal_reason(),
            Some(RefusalReason::Timeout { held: 0, connected: !connects_late })
        );
    }

    let mut host = Host::new(receiving(LATE));
    host.set_time(2_900);
    assert!(matches!(host.client(V1), ClientVerdict::Edit(_)));
    assert!(!host.link.connection.holds_connection());
    assert_eq!(host.tick_at(7_000), TickVerdict::Continue);
    assert!(
        !host.link.events.contains(&Event::GreetingTimeout),
        "the server's time begins when it is connected to"
    );
    host.tick_at(7_900);
    assert!(host.link.events.contains(&Event::GreetingTimeout));
}

#[test]
fn the_header_to_the_server_is_sent_with_the_first_bytes_of_the_client() {
    let connections = encode(Format::V1, send(Format::V1).endpoints);
    let received = V1.to_vec();
    let with = |receive: ReceiveRules, only_unless_received| ProxyHeaderRules {
        receive: Some(receive),
        send: Some(SendRules { only_unless_received, ..send(Format::V1) }),
    };
    let not_trusted = ReceiveRules { trusted: false, untrusted: Untrusted::Strip, ..OPTIONAL };
    let nothing: &[u8] = b"";
    for (rules, header, expected) in [
        (with(OPTIONAL, false), V1, received.as_slice()),
        (with(OPTIONAL, false), V2, &received),
        (with(OPTIONAL, false), LOCAL, &connections),
        (with(OPTIONAL, false), nothing, &connections),
        (with(OPTIONAL, true), V1, nothing),
        (with(OPTIONAL, true), LOCAL, nothing),
        (with(OPTIONAL, true), nothing, &connections),
        (with(not_trusted, false), V1, &connections),
        (with(not_trusted, true), V1, &connections),
    ] {
        for glued in [true, false] {
            let mut host = Host::new(rules);
            if glued {
                host.client(&[header, RESPONSE].concat());
            } else {
                host.client(header);
                assert_eq!(host.server, nothing, "not before the client's bytes");
                host.client(RESPONSE);
            }
            host.client(b"\0\0\0\x03");
            assert_eq!(host.server, [expected, RESPONSE, b"\0\0\0\x03"].concat());
            let sent = host.link.events.iter().filter(|event| **event == Event::ProxyHeaderSent(Format::V1));
            assert_eq!(sent.count(), usize::from(!expected.is_empty()));
        }
    }
    let unknown = SendRules { endpoints: None, ..send(Format::V2) };
    let mut host = Host::new(ProxyHeaderRules { send: Some(unknown), ..OFF });
    host.client(RESPONSE);
    assert_eq!(host.server, [LOCAL, RESPONSE].concat());
}

#[test]
fn nothing_is_kept_of_a_header_once_the_next_one_is_sent() {
    let both = ProxyHeaderRules { send: Some(send(Format::V1)), ..receiving(OPTIONAL) };
    for header in [V1, b"".as_slice()] {
        let memory = |rules| {
            let mut host = Host::new(rules);
            host.client(header);
            host.client(RESPONSE);
            host.link.connection.memory()
        };
        assert_eq!(memory(both), memory(receiving(OPTIONAL)), "{}", header.escape_ascii());
    }
}

#[test]
fn a_second_header_is_refused() {
    for rules in
        [receiving(OPTIONAL), receiving(REQUIRED), ProxyHeaderRules { send: Some(send(Format::V1)), ..OFF }]
    {
        for (second, format) in [(V1, Format::V1), (V2, Format::V2), (b"PROXYTCP4 1\n", Format::V1)] {
            let first = if rules.receive.is_some() { V1 } else { b"" };
            // After the first header and after the handshake response, in the same chunk and in the next.
            let mut host = Host::new(rules);
            assert_eq!(host.client(&[first, RESPONSE, second].concat()), ClientVerdict::Close);
            assert_eq!((host.refusal_reason(), host.server.len()), (Some(RefusalReason::Late), 0));
            assert_eq!(host.counts().last(), Some(&(Some(format), HeaderResult::Malformed)));

            let mut host = Host::new(rules);
            host.client(&[first, RESPONSE].concat());
            let passed = host.server.len();
            assert_eq!(host.client(second), ClientVerdict::Close);
            assert_eq!(host.server.len(), passed, "no byte of the header reaches the server");
            assert_eq!(host.client(RESPONSE), ClientVerdict::Close, "nor any byte after it");
            if rules.receive.is_some() {
                let mut host = Host::new(rules);
                assert_eq!(host.client(&[first, second].concat()), ClientVerdict::Close);
                assert_eq!(host.server.len(), 0);
            }
        }
    }
}

#[test]
fn disabling_rewriting_releases_held_bytes() {
    for (rules, bytes, held) in [
        (OPTIONAL, b"PROXY".as_slice(), true),
        (OPTIONAL, b"", false),
        (LATE, b"", true),
        (REQUIRED, b"", false),
    ] {
        let mut host = Host::new(receiving(rules));
        if !bytes.is_empty() {
            assert_eq!(host.client(bytes), ClientVerdict::Hold);
        }
        assert_eq!(host.disable(), held);
        assert!(!host.disable());
        assert_eq!(host.client(V1), ClientVerdict::Pass);
        assert_eq!(host.tick_at(3_600_000), TickVerdict::Continue);
    }
    let mut host = Host::new(receiving(OPTIONAL));
    assert_eq!(host.client(b"PROXY?"), ClientVerdict::Close);
    assert!(!host.disable());
    assert_eq!(host.client(b"more"), ClientVerdict::Close, "a refused connection stays refused");
}
