//! Replays captures through the core.

use std::fs;
use std::ops::Range;

use firstword::clock::Timestamp;
use firstword::event::refusal::Refusal;
use firstword::event::{ClosedBy, Event, Sender};
use firstword::rules::{ClearCapabilities, HoldSplitEof, Inspection, ProxyHeaderRules, Rules};

use crate::capture::{self, Chunks};
use crate::link::Link;

/// Output of a connection: its events in order, and sums for the events that depend on the cuts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub events: Vec<Event>,
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    pub compressed: [u64; 2],
}

impl Replayed {
    fn new(events: Vec<Event>) -> Self {
        let mut replayed = Self::default();
        for event in events {
            match event {
                Event::Bytes { sender, count } => replayed.bytes[sender as usize] += count,
                Event::Packets { sender, count } => replayed.packets[sender as usize] += count,
                Event::CompressedBytes { sender, count } => replayed.compressed[sender as usize] += count,
                // The cuts alone decide whether an EOF arrives later than the packet before it.
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

/// A connection under `rules`.
pub fn link(rules: &Rules) -> Link {
    Link::new(rules, Timestamp::default())
}

/// Passes chunks in this order through a connection under `rules`, until a rule or the end of the chunks closes it. `observe`
/// gets each chunk, and the bytes that leave in the callback that brings it.
pub fn run<'a>(
    rules: &Rules,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
    mut observe: impl FnMut(&Link, Sender, &[u8], &[u8]),
) -> Link {
    let mut link = link(rules);
    for (sender, bytes) in chunks {
        let left = link.pass(sender, bytes);
        observe(&link, sender, bytes, &left);
        if link.is_closed {
            break;
        }
    }
    link.close(ClosedBy::Proxy);
    link
}

/// Output of a connection that is inspected in full and not changed.
pub fn replay<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Replayed {
    Replayed::new(replay_inspection(Inspection::Full, chunks))
}

/// Rules about the server's bytes.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    pub hold_split_eof: HoldSplitEof,
    pub clear_capabilities: ClearCapabilities,
    pub block_local_infile: bool,
}

/// Events of a connection on which rules change or hold the server's bytes. `observe` gets each chunk of the server, and the
/// bytes that leave for the client. The client's bytes all pass, or none once the connection is blocked.
pub fn replay_changed<'a>(
    changes: Changes,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
    mut observe: impl FnMut(&[u8], &[u8]),
) -> Vec<Event> {
    let Changes { hold_split_eof, clear_capabilities, block_local_infile } = changes;
    let rules = Rules { hold_split_eof, clear_capabilities, block_local_infile, ..Rules::observe_only() };
    let link = run(&rules, chunks, |link, sender, bytes, left| match sender {
        Sender::Server => observe(bytes, left),
        Sender::Client if is_blocked(&link.events) => assert_eq!(left, b""),
        Sender::Client => assert_eq!(left, bytes),
    });
    link.events
}

/// True if nothing passes any more, because a request was blocked or because requests cannot be judged.
pub fn is_blocked(events: &[Event]) -> bool {
    let blocks = |event: &Event| matches!(event, Event::LocalInfileBlocked | Event::ProtectionLost(_));
    events.iter().any(blocks)
}

/// Events of a connection that is inspected to this extent and not changed.
pub fn replay_inspection<'a>(
    inspection: Inspection,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Vec<Event> {
    let rules = Rules { inspection, ..Rules::observe_only() };
    run(&rules, chunks, |_, _, bytes, left| assert_eq!(left, bytes)).events
}

/// Output of a connection under rules about PROXY headers, and the client's bytes that reach the server. `Err` if the
/// connection is refused.
pub fn replay_with_headers<'a>(
    rules: ProxyHeaderRules,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Result<(Replayed, Vec<u8>), Refusal> {
    let rules = Rules { proxy_header: Some(rules), ..Rules::observe_only() };
    let mut to_server = Vec::new();
    let link = run(&rules, chunks, |_, sender, bytes, left| match sender {
        Sender::Client => to_server.extend_from_slice(left),
        Sender::Server => assert_eq!(left, bytes),
    });
    if link.is_closed {
        return Err(link.refusal.expect("a reason"));
    }
    Ok((Replayed::new(link.events), to_server))
}

/// All bytes of one side.
pub fn stream(chunks: &Chunks, sender: Sender) -> Vec<u8> {
    chunks.iter().filter(|(from, _)| *from == sender).flat_map(|(_, bytes)| bytes.to_vec()).collect()
}

/// Chunks with a PROXY header before the client's first bytes. `None` if the client sends nothing.
pub fn with_header(mut chunks: Chunks, header: &[u8]) -> Option<Chunks> {
    let (_, first) = chunks.iter_mut().find(|(sender, _)| *sender == Sender::Client)?;
    *first = [header, first].concat().into();
    Some(chunks)
}

/// The chunks of a capture, each cut into the ranges that `ranges` returns for its index and its length.
pub fn parts(chunks: &Chunks, ranges: impl Fn(usize, usize) -> Vec<Range<usize>>) -> Vec<(Sender, &[u8])> {
    let numbered = chunks.iter().enumerate();
    numbered
        .flat_map(|(index, (sender, bytes))| {
            let ranges = ranges(index, bytes.len()).into_iter();
            ranges.filter(|range| !range.is_empty()).map(|range| (*sender, &bytes[range]))
        })
        .collect()
}

/// The chunks of a capture, cut into single bytes.
pub fn byte_by_byte(chunks: &Chunks) -> Vec<(Sender, &[u8])> {
    parts(chunks, |_, len| (0..len).map(|at| at..at + 1).collect())
}

/// The chunks of a capture, the one with this index cut before its byte `cut`.
pub fn cut_once(chunks: &Chunks, index: usize, cut: usize) -> Vec<(Sender, &[u8])> {
    parts(chunks, |at, len| {
        let cut = if at == index { cut } else { len };
        vec![0..cut, cut..len]
    })
}

/// The chunks of a capture as they were captured.
pub fn whole(chunks: &Chunks) -> impl Iterator<Item = (Sender, &[u8])> {
    chunks.iter().map(|(sender, bytes)| (*sender, bytes.as_ref()))
}

/// One of the captures: its name, the text of its file, and the chunks in it.
pub struct Captured {
    pub name: String,
    pub text: String,
    pub chunks: Chunks,
}

/// All captures, sorted by name.
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
