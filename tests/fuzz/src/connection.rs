//! Any bytes as a connection: both directions, cut and interleaved anyhow, under any rules, with ticks, ends and changes of
//! the mode between them. It runs the core as the replay tests do.

#![no_main]

#[path = "../../../crates/testing/src/balance.rs"]
mod balance;
mod driver;
#[path = "../../../crates/testing/src/heap.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod heap;
#[path = "../../../crates/testing/src/link.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod link;
mod plan;
mod seeds;
#[path = "../../../crates/testing/src/capture/text.rs"]
#[allow(dead_code, reason = "captures are only read here")]
mod text;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use driver::Driver;
use firstword::event::{Event, Sender};
use firstword::proxy_protocol::{Endpoints, Format, encode};
use libfuzzer_sys::fuzz_target;
use plan::{Plan, RECEIVE, SEND, TRUSTED};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// What a connection told: what does not depend on how its chunks are cut, and the sums of what does.
fn apart(told: Vec<Event>) -> (Vec<Event>, [u64; 2]) {
    let mut sums = [0; 2];
    let mut rest = Vec::new();
    for event in told {
        match event {
            Event::Packets { sender, count } => sums[sender as usize] += count,
            // `Driver` sums up bytes; compressed ones are counted from the first chunk that holds nothing else. That an EOF
            // comes later than what is in front of it is all about the cuts.
            Event::Bytes { .. } | Event::CompressedBytes { .. } | Event::PrepareEofSplit { .. } => {}
            other => rest.push(other),
        }
    }
    (rest, sums)
}

fn any_connection(plan: &Plan) {
    let told = Driver::run(plan, usize::MAX);
    let cut = Driver::run(plan, plan.piece);
    if plan.is_plain() {
        assert_eq!(apart(cut), apart(told), "in pieces of {} bytes", plan.piece);
    }
}

/// Each capture, under no rule and in turn under one that changes bytes.
fn examples() -> Vec<Vec<u8>> {
    let directory =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../captures")).expect("captures");
    let mut paths: Vec<_> = directory.map(|entry| entry.expect("a capture").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cap"));
    paths.sort();
    let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let endpoints = Endpoints { source: address(56324), destination: address(3306) };
    let rules = [0x01, 0x02, 0x1c, 0x20, 0x3e];
    let mut seeds = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let text = fs::read_to_string(path).expect("a capture");
        let mut chunks = text::parse(&text);
        seeds.push(plan::write([0, 0, 0, 0], &chunks));
        seeds.push(plan::write([rules[index % rules.len()], 0, 0, 0xc0], &chunks));
        // Behind a header, which is received and sent on.
        if index % 8 == 0 {
            let format = if index % 16 == 0 { Format::V1 } else { Format::V2 };
            chunks.insert(0, (Sender::Client, Bytes::from(encode(format, Some(endpoints)))));
            seeds.push(plan::write([RECEIVE | SEND, 0, TRUSTED, 0], &chunks));
        }
    }
    seeds
}

fuzz_target!(init: seeds::write(examples()), |input: &[u8]| {
    if let Some(plan) = Plan::read(input) {
        any_connection(&plan);
    }
});
