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

/// Time for which worlds are run. It bounds the number of worlds, and nothing else.
const DURATION: Duration = Duration::from_secs(20);

#[test]
fn every_world_forwards_and_counts_as_its_scripts_say() {
    let given =
        std::env::var("FIRSTWORD_SEED").ok().map(|seed| seed.parse().expect("FIRSTWORD_SEED is a number"));
    let first: u64 = given.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()).wrapping_mul(1_000_000)
    });
    let begin = Instant::now();
    let mut totals = Totals::default();
    let mut seed = first;
    loop {
        match catch_unwind(|| World::run(seed)) {
            Ok(world) => totals.add(&world),
            Err(_) => panic!("a world failed; repeat it with FIRSTWORD_SEED={seed}"),
        }
        seed += 1;
        if given.is_some() || begin.elapsed() >= DURATION {
            break;
        }
    }
    println!("{} worlds, seeds {first} to {}: {totals:?}", seed - first, seed - 1);
    if given.is_none() {
        totals.assert_that_everything_happened();
    }
}
