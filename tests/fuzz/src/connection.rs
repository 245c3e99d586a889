//! Fuzz target: a connection with random bytes, cuts, order of the directions, rules, ticks, ends and changes of the mode. It
//! runs the core with the same host model as the replay tests.

#![no_main]

mod driver;
#[path = "../../../crates/testing/src/heap.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod heap;
#[path = "../../../crates/testing/src/invariants.rs"]
mod invariants;
#[path = "../../../crates/testing/src/link.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod link;
mod packets;
mod plan;
mod seeds;

use std::net::SocketAddr;

use bytes::Bytes;
use driver::Driver;
use firstword::event::{Event, Sender};
use firstword::proxy_protocol::{Endpoints, Format, encode};
use libfuzzer_sys::fuzz_target;
use plan::{Plan, RECEIVE, SEND, TRUSTED};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// The events that do not depend on the cuts, and the number of packets of each side.
fn without_cuts(events: Vec<Event>) -> (Vec<Event>, [u64; 2]) {
    let mut packets = [0; 2];
    let mut rest = Vec::new();
    for event in events {
        match event {
            Event::Packets { sender, count } => packets[sender as usize] += count,
            // `Driver` checks the number of bytes. Compressed bytes are counted from the first chunk that holds nothing else.
            // The cuts alone decide whether an EOF arrives later than the packet before it.
            Event::Bytes { .. } | Event::CompressedBytes { .. } | Event::PrepareEofSplit { .. } => {}
            // Only equal commands that arrive in one callback share an event.
            Event::CommandsAbandoned { count, .. } => {
                let ended = *rest.last().expect("the first of these commands");
                rest.extend((0..count).map(|_| ended));
            }
            other => rest.push(other),
        }
    }
    (rest, packets)
}

fn any_connection(plan: &Plan) {
    let uncut = Driver::run(plan, usize::MAX);
    let cut = Driver::run(plan, plan.piece);
    if plan.is_plain() {
        assert_eq!(without_cuts(cut), without_cuts(uncut), "in pieces of {} bytes", plan.piece);
    }
}

/// Each capture twice: without a rule, and under one of the rules that change bytes.
fn examples() -> Vec<Vec<u8>> {
    let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let endpoints = Endpoints { source: address(56324), destination: address(3306) };
    let rules = [0x01, 0x02, 0x1c, 0x20, 0x3e];
    let mut seeds = Vec::new();
    for (index, mut chunks) in packets::captures().into_iter().enumerate() {
        seeds.push(plan::write([0, 0, 0, 0], &chunks));
        seeds.push(plan::write([rules[index % rules.len()], 0, 0, 0xc0], &chunks));
        // Some captures also follow a PROXY header, which is received and sent on.
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
