//! Replays captures through the core.

use std::fs;
use std::ops::Range;

use firstword::clock::Timestamp;
use firstword::event::refusal::Refusal;
use firstword::event::{ClosedBy, Event, Sender};
use firstword::rules::{ClearCapabilities, HoldSplitEof, Inspection, ProxyHeaderRules, Rules};

use crate::capture::{self, Chunks};
use crate::link::Link;

/// Output of a connection: events in order, and sums of those that depend on the cuts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub events: Vec<Event>,
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    pub compressed: [u64; 2],
}

impl Replayed {
    fn of(events: Vec<Event>) -> Self {
        let mut replayed = Self::default();
        for event in events {
            match event {
                Event::Bytes { sender, count } => replayed.bytes[sender as usize] += count,
                Event::Packets { sender, count } => replayed.packets[sender as usize] += count,
                Event::CompressedBytes { sender, count } => replayed.compressed[sender as usize] += count,
                // Whether an EOF arrives later than what precedes it depends on the cuts alone.
                Event::PrepareEofSplit { .. } => {}
                other => replayed.events.push(other),
            }
        }
        replayed
    }

    pub fn text(&self) -> String {
        let mut text: String = self.events.iter().map(|event| format!("{event:?}\n")).collect();
        for sender in Sender::ALL {
            let of_sender = |counts: [u64; 2]| counts[*sender as usize];
            let (bytes, packets) = (of_sender(self.bytes), of_sender(self.packets));
            let compressed = of_sender(self.compressed);
            let sender = sender.label();
            text.push_str(&format!(
                "{sender}: {bytes} bytes, {packets} packets, {compressed} bytes compressed\n"
            ));
        }
        text
    }
}

/// A connection under these rules.
pub fn link(rules: &Rules) -> Link {
    Link::new(rules, Timestamp::default())
}

/// Output of a connection on which these bytes pass in this order.
pub fn replay<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Replayed {
    let (replayed, _) = replay_with_headers(None, chunks).expect("no rule refuses");
    replayed
}

/// Rules about the server's bytes.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    pub hold_split_eof: HoldSplitEof,
    pub clear_capabilities: ClearCapabilities,
    pub block_local_infile: bool,
}

/// Events of a connection on which rules change or hold the server's bytes. `passed` gets each chunk of the server and what
/// leaves for the client. The client's bytes all pass, or none once the connection is blocked.
pub fn replay_changed<'a>(
    changes: Changes,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
    mut passed: impl FnMut(&[u8], &[u8]),
) -> Vec<Event> {
    let Changes { hold_split_eof, clear_capabilities, block_local_infile } = changes;
    let mut link =
        link(&Rules { hold_split_eof, clear_capabilities, block_local_infile, ..Rules::observe_only() });
    for (sender, bytes) in chunks {
        let left = link.pass(sender, bytes);
        match sender {
            Sender::Server => passed(bytes, &left),
            Sender::Client if is_blocked(&link.events) => assert_eq!(left, b""),
            Sender::Client => assert_eq!(left, bytes),
        }
    }
    link.close(ClosedBy::Client);
    link.events
}

/// True once nothing passes any more: a request was blocked, or requests cannot be judged.
pub fn is_blocked(events: &[Event]) -> bool {
    let blocks = |event: &Event| matches!(event, Event::LocalInfileBlocked | Event::ProtectionLost(_));
    events.iter().any(blocks)
}

/// Events of a connection of which no more than this is inspected.
pub fn replay_observed<'a>(
    inspection: Inspection,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Vec<Event> {
    let mut link = link(&Rules { inspection, ..Rules::observe_only() });
    for (sender, bytes) in chunks {
        assert_eq!(link.pass(sender, bytes), bytes);
    }
    link.close(ClosedBy::Proxy);
    link.events
}

/// Output of a connection under rules about PROXY headers, and the client's bytes that reach the server; or why it is
/// refused.
pub fn replay_with_headers<'a>(
    proxy_header: Option<ProxyHeaderRules>,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Result<(Replayed, Vec<u8>), Refusal> {
    let mut link = link(&Rules { proxy_header, ..Rules::observe_only() });
    let mut passed = Vec::new();
    for (sender, bytes) in chunks {
        let left = link.pass(sender, bytes);
        if link.is_closed {
            return Err(link.refusal.expect("a reason"));
        }
        match sender {
            Sender::Client => passed.extend(left),
            Sender::Server => assert_eq!(left, bytes),
        }
    }
    link.close(ClosedBy::Proxy);
    Ok((Replayed::of(link.events), passed))
}

/// What a capture's chunks are when each is cut into these ranges of it.
pub fn parts(chunks: &Chunks, ranges: impl Fn(usize, usize) -> Vec<Range<usize>>) -> Vec<(Sender, &[u8])> {
    let numbered = chunks.iter().enumerate();
    numbered
        .flat_map(|(index, (sender, bytes))| {
            let ranges = ranges(index, bytes.len()).into_iter();
            ranges.filter(|range| !range.is_empty()).map(|range| (*sender, &bytes[range]))
        })
        .collect()
}

/// Chunks as they were captured.
pub fn whole(chunks: &Chunks) -> impl Iterator<Item = (Sender, &[u8])> {
    chunks.iter().map(|(sender, bytes)| (*sender, bytes.as_ref()))
}

/// One of the captures.
pub struct Captured {
    pub name: String,
    pub text: String,
    pub chunks: Chunks,
}

/// All captures, by their names.
pub fn captures() -> Vec<Captured> {
    let mut captures: Vec<_> = fs::read_dir(capture::directory())
        .expect("the captures")
        .map(|entry| entry.expect("a capture").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cap"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(path).expect("a capture");
            Captured { name, chunks: capture::parse(&text), text }
        })
        .collect();
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!captures.is_empty(), "there are captures");
    captures
}
