//! Captures of real connections, replayed: every capture tells the same however it is cut and in whatever legal order its
//! two directions pass, and what it tells is what the server counted.
//!
//! `FIRSTWORD_BLESS=1 cargo test --test replay captures_tell` writes the events down anew; read the difference before
//! committing it.

// A panic is how a test reports.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod changed;
mod counted;
mod front;
mod held;
mod observe;
mod orders;
mod packets;
mod peer_review;
mod together;

use std::fs;

use bytes::Bytes;
use firstword::event::Sender;
use firstword_testing::capture::{self, Chunks};
use firstword_testing::replay::{Captured, captures, parts, replay, whole};

#[test]
fn captures_tell_what_is_written_down() {
    let mut wrong = Vec::new();
    for Captured { name, chunks, .. } in captures() {
        let told = replay(whole(&chunks)).text();
        let path = capture::directory().join(format!("{name}.events"));
        if std::env::var_os("FIRSTWORD_BLESS").is_some() {
            fs::write(&path, &told).unwrap();
        }
        if told != fs::read_to_string(&path).unwrap_or_default() {
            wrong.push(format!("{name} tells:\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "not what is written down:\n{}", wrong.join("\n"));
}

#[test]
fn every_cut_tells_the_same() {
    for Captured { name, chunks, .. } in captures() {
        let uncut = replay(whole(&chunks));
        assert_eq!(replay(parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect())), uncut, "{name}");
        for (index, (_, bytes)) in chunks.iter().enumerate() {
            for cut in 1..bytes.len() {
                let cut_here = |at, len| {
                    let cut = if at == index { cut } else { len };
                    vec![0..cut, cut..len]
                };
                assert_eq!(replay(parts(&chunks, cut_here)), uncut, "{name}: chunk {index} cut at {cut}");
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
