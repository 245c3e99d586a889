//! What is no PROXY header is neither changed nor lost by rules about them, and counts the same.

use std::time::Duration;

use bytes::Bytes;
use firstword::event::{Event, HeaderResult, Sender};
use firstword::proxy_protocol::{Endpoints, Format, encode};
use firstword::rules::{Need, ProxyHeaderRules, ReceiveRules, SendRules, Untrusted};

use proptest::prelude::*;

use firstword_testing::capture::Chunks;
use firstword_testing::replay::{Captured, captures, parts, replay, replay_with_headers, whole};

/// Headers from everybody, and whether they are believed.
fn receiving(trusted: bool) -> ProxyHeaderRules {
    let receive = ReceiveRules {
        need: Need::Optional,
        trusted,
        untrusted: Untrusted::Close,
        timeout: Duration::from_secs(3),
        max_header_bytes: 536,
    };
    ProxyHeaderRules { receive: Some(receive), send: None }
}

fn of_client(chunks: &Chunks) -> Vec<u8> {
    let of_client = chunks.iter().filter(|(sender, _)| *sender == Sender::Client);
    of_client.flat_map(|(_, bytes)| bytes.to_vec()).collect()
}

#[test]
fn captures_pass_unchanged_behind_receive() {
    for Captured { name, chunks, .. } in captures() {
        let (expected, bytes) = (replay(whole(&chunks)), of_client(&chunks));
        for trusted in [true, false] {
            let (told, passed) = replay_with_headers(Some(receiving(trusted)), whole(&chunks)).unwrap();
            assert!(told == expected && passed == bytes, "{name}");
            let by_bytes = parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect());
            let (told, passed) = replay_with_headers(Some(receiving(trusted)), by_bytes).unwrap();
            assert!(told == expected && passed == bytes, "{name}, byte by byte");
        }
        // Nothing is looked for behind the connection phase, so the first chunks are cut.
        for (index, (_, chunk)) in chunks.iter().enumerate().take(8) {
            for cut in 1..chunk.len() {
                let cut_here = |at, len| {
                    let cut = if at == index { cut } else { len };
                    vec![0..cut, cut..len]
                };
                let (told, passed) =
                    replay_with_headers(Some(receiving(true)), parts(&chunks, cut_here)).unwrap();
                assert!(told == expected && passed == bytes, "{name}: chunk {index} cut at {cut}");
            }
        }
    }
}

/// With a header in front, received and sent on: the session behind it is the same.
#[test]
fn captures_pass_behind_a_header() {
    let believed = Endpoints {
        source: "[2001:db8::1]:50000".parse().unwrap(),
        destination: "[2001:db8::2]:3306".parse().unwrap(),
    };
    let send = SendRules { format: Format::V1, only_unless_received: false, endpoints: None };
    let rules = ProxyHeaderRules { send: Some(send), ..receiving(true) };
    let (header, sent) = (encode(Format::V2, Some(believed)), encode(Format::V1, Some(believed)));
    for Captured { name, mut chunks, .. } in captures() {
        let (expected, bytes) = (replay(whole(&chunks)), of_client(&chunks));
        let Some(first) = chunks.iter().position(|(sender, _)| *sender == Sender::Client) else { continue };
        chunks[first].1 = [&header, &chunks[first].1[..]].concat().into();
        for cut in 0..=header.len() + 1 {
            let cut = parts(
                &chunks,
                |at, len| if at == first { vec![0..cut, cut..len] } else { vec![0..len, 0..0] },
            );
            let (mut told, passed) = replay_with_headers(Some(rules), cut).unwrap();
            assert_eq!(passed, [&sent[..], &bytes].concat(), "{name}");
            let mut of_headers = Vec::new();
            told.events.retain(|event| {
                let is = matches!(event, Event::ProxyHeader { .. } | Event::ProxyHeaderSent(_));
                if is {
                    of_headers.push(*event);
                }
                !is
            });
            let stripped = Event::ProxyHeader { format: Some(Format::V2), result: HeaderResult::Stripped };
            assert_eq!(of_headers, [stripped, Event::ProxyHeaderSent(Format::V1)], "{name}");
            assert_eq!(told, expected, "{name}");
        }
    }
}

/// Bytes of a client that often begin a header, or a packet.
fn anything() -> impl Strategy<Value = Vec<u8>> {
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

    /// How the bytes are cut changes neither whether the connection is closed nor what reaches the server, nor what is
    /// counted.
    #[test]
    fn cuts_decide_nothing(bytes in anything(), trusted: bool, sends: bool, seed: u64) {
        let endpoints = None;
        let send = SendRules { format: Format::V1, only_unless_received: false, endpoints };
        let rules = ProxyHeaderRules { send: sends.then_some(send), ..receiving(trusted) };
        // Something that no header can be the beginning of, so that nothing is still held.
        let chunks: Chunks = vec![(Sender::Client, Bytes::from([&bytes[..], &[0xff; 600]].concat()))];
        let whole = replay_with_headers(Some(rules), whole(&chunks));
        let cut = parts(&chunks, |_, len| {
            let mut cuts: Vec<_> = (0..6).map(|n| (seed >> (n * 8)) as usize % (bytes.len() + 2).min(len)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
        });
        let counted = |told: &firstword_testing::replay::Replayed| {
            let of_headers = told.events.iter().filter(|event| matches!(event, Event::ProxyHeader { .. }));
            of_headers.copied().collect::<Vec<_>>()
        };
        match (whole, replay_with_headers(Some(rules), cut)) {
            (Ok((told, passed)), Ok((told_cut, passed_cut))) => {
                prop_assert_eq!(passed, passed_cut);
                prop_assert_eq!(counted(&told), counted(&told_cut));
            }
            (Err(refusal), Err(refusal_cut)) => {
                prop_assert_eq!((refusal.result, refusal.format), (refusal_cut.result, refusal_cut.format));
            }
            (whole, cut) => panic!("{whole:?}, {cut:?}"),
        }
    }
}
