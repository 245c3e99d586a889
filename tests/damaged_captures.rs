//! The core neither panics nor exceeds its memory limit, whatever bytes pass. The inputs are random bytes, and captures with
//! bytes changed, lost, duplicated and out of order.
//!
//! `FIRSTWORD_SEED=7 cargo test --test damaged_captures` repeats a run.

// A test reports through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::sync::OnceLock;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::event::{ClosedBy, Event, ProtectionLost, Sender};
use firstword::rules::{HoldSplitEof, Rules};
use firstword_testing::capture::Chunks;
use firstword_testing::heap;
use firstword_testing::invariants::{assert_balanced, byte_count};
use firstword_testing::link::{Link, Verdict, WatchedChunk};
use firstword_testing::random::Random;
use firstword_testing::replay::{Changes, captures, is_blocked, replay_changed, stream, whole};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// Maximum number of bytes on the heap for one connection: the prefixes of both framers, the session, and some commands that
/// were sent ahead.
const MAX_HEAP: isize = 16 << 10;
/// Maximum number of the server's bytes that are held: the end of a response to COM_STMT_PREPARE.
const MAX_HELD: usize = 64 << 10;
/// Maximum number of events of one chunk.
const MAX_EVENTS: usize = 1 << 12;

/// Forwards chunks, and asserts what must be true of any connection. Returns the events without those that depend on the
/// cuts, and the number of packets of each side.
fn pass(chunks: &Chunks) -> (Vec<Event>, [u64; 2]) {
    let mut emitted: Vec<Event> = Vec::new();
    let mut opaque = false;
    let mut before = heap::held();
    let mut link = Link::new(&Rules::observe_only(), Timestamp::default());
    // Memory of the test itself does not count.
    let without = heap::held();
    link.events.reserve(MAX_EVENTS);
    before += heap::held() - without;
    for (sender, bytes) in chunks {
        let chunk = WatchedChunk::new(bytes.clone(), true);
        assert_eq!(link.chunk(*sender, &chunk, false), Verdict::Pass);
        assert!(link.events.len() <= MAX_EVENTS, "the list of events has grown");
        assert!(heap::held() - before <= MAX_HEAP, "{} bytes on the heap", heap::held() - before);
        assert!(!(opaque && chunk.was_read.get()), "read though opaque");
        opaque |= link.events.iter().any(|event| matches!(event, Event::Opaque(_)));
        let without = heap::held();
        emitted.append(&mut link.events);
        before += heap::held() - without;
    }
    link.close(ClosedBy::Proxy);
    emitted.append(&mut link.events);
    assert_balanced(&emitted);
    for sender in Sender::ALL {
        assert_eq!(byte_count(&emitted, *sender), stream(chunks, *sender).len() as u64);
    }
    let packets = |of: Sender| {
        let packets = emitted.iter().filter_map(|event| match event {
            Event::Packets { sender, count } if *sender == of => Some(*count),
            _ => None,
        });
        packets.sum::<u64>()
    };
    let sums = [packets(Sender::Client), packets(Sender::Server)];
    let depends = |event: &Event| {
        matches!(event, Event::Bytes { .. } | Event::Packets { .. } | Event::CompressedBytes { .. })
    };
    (emitted.into_iter().filter(|event| !depends(event)).collect(), sums)
}

/// A copy of the chunks with up to three changes in random places.
fn damage(chunks: &Chunks, random: &mut Random) -> Chunks {
    let mut chunks = chunks.clone();
    for _ in 0..=random.below(3) {
        let index = random.below(chunks.len());
        let other = random.below(chunks.len());
        let mut bytes = chunks[index].1.to_vec();
        if bytes.is_empty() {
            continue;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            4 => drop(bytes.remove(at)),
            5 => chunks.swap(index, other),
            _ => {
                let duplicate = chunks[index].clone();
                chunks.insert(other, duplicate);
            }
        }
        if chunks[index].1.len() != bytes.len() || chunks[index].1[..] != bytes[..] {
            let sender = chunks[index].0;
            chunks[index] = (sender, bytes.into());
        }
    }
    chunks
}

#[test]
fn damaged_captures_neither_panic_nor_exceed_the_memory_limit() {
    let mut random = Random::from_environment();
    for capture in captures() {
        if capture.chunks.is_empty() {
            continue;
        }
        for _ in 0..100 {
            pass(&damage(&capture.chunks, &mut random));
        }
    }
}

/// The bytes that leave are a prefix of the bytes that arrived. Only an error that replaces a file request may differ, and
/// nothing passes after it, or after packets that cannot be judged.
#[test]
fn damaged_captures_pass_unchanged_or_blocked_if_rules_hold_bytes() {
    let mut random = Random::from_environment();
    let changes =
        Changes { hold_split_eof: HoldSplitEof::Always, block_local_infile: true, ..Changes::default() };
    let mut blocked = 0;
    for capture in captures().iter().filter(|capture| !capture.chunks.is_empty()) {
        for _ in 0..50 {
            let chunks = damage(&capture.chunks, &mut random);
            let (mut arrived, mut left, mut stopped) = (Vec::new(), Vec::new(), false);
            let events = replay_changed(changes, whole(&chunks), |bytes, now| {
                assert!(!stopped || now.is_empty(), "{}", capture.name);
                arrived.extend_from_slice(bytes);
                left.extend_from_slice(now);
                stopped |= !arrived.starts_with(&left) || arrived.len() - left.len() > MAX_HELD;
            });
            assert!(!stopped || is_blocked(&events), "{}", capture.name);
            let count = |kinds: &[Event]| events.iter().filter(|event| kinds.contains(event)).count();
            let lost = ProtectionLost::ALL.iter().map(|reason| Event::ProtectionLost(*reason));
            let ends = [count(&[Event::LocalInfileBlocked]), count(&lost.collect::<Vec<_>>())];
            assert!(ends.iter().sum::<usize>() <= 1, "{}: {ends:?}", capture.name);
            blocked += ends[0];
        }
    }
    assert!(blocked > 0, "damaged requests");
}

/// Random chunks of both sides. Many bytes have a meaning in the protocol.
fn random_chunks() -> impl Strategy<Value = Chunks> {
    let special = prop::sample::select(vec![0x00_u8, 0x01, 0x03, 0x0a, 0x16, 0x17, 0xfb, 0xfe, 0xff]);
    let byte = prop_oneof![special, any::<u8>()];
    // Half of the chunks are packets with a small length and sequence id.
    let packet = (prop::collection::vec(byte.clone(), 0..24), 0..4_u8).prop_map(|(payload, id)| {
        let mut bytes = vec![payload.len() as u8, 0, 0, id];
        bytes.extend(payload);
        bytes
    });
    let bytes = prop_oneof![packet, prop::collection::vec(byte, 1..40)];
    let sender = prop::sample::select(Sender::ALL.to_vec());
    prop::collection::vec((sender, bytes.prop_map(Bytes::from)), 1..40)
}

/// The chunks of a connection up to the command phase.
fn login() -> Chunks {
    static LOGIN: OnceLock<Chunks> = OnceLock::new();
    let login = LOGIN.get_or_init(|| {
        let capture = captures().into_iter().find(|capture| capture.name == "mariadb-driver-text").unwrap();
        capture.chunks[..3].to_vec()
    });
    login.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_chunks_pass(chunks in random_chunks()) {
        pass(&chunks);
    }

    #[test]
    fn random_chunks_after_a_login_pass_the_same_when_they_are_cut(more in random_chunks(), seed in any::<usize>()) {
        let mut chunks = login();
        chunks.extend(more);
        let whole = pass(&chunks);
        let cut = chunks.iter().flat_map(|(sender, bytes)| {
            let at = seed % (bytes.len() + 1);
            [(*sender, bytes.slice(..at)), (*sender, bytes.slice(at..))]
        });
        prop_assert_eq!(pass(&cut.collect()), whole);
    }
}
