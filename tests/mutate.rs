//! Whatever passes, the core neither panics nor grows: captures with bytes changed, lost, doubled and out of order, and bytes
//! that never were a capture.
//!
//! `FIRSTWORD_SEED=7 cargo test --test mutate` repeats a run.

// A panic is how a test reports.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::cell::Cell;
use std::sync::OnceLock;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::chunk::Chunk;
use firstword::event::{ClosedBy, Event, ProtectionLost, Sender};
use firstword::rules::{HoldSplitEof, Rules};
use firstword_testing::balance::{balanced, bytes_told};
use firstword_testing::heap;
use firstword_testing::link::{Link, Verdict};
use firstword_testing::random::Random;
use firstword_testing::replay::{Changes, captures, is_blocked, replay_changed};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// What one connection may hold here: both framers' prefixes, the session, and some commands sent ahead.
const MOST_HELD: isize = 16 << 10;
/// So many bytes of the server can wait: the end of an answer to COM_STMT_PREPARE.
const MOST_WAITING: usize = 64 << 10;
/// No chunk here tells more events.
const EVENTS: usize = 1 << 12;

type Owned = Vec<(Sender, Bytes)>;

/// A chunk that knows whether it was read.
struct Watched<'a> {
    bytes: &'a Bytes,
    read: Cell<bool>,
}

impl Chunk for Watched<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        self.read.set(true);
        self.bytes.read(start, max)
    }
}

/// Lets chunks pass and holds what must be true of any connection. Gives all it told, but for bytes and packets, and the
/// sums of those.
fn pass(chunks: &Owned) -> (Vec<Event>, [u64; 2]) {
    let mut all: Vec<Event> = Vec::new();
    let mut opaque = false;
    let mut before = heap::held();
    let mut link = Link::new(&Rules::observe_only(), Timestamp::default());
    // What the test itself keeps does not count.
    let without = heap::held();
    link.events.reserve(EVENTS);
    before += heap::held() - without;
    for (sender, bytes) in chunks {
        let chunk = Watched { bytes, read: Cell::new(false) };
        assert_eq!(link.chunk(*sender, &chunk, false), Verdict::Pass);
        assert!(link.events.len() <= EVENTS, "more events than there was room for");
        assert!(heap::held() - before <= MOST_HELD, "{} bytes held", heap::held() - before);
        assert!(!(opaque && chunk.read.get()), "read though opaque");
        opaque |= link.events.iter().any(|event| matches!(event, Event::Opaque(_)));
        let without = heap::held();
        all.append(&mut link.events);
        before += heap::held() - without;
    }
    link.close(ClosedBy::Proxy);
    let mut told = all;
    told.append(&mut link.events);
    hold(chunks, &told);
    let packets = |of: Sender| {
        let packets = told.iter().filter_map(|event| match event {
            Event::Packets { sender, count } if *sender == of => Some(*count),
            _ => None,
        });
        packets.sum::<u64>()
    };
    let sums = [packets(Sender::Client), packets(Sender::Server)];
    let depends = |event: &Event| {
        matches!(event, Event::Bytes { .. } | Event::Packets { .. } | Event::CompressedBytes { .. })
    };
    (told.into_iter().filter(|event| !depends(event)).collect(), sums)
}

/// What must be true of what any connection tells.
fn hold(chunks: &Owned, told: &[Event]) {
    balanced(told);
    for sender in Sender::ALL {
        let sent: u64 = chunks.iter().filter(|(from, _)| from == sender).map(|(_, b)| b.len() as u64).sum();
        assert_eq!(bytes_told(told, *sender), sent);
    }
}

fn mutated(chunks: &Owned, random: &mut Random) -> Owned {
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
                let doubled = chunks[index].clone();
                chunks.insert(other, doubled);
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
fn damaged_captures_neither_panic_nor_grow() {
    let mut random = Random::from_environment();
    for capture in captures() {
        if capture.chunks.is_empty() {
            continue;
        }
        for _ in 0..100 {
            pass(&mutated(&capture.chunks, &mut random));
        }
    }
}

/// What leaves is what came, as far as it came, up to an error in the place of a request for a file, or to what cannot be followed.
#[test]
fn damaged_captures_pass_unchanged_or_blocked_where_rules_hold_bytes() {
    let mut random = Random::from_environment();
    let changes =
        Changes { hold_split_eof: HoldSplitEof::Always, block_local_infile: true, ..Changes::default() };
    let mut blocked = 0;
    for capture in captures().iter().filter(|capture| !capture.chunks.is_empty()) {
        for _ in 0..50 {
            let chunks = mutated(&capture.chunks, &mut random);
            let (mut come, mut left, mut stopped) = (Vec::new(), Vec::new(), false);
            let chunks = chunks.iter().map(|(sender, bytes)| (*sender, bytes.as_ref()));
            let events = replay_changed(changes, chunks, |bytes, now| {
                assert!(!stopped || now.is_empty(), "{}", capture.name);
                come.extend_from_slice(bytes);
                left.extend_from_slice(now);
                stopped |= !come.starts_with(&left) || come.len() - left.len() > MOST_WAITING;
            });
            assert!(!stopped || is_blocked(&events), "{}", capture.name);
            let count = |told: &[Event]| events.iter().filter(|event| told.contains(event)).count();
            let lost = ProtectionLost::ALL.iter().map(|reason| Event::ProtectionLost(*reason));
            let ends = [count(&[Event::LocalInfileBlocked]), count(&lost.collect::<Vec<_>>())];
            assert!(ends.iter().sum::<usize>() <= 1, "{}: {ends:?}", capture.name);
            blocked += ends[0];
        }
    }
    assert!(blocked > 0, "damaged requests");
}

/// Chunks of both sides, often with bytes that mean something.
fn anything() -> impl Strategy<Value = Owned> {
    let telling = prop::sample::select(vec![0x00_u8, 0x01, 0x03, 0x0a, 0x16, 0x17, 0xfb, 0xfe, 0xff]);
    let byte = prop_oneof![telling, any::<u8>()];
    // Half of them in packets with a small length and sequence id.
    let packet = (prop::collection::vec(byte.clone(), 0..24), 0..4_u8).prop_map(|(payload, id)| {
        let mut bytes = vec![payload.len() as u8, 0, 0, id];
        bytes.extend(payload);
        bytes
    });
    let bytes = prop_oneof![packet, prop::collection::vec(byte, 1..40)];
    let sender = prop::sample::select(Sender::ALL.to_vec());
    prop::collection::vec((sender, bytes.prop_map(Bytes::from)), 1..40)
}

/// A connection that has come to the command phase.
fn logged_in() -> Owned {
    static LOGIN: OnceLock<Owned> = OnceLock::new();
    let login = LOGIN.get_or_init(|| {
        let text = captures().into_iter().find(|capture| capture.name == "mariadb-driver-text").unwrap();
        text.chunks[..3].to_vec()
    });
    login.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_can_pass(chunks in anything()) {
        pass(&chunks);
    }

    #[test]
    fn anything_can_follow_a_login_and_be_cut_anywhere(more in anything(), seed in any::<usize>()) {
        let mut chunks = logged_in();
        chunks.extend(more);
        let whole = pass(&chunks);
        let cut = chunks.iter().flat_map(|(sender, bytes)| {
            let at = seed % (bytes.len() + 1);
            [(*sender, bytes.slice(..at)), (*sender, bytes.slice(at..))]
        });
        let (told, packets) = pass(&cut.collect());
        prop_assert_eq!((told, packets), whole);
    }
}
