//! Every capture gives the same events however it is cut: whole, at every byte, byte by byte.
//!
//! `FIRSTWORD_BLESS=1 cargo test --test replay` writes the events down anew; read the difference before committing it.

// A panic is how a test reports.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::ops::Range;

use bytes::Bytes;
use firstword::clock::{Clock, Timestamp};
use firstword::connection::{Chunk, Connection, Inspection};
use firstword::event::{ClosedBy, Event, Protocol, Sender};
use firstword::mysql::session::Observer;
use support::capture::{self, Chunks};

/// What a connection told: events in order, and sums of what depends on the cuts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    events: Vec<Event>,
    bytes: [u64; 2],
    packets: [u64; 2],
}

impl Told {
    fn text(&self) -> String {
        let mut text: String = self.events.iter().map(|event| format!("{event:?}\n")).collect();
        for sender in Sender::ALL {
            let (bytes, packets) = (self.bytes[*sender as usize], self.packets[*sender as usize]);
            text.push_str(&format!("{}: {bytes} bytes, {packets} packets\n", sender.label()));
        }
        text
    }
}

fn replay<'a>(chunks: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Told {
    let mut events = Vec::new();
    let mut connection = Connection::new(Inspection::Full, Protocol::Unknown, Timestamp::default());
    let still = Timestamp::default;
    for (sender, bytes) in chunks {
        let mut to = Observer { events: &mut events, clock: &mut Clock::new(&still) };
        let chunk = Bytes::copy_from_slice(bytes);
        assert_eq!(Chunk::len(&chunk), bytes.len());
        connection.handle_data(sender, &chunk, false, &mut to);
    }
    connection.handle_close(|| ClosedBy::Proxy, &mut events);
    let mut told = Told::default();
    for event in events {
        match event {
            Event::Bytes { sender, count } => told.bytes[sender as usize] += count,
            Event::Packets { sender, count } => told.packets[sender as usize] += count,
            other => told.events.push(other),
        }
    }
    told
}

fn parts(chunks: &Chunks, ranges: impl Fn(usize, usize) -> Vec<Range<usize>>) -> Vec<(Sender, &[u8])> {
    let numbered = chunks.iter().enumerate();
    numbered
        .flat_map(|(index, (sender, bytes))| {
            let ranges = ranges(index, bytes.len()).into_iter();
            ranges.filter(|range| !range.is_empty()).map(|range| (*sender, &bytes[range]))
        })
        .collect()
}

fn whole(_: usize, len: usize) -> Vec<Range<usize>> {
    std::iter::once(0..len).collect()
}

fn captures() -> Vec<(String, Chunks)> {
    let mut captures: Vec<_> = fs::read_dir(capture::directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cap"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, capture::parse(&fs::read_to_string(path).unwrap()))
        })
        .collect();
    captures.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!captures.is_empty(), "there are captures");
    captures
}

#[test]
fn captures_tell_what_is_written_down() {
    for (name, chunks) in captures() {
        let told = replay(parts(&chunks, whole)).text();
        let path = capture::directory().join(format!("{name}.events"));
        if std::env::var_os("FIRSTWORD_BLESS").is_some() {
            fs::write(&path, &told).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(told, written, "{name}");
    }
}

#[test]
fn every_cut_tells_the_same() {
    for (name, chunks) in captures() {
        let uncut = replay(parts(&chunks, whole));
        assert_eq!(replay(parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect())), uncut, "{name}");
        for (index, (_, bytes)) in chunks.iter().enumerate() {
            for cut in 1..bytes.len() {
                let told =
                    replay(parts(
                        &chunks,
                        |at, len| {
                            if at == index { vec![0..cut, cut..len] } else { whole(at, len) }
                        },
                    ));
                assert_eq!(told, uncut, "{name}: chunk {index} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_capture_reads_back_as_it_was_written() {
    let chunks: Chunks = vec![
        (Sender::Server, Bytes::from_static(b"\x00\xff5.5.5")),
        (Sender::Client, Bytes::from_static(b"\x01")),
    ];
    assert_eq!(capture::parse(&capture::format(&["server: none".to_owned()], &chunks)), chunks);
}
