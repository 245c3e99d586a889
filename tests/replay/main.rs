//! Replays of captures of real connections. Neither the cuts of a capture nor a legal order of its two directions changes the
//! events, and the counts equal the server's.
//!
//! `FIRSTWORD_BLESS=1 cargo test --test replay captures_emit` writes the expected events again. Read the difference before
//! you commit it.

// A test reports through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod against_mysql_common;
mod all_stages;
mod clear_and_block;
mod hold_split_eof;
mod inspection;
mod interleavings;
mod packets;
mod proxy_headers;
mod server_counters;

use std::fs;

use bytes::Bytes;
use firstword::event::Sender;
use firstword_testing::capture::{self, Chunks};
use firstword_testing::replay::{Captured, byte_by_byte, captures, cut_once, replay, whole};

#[test]
fn captures_emit_the_expected_events() {
    let mut wrong = Vec::new();
    for Captured { name, chunks, .. } in captures() {
        let emitted = replay(whole(&chunks)).text();
        let path = capture::directory().join(format!("{name}.events"));
        if std::env::var_os("FIRSTWORD_BLESS").is_some() {
            fs::write(&path, &emitted).unwrap();
        }
        if emitted != fs::read_to_string(&path).unwrap_or_default() {
            wrong.push(format!("{name} emits:\n{emitted}"));
        }
    }
    assert!(wrong.is_empty(), "not the expected events:\n{}", wrong.join("\n"));
}

#[test]
fn cuts_do_not_change_the_events() {
    for Captured { name, chunks, .. } in captures() {
        let uncut = replay(whole(&chunks));
        assert_eq!(replay(byte_by_byte(&chunks)), uncut, "{name}");
        for (index, (_, bytes)) in chunks.iter().enumerate() {
            for cut in 1..bytes.len() {
                assert_eq!(
                    replay(cut_once(&chunks, index, cut)),
                    uncut,
                    "{name}: chunk {index} cut at {cut}"
                );
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
