//! Replays captures through the core.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use firstword::clock::{Clock, Timestamp};
use firstword::config::{ClearCapabilities, HoldSplitEof};
use firstword::connection::{Connection, FrontRules, Inspection, Refusal, Setup, Verdict};
use firstword::event::details::Notes;
use firstword::event::output::Output;
use firstword::event::{ClosedBy, Event, Protocol, Sender};

use super::capture::{self, Chunks};

/// A connection of which nothing is known beforehand, and to which nothing is done.
pub const SETUP: Setup = Setup {
    inspection: Inspection::Full,
    expected: Protocol::Unknown,
    greeting_timeout: Duration::MAX,
    stall: Duration::MAX,
    opened: Timestamp::from_nanos(0),
    front: None,
    hold_split_eof: HoldSplitEof::Off,
    clear_capabilities: ClearCapabilities { compress: false, zstd: false, ssl: false },
    block_local_infile: false,
};

/// What a connection told: events in order, and sums of what depends on the cuts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub events: Vec<Event>,
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    pub compressed: [u64; 2],
}

impl Told {
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

/// What a connection tells on which these bytes pass in this order.
pub fn replay<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Told {
    let (told, _) = replay_behind(None, chunks).expect("nothing stands in front");
    told
}

/// What a rule says about the server's bytes.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    pub hold_split_eof: HoldSplitEof,
    pub clear_capabilities: ClearCapabilities,
    pub block_local_infile: bool,
}

/// The same where the server's bytes are held or changed; `passed` gets those of each of its chunks, and what leaves for the
/// client in their place. Of the client's bytes all pass, or, behind a request that was blocked, none.
pub fn replay_changed<'a>(
    changes: Changes,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
    mut passed: impl FnMut(&[u8], &[u8]),
) -> Vec<Event> {
    let mut events = Vec::new();
    let Changes { hold_split_eof, clear_capabilities, block_local_infile } = changes;
    let mut connection =
        Connection::new(Setup { hold_split_eof, clear_capabilities, block_local_infile, ..SETUP });
    let still = Timestamp::default;
    let mut notes = Notes::default();
    notes.wanted.files = block_local_infile;
    for (sender, bytes) in chunks {
        let mut clock = Clock::new(&still);
        let mut out = Output::new(&mut events, &mut clock, &mut notes);
        match connection.handle_data(sender, &Bytes::copy_from_slice(bytes), false, &mut out) {
            Verdict::Pass if sender == Sender::Client => {}
            Verdict::Pass => passed(bytes, bytes),
            Verdict::Edit(edit) if sender == Sender::Server => {
                passed(bytes, &[&edit.prepend, &bytes[edit.drain..]].concat());
            }
            Verdict::Edit(edit) if is_cut(&events) => {
                assert_eq!((edit.drain, edit.prepend.len()), (bytes.len(), 0));
            }
            verdict => panic!("{sender:?}: {verdict:?}"),
        }
    }
    connection.handle_close(&mut Clock::new(&Timestamp::default), || ClosedBy::Client, &mut events);
    events
}

/// A request was blocked, or requests cannot be judged any more: nothing passes from there on.
pub fn is_cut(events: &[Event]) -> bool {
    let cuts = |event: &Event| matches!(event, Event::LocalInfileBlocked | Event::ProtectionLost(_));
    events.iter().any(cuts)
}

/// What is told where no more than this is looked at.
pub fn replay_observed<'a>(
    inspection: Inspection,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut connection = Connection::new(Setup { inspection, ..SETUP });
    let still = Timestamp::default;
    for (sender, bytes) in chunks {
        let (clock, notes) = (&mut Clock::new(&still), &mut Notes::default());
        let mut out = Output::new(&mut events, clock, notes);
        let verdict = connection.handle_data(sender, &Bytes::copy_from_slice(bytes), false, &mut out);
        assert_eq!(verdict, Verdict::Pass);
    }
    connection.handle_close(&mut Clock::new(&Timestamp::default), || ClosedBy::Proxy, &mut events);
    events
}

/// The same under rules about PROXY headers, and the client's bytes that reach the server, or why it is closed. What the
/// connection holds is handed over again with what follows.
pub fn replay_behind<'a>(
    front: Option<FrontRules>,
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> Result<(Told, Vec<u8>), Refusal> {
    let (mut events, mut held, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    let mut connection = Connection::new(Setup { front, ..SETUP });
    let still = Timestamp::default;
    for (sender, bytes) in chunks {
        let mut notes = Notes::default();
        let mut clock = Clock::new(&still);
        let mut out = Output::new(&mut events, &mut clock, &mut notes);
        if sender == Sender::Server {
            let verdict = connection.handle_data(sender, &Bytes::copy_from_slice(bytes), false, &mut out);
            assert_eq!(verdict, Verdict::Pass);
            continue;
        }
        held.extend(bytes);
        match connection.handle_data(sender, &Bytes::copy_from_slice(&held), false, &mut out) {
            Verdict::Hold => continue,
            Verdict::Pass => passed.append(&mut held),
            Verdict::Edit(edit) => {
                passed.extend(edit.prepend);
                passed.extend(held.drain(..).skip(edit.drain));
            }
            Verdict::Close => return Err(connection.take_refusal().expect("a reason")),
        }
    }
    connection.handle_close(&mut Clock::new(&Timestamp::default), || ClosedBy::Proxy, &mut events);
    let mut told = Told::default();
    for event in events {
        match event {
            Event::Bytes { sender, count } => told.bytes[sender as usize] += count,
            Event::Packets { sender, count } => told.packets[sender as usize] += count,
            Event::CompressedBytes { sender, count } => told.compressed[sender as usize] += count,
            // That an EOF comes later than what is in front of it is all about the cuts.
            Event::PrepareEofSplit { .. } => {}
            other => told.events.push(other),
        }
    }
    Ok((told, passed))
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
