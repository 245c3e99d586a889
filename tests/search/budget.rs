//! How long a search runs.

use std::time::{Duration, Instant};

/// Calls `round` until the time is up; gives the number of rounds.
pub fn search(mut round: impl FnMut()) -> usize {
    let seconds = std::env::var("SEARCH_SECONDS").ok();
    let seconds =
        seconds.map_or(5, |seconds| seconds.parse().expect("SEARCH_SECONDS is a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while Instant::now() < end {
        round();
        rounds += 1;
    }
    println!("{rounds} rounds in {seconds} seconds");
    rounds
}
