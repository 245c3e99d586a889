//! Many connections, configurations and faults against the filter, without a proxy. A seed decides everything, so a world that
//! fails can be repeated: `FIRSTWORD_SEED=N cargo test --test simulation`.
//!
//! In each world the connections of five rules are opened, cut into pieces, ended and reset in any order, while configurations
//! replace each other and the host refuses calls. The world checks after each step that every byte is forwarded as the rule
//! says, and at the end that each connection is counted as its script says, and that every gauge is 0.

// A test reports through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    // The worlds have a clock of their own; this one chooses the first seed and bounds the number of worlds.
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod peers;
mod rule;
mod script;
mod world;

use std::panic::catch_unwind;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use world::{Totals, World};

/// Time for which worlds are run. It bounds the number of worlds, and nothing else. `make search` sets another one.
const SECONDS: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The same worlds in each run, so that a run fails only because of a change. `make search` runs others each time.
#[test]
fn every_world_forwards_and_counts_as_its_scripts_say() {
    let (given, search) = (number("FIRSTWORD_SEED"), number("SEARCH_SECONDS"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let first = given.unwrap_or_else(|| search.map_or(0, |_| now.wrapping_mul(1_000_000)));
    let duration = Duration::from_secs(search.unwrap_or(SECONDS));
    let begin = Instant::now();
    let mut totals = Totals::default();
    let mut seed = first;
    loop {
        match catch_unwind(|| World::run(seed)) {
            Ok(world) => totals.add(&world),
            Err(_) => panic!("a world failed; repeat it with FIRSTWORD_SEED={seed}"),
        }
        seed += 1;
        if given.is_some() || begin.elapsed() >= duration {
            break;
        }
    }
    println!("{} worlds, seeds {first} to {}: {totals:?}", seed - first, seed - 1);
    if given.is_none() {
        totals.assert_that_everything_happened();
    }
}
