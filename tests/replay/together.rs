//! All features that change bytes at once: PROXY headers received and sent, capabilities cleared, requests for files
//! blocked, the ends of responses to COM_STMT_PREPARE held. What each does alone, they do together.

use std::time::Duration;

use firstword::event::{ClosedBy, Event, Sender};
use firstword::proxy_protocol::{Endpoints, Format, encode};
use firstword::rules::{
    ClearCapabilities, HoldSplitEof, Need, ProxyHeaderRules, ReceiveRules, Rules, SendRules, Untrusted,
};

use crate::changed::{CANNOT_BE_FOLLOWED, cleared};
use firstword_testing::capture::Chunks;
use firstword_testing::random::Random;
use firstword_testing::replay::{Captured, captures, is_blocked, link, parts, replay, whole};

/// Random cuts of each capture.
const CUTS: usize = 5;
/// Damaged versions of each capture.
const DAMAGED: usize = 20;

fn all() -> Rules {
    let receive = ReceiveRules {
        need: Need::Required,
        trusted: true,
        untrusted: Untrusted::Close,
        timeout: Duration::from_secs(3),
        max_header_bytes: 536,
    };
    let send = SendRules { format: Format::V1, only_unless_received: false, endpoints: None };
    Rules {
        proxy_header: Some(ProxyHeaderRules { receive: Some(receive), send: Some(send) }),
        clear_capabilities: ClearCapabilities { compress: true, zstd: true, ssl: true },
        hold_split_eof: HoldSplitEof::Always,
        block_local_infile: true,
        ..Rules::observe_only()
    }
}

/// What left a connection, and what it said.
#[derive(Default)]
struct Passed {
    client: Vec<u8>,
    server: Vec<u8>,
    events: Vec<Event>,
    is_closed: bool,
}

fn pass<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Passed {
    let mut link = link(&all());
    let mut passed = Passed::default();
    for (sender, bytes) in chunks {
        let left = link.pass(sender, bytes);
        match sender {
            Sender::Client => passed.client.extend(left),
            Sender::Server => passed.server.extend(left),
        }
        if link.is_closed {
            break;
        }
    }
    link.close(ClosedBy::Proxy);
    Passed { events: link.events, is_closed: link.is_closed, ..passed }
}

fn of(chunks: &Chunks, sender: Sender) -> Vec<u8> {
    chunks.iter().filter(|(from, _)| *from == sender).flat_map(|(_, bytes)| bytes.to_vec()).collect()
}

/// A capture with a PROXY header in front of the client's bytes; `None` if the client says nothing.
fn behind_header(mut chunks: Chunks, header: &[u8]) -> Option<Chunks> {
    let first = chunks.iter().position(|(sender, _)| *sender == Sender::Client)?;
    chunks[first].1 = [header, &chunks[first].1[..]].concat().into();
    Some(chunks)
}

fn headers() -> (Vec<u8>, Vec<u8>) {
    let endpoints = Endpoints {
        source: "[2001:db8::1]:50000".parse().unwrap(),
        destination: "[2001:db8::2]:3306".parse().unwrap(),
    };
    (encode(Format::V2, Some(endpoints)), encode(Format::V1, Some(endpoints)))
}

/// Cuts in random places, more of them where a message begins.
fn random_cuts(chunks: &Chunks, seed: u64) -> Vec<(Sender, &[u8])> {
    parts(chunks, |index, len| {
        let mut random = seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut cuts = vec![0, len];
        for _ in 0..4 {
            random = random.rotate_left(17).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            cuts.push(random as usize % (len + 1));
            cuts.push(random as usize % len.clamp(1, 16));
        }
        cuts.sort_unstable();
        cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    })
}

/// Whether an event is one of the features' own, or depends on the cuts.
fn is_of_features(event: &Event) -> bool {
    matches!(
        event,
        Event::ProxyHeader { .. }
            | Event::ProxyHeaderSent(_)
            | Event::TlsCleared
            | Event::PrepareEofHeld
            | Event::PrepareEofLost
            | Event::PrepareEofSplit { .. }
            | Event::Bytes { .. }
            | Event::Packets { .. }
            | Event::CompressedBytes { .. }
    )
}

#[test]
fn each_feature_does_what_it_does_alone() {
    let mut random = Random::from_environment();
    let (header, sent) = headers();
    let mut compared = 0;
    for Captured { name, chunks, .. } in captures() {
        if CANNOT_BE_FOLLOWED.contains(&name.as_str()) {
            continue;
        }
        let expected = replay(whole(&chunks));
        let expected: Vec<_> = expected.events.into_iter().filter(|event| !is_of_features(event)).collect();
        let (client, server) = (of(&chunks, Sender::Client), cleared(&of(&chunks, Sender::Server)));
        let Some(chunks) = behind_header(chunks, &header) else { continue };
        let by_bytes = parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect());
        let seeds: Vec<_> = (0..CUTS).map(|_| random.next()).collect();
        let mut versions = vec![whole(&chunks).collect(), by_bytes];
        versions.extend(seeds.iter().map(|seed| random_cuts(&chunks, *seed)));
        for version in versions {
            let passed = pass(version);
            assert!(!passed.is_closed, "{name}");
            assert_eq!(passed.client, [&sent[..], &client].concat(), "{name}: to the server");
            // The end of a response can be held when the capture ends.
            assert!(server.starts_with(&passed.server), "{name}: to the client");
            assert!(server.len() - passed.server.len() < 300, "{name}: to the client");
            let events: Vec<_> = passed.events.into_iter().filter(|event| !is_of_features(event)).collect();
            assert_eq!(events, expected, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 1000, "{compared} replays");
}

/// What a server's byte can become: itself, or itself without the flags of compression and TLS.
fn can_become(before: u8, after: u8) -> bool {
    [0_u8, 0x20, 0x08, 0x04, 0x28].iter().any(|flags| before & !flags == after)
}

#[test]
fn damaged_captures_pass_as_they_are_or_end() {
    let mut random = Random::from_environment();
    let (header, _) = headers();
    let (mut closed, mut cut) = (0, 0);
    for Captured { name, chunks, .. } in captures() {
        let Some(chunks) = behind_header(chunks, &header) else { continue };
        for _ in 0..DAMAGED {
            let mut chunks = chunks.clone();
            for _ in 0..=random.below(3) {
                let index = random.below(chunks.len());
                let mut bytes = chunks[index].1.to_vec();
                let at = random.below(bytes.len().max(1));
                match random.below(4) {
                    0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
                    1 => bytes.truncate(at),
                    2 => bytes.insert(at, random.next() as u8),
                    _ => {
                        let other = random.below(chunks.len());
                        chunks.swap(index, other);
                        continue;
                    }
                }
                chunks[index].1 = bytes.into();
            }
            let seed = random.next();
            let passed = pass(random_cuts(&chunks, seed));
            closed += usize::from(passed.is_closed);
            cut += usize::from(is_blocked(&passed.events));
            let server = of(&chunks, Sender::Server);
            let client = of(&chunks, Sender::Client);
            // Up to an error in the place of what is blocked, the bytes are those that came.
            let same =
                passed.server.iter().zip(&server).take_while(|(after, before)| can_become(**before, **after));
            let same = same.count();
            assert!(same == passed.server.len() || is_blocked(&passed.events), "{name}: {seed}");
            // The server gets the header that is sent, and behind it only what the client sent.
            if !passed.client.is_empty() {
                let end = passed.client.windows(2).position(|pair| pair == b"\r\n").expect("a line") + 2;
                let (sent, own) = passed.client.split_at(end);
                assert!(sent.starts_with(b"PROXY "), "{name}: {seed}");
                let is_sent = own.is_empty() || client.windows(own.len()).any(|window| window == own);
                assert!(is_sent || is_blocked(&passed.events), "{name}: {seed}");
            }
        }
    }
    assert!(closed > 0 && cut > 0, "{closed} closed, {cut} cut");
}
