//! All stages at once: PROXY headers received and sent, capabilities cleared, file requests blocked, and the ends of
//! COM_STMT_PREPARE responses held. Each stage has the same effect as alone.

use firstword::event::{Event, Sender};
use firstword::rules::{ClearCapabilities, HoldSplitEof, Need, ProxyHeaderRules, Rules};

use crate::clear_and_block::{NOT_INSPECTABLE, cleared};
use crate::proxy_headers::{SEND, headers, receive};
use firstword_testing::capture::Chunks;
use firstword_testing::random::Random;
use firstword_testing::replay::{
    Captured, byte_by_byte, captures, is_blocked, parts, replay, run, stream, whole, with_header,
};

/// Number of versions of each capture with random cuts.
const CUT_VERSIONS: usize = 5;
/// Number of damaged versions of each capture.
const DAMAGED_VERSIONS: usize = 20;

fn all_rules() -> Rules {
    let proxy_header = ProxyHeaderRules { receive: Some(receive(Need::Required, true)), send: Some(SEND) };
    Rules {
        proxy_header: Some(proxy_header),
        clear_capabilities: ClearCapabilities { compress: true, zstd: true, ssl: true },
        hold_split_eof: HoldSplitEof::Always,
        block_local_infile: true,
        ..Rules::observe_only()
    }
}

/// Output of a connection under all rules.
struct Output {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    events: Vec<Event>,
    is_closed: bool,
}

fn pass<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Output {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let link = run(&all_rules(), chunks, |_, sender, _, left| match sender {
        Sender::Client => to_server.extend_from_slice(left),
        Sender::Server => to_client.extend_from_slice(left),
    });
    Output { to_server, to_client, events: link.events, is_closed: link.is_closed }
}

/// Chunks cut in random places. More cuts are where a message begins.
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

/// True if a stage emits the event, or if the event depends on the cuts.
fn is_ignored(event: &Event) -> bool {
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
fn each_stage_has_the_same_effect_as_alone() {
    let mut random = Random::from_environment();
    let (header, sent) = headers();
    let mut compared = 0;
    for Captured { name, chunks, .. } in captures() {
        if NOT_INSPECTABLE.contains(&name.as_str()) {
            continue;
        }
        let expected = replay(whole(&chunks));
        let expected: Vec<_> = expected.events.into_iter().filter(|event| !is_ignored(event)).collect();
        let (client, server) = (stream(&chunks, Sender::Client), cleared(&stream(&chunks, Sender::Server)));
        let Some(chunks) = with_header(chunks, &header) else { continue };
        let seeds: Vec<_> = (0..CUT_VERSIONS).map(|_| random.next()).collect();
        let mut versions = vec![whole(&chunks).collect(), byte_by_byte(&chunks)];
        versions.extend(seeds.iter().map(|seed| random_cuts(&chunks, *seed)));
        for version in versions {
            let output = pass(version);
            assert!(!output.is_closed, "{name}");
            assert_eq!(output.to_server, [&sent[..], &client].concat(), "{name}: to the server");
            // The end of a response can be held when the capture ends.
            assert!(server.starts_with(&output.to_client), "{name}: to the client");
            assert!(server.len() - output.to_client.len() < 300, "{name}: to the client");
            let events: Vec<_> = output.events.into_iter().filter(|event| !is_ignored(event)).collect();
            assert_eq!(events, expected, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 1000, "{compared} replays");
}

/// True if `after` is the server's byte `before`, perhaps without flags of compression and TLS.
fn can_become(before: u8, after: u8) -> bool {
    [0_u8, 0x20, 0x08, 0x04, 0x28].iter().any(|flags| before & !flags == after)
}

/// Makes up to three changes in random places.
fn damage(chunks: &mut Chunks, random: &mut Random) {
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
}

#[test]
fn damaged_captures_pass_unchanged_or_are_closed_or_blocked() {
    let mut random = Random::from_environment();
    let (header, _) = headers();
    let (mut closed, mut blocked) = (0, 0);
    for Captured { name, chunks, .. } in captures() {
        let Some(chunks) = with_header(chunks, &header) else { continue };
        for _ in 0..DAMAGED_VERSIONS {
            let mut chunks = chunks.clone();
            damage(&mut chunks, &mut random);
            let seed = random.next();
            let Output { to_server, to_client, events, is_closed } = pass(random_cuts(&chunks, seed));
            let is_blocked = is_blocked(&events);
            closed += usize::from(is_closed);
            blocked += usize::from(is_blocked);
            // The bytes are the server's, up to an error that replaces a blocked request.
            let server = stream(&chunks, Sender::Server);
            let pairs = server.iter().zip(&to_client);
            let same = pairs.take_while(|(before, after)| can_become(**before, **after)).count();
            assert!(same == to_client.len() || is_blocked, "{name}: {seed}");
            // The server gets the header that is sent, and after it only the client's bytes.
            if !to_server.is_empty() {
                let end = to_server.windows(2).position(|pair| pair == b"\r\n").expect("a line") + 2;
                let (sent, own) = to_server.split_at(end);
                assert!(sent.starts_with(b"PROXY "), "{name}: {seed}");
                let client = stream(&chunks, Sender::Client);
                let is_sent = own.is_empty() || client.windows(own.len()).any(|window| window == own);
                assert!(is_sent || is_blocked, "{name}: {seed}");
            }
        }
    }
    assert!(closed > 0 && blocked > 0, "{closed} closed, {blocked} blocked");
}
