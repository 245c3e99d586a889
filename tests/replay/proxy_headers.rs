//! Rules about PROXY headers neither change nor lose other bytes, and do not change the events of the session.

use std::time::Duration;

use bytes::Bytes;
use firstword::event::{Event, HeaderResult, Sender};
use firstword::proxy_protocol::{Endpoints, Format, encode};
use firstword::rules::{Need, ProxyHeaderRules, ReceiveRules, SendRules, Untrusted};

use proptest::prelude::*;

use firstword_testing::capture::Chunks;
use firstword_testing::replay::{
    Captured, Replayed, byte_by_byte, captures, cut_once, parts, replay, replay_with_headers, stream, whole,
    with_header,
};

pub(crate) const SEND: SendRules =
    SendRules { format: Format::V1, only_unless_received: false, endpoints: None };

pub(crate) const fn receive(need: Need, trusted: bool) -> ReceiveRules {
    ReceiveRules {
        need,
        trusted,
        untrusted: Untrusted::Close,
        timeout: Duration::from_secs(3),
        max_header_bytes: 536,
    }
}

/// The PROXY header that the client sends, and the one that the server gets under [`SEND`].
pub(crate) fn headers() -> (Vec<u8>, Vec<u8>) {
    let endpoints = Endpoints {
        source: "[2001:db8::1]:50000".parse().unwrap(),
        destination: "[2001:db8::2]:3306".parse().unwrap(),
    };
    (encode(Format::V2, Some(endpoints)), encode(Format::V1, Some(endpoints)))
}

/// Rules that remove headers, from trusted or from untrusted clients.
fn receive_only(trusted: bool) -> ProxyHeaderRules {
    ProxyHeaderRules { receive: Some(receive(Need::Optional, trusted)), send: None }
}

#[test]
fn captures_without_a_header_pass_unchanged() {
    for Captured { name, chunks, .. } in captures() {
        let expected = (replay(whole(&chunks)), stream(&chunks, Sender::Client));
        for trusted in [true, false] {
            let found = replay_with_headers(receive_only(trusted), whole(&chunks));
            assert!(found.as_ref() == Ok(&expected), "{name}");
            let found = replay_with_headers(receive_only(trusted), byte_by_byte(&chunks));
            assert!(found.as_ref() == Ok(&expected), "{name}, byte by byte");
        }
        // Only the first chunks are cut, because the guard stops after the connection phase.
        for (index, (_, chunk)) in chunks.iter().enumerate().take(8) {
            for cut in 1..chunk.len() {
                let found = replay_with_headers(receive_only(true), cut_once(&chunks, index, cut));
                assert!(found.as_ref() == Ok(&expected), "{name}: chunk {index} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_header_that_is_received_and_sent_does_not_change_the_session() {
    let rules = ProxyHeaderRules { send: Some(SEND), ..receive_only(true) };
    let (header, sent) = headers();
    for Captured { name, chunks, .. } in captures() {
        let (expected, bytes) = (replay(whole(&chunks)), stream(&chunks, Sender::Client));
        let Some(chunks) = with_header(chunks, &header) else { continue };
        let first = chunks.iter().position(|(sender, _)| *sender == Sender::Client).unwrap();
        for cut in 0..=header.len() + 1 {
            let (mut replayed, to_server) =
                replay_with_headers(rules, cut_once(&chunks, first, cut)).unwrap();
            assert_eq!(to_server, [&sent[..], &bytes].concat(), "{name}");
            let is_header =
                |event: &Event| matches!(event, Event::ProxyHeader { .. } | Event::ProxyHeaderSent(_));
            let (headers, events): (Vec<_>, Vec<_>) = replayed.events.into_iter().partition(is_header);
            replayed.events = events;
            let stripped = Event::ProxyHeader { format: Some(Format::V2), result: HeaderResult::Stripped };
            assert_eq!(headers, [stripped, Event::ProxyHeaderSent(Format::V1)], "{name}");
            assert_eq!(replayed, expected, "{name}");
        }
    }
}

/// Random bytes of a client. Many begin a header or a packet.
fn random_bytes() -> impl Strategy<Value = Vec<u8>> {
    let starts: Vec<&[u8]> = vec![
        b"",
        b"P",
        b"PROX",
        b"PROXY",
        b"PROXY ",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\x02\0\0\x01ab",
        b"\0\0\0\x03",
    ];
    let piece = prop_oneof![
        3 => prop::sample::select(starts).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The cuts change neither the verdict, nor the bytes to the server, nor the events about headers.
    #[test]
    fn cuts_do_not_change_the_result(bytes in random_bytes(), trusted: bool, sends: bool, seed: u64) {
        let rules = ProxyHeaderRules { send: sends.then_some(SEND), ..receive_only(trusted) };
        // Bytes that cannot belong to a header follow, so that nothing is still held at the end.
        let chunks: Chunks = vec![(Sender::Client, Bytes::from([&bytes[..], &[0xff; 600]].concat()))];
        let whole = replay_with_headers(rules, whole(&chunks));
        let cut = parts(&chunks, |_, len| {
            let mut cuts: Vec<_> = (0..6).map(|n| (seed >> (n * 8)) as usize % (bytes.len() + 2).min(len)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
        });
        let headers = |replayed: &Replayed| {
            let events = replayed.events.iter().filter(|event| matches!(event, Event::ProxyHeader { .. }));
            events.copied().collect::<Vec<_>>()
        };
        match (whole, replay_with_headers(rules, cut)) {
            (Ok((replayed, to_server)), Ok((replayed_cut, to_server_cut))) => {
                prop_assert_eq!(to_server, to_server_cut);
                prop_assert_eq!(headers(&replayed), headers(&replayed_cut));
            }
            (Err(refusal), Err(refusal_cut)) => {
                prop_assert_eq!((refusal.result, refusal.format), (refusal_cut.result, refusal_cut.format));
            }
            (whole, cut) => panic!("{whole:?}, {cut:?}"),
        }
    }
}
