//! The seed and the time of a search.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::random::Random;

/// The rounds of a search. Each round has a seed of its own.
pub struct Budget {
    first: u64,
    rounds: u64,
    deadline: Instant,
}

impl Budget {
    /// A budget of `SEARCH_SECONDS`, or of `default` seconds. The first seed is `SEARCH_SEED`, or comes from the clock.
    pub fn from_environment(search: &str, default: u64) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
        };
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let first = number("SEARCH_SEED").unwrap_or_else(clock);
        let seconds = number("SEARCH_SECONDS").unwrap_or(default);
        println!("{search}: SEARCH_SEED={first} SEARCH_SECONDS={seconds}");
        Self { first, rounds: 0, deadline: Instant::now() + Duration::from_secs(seconds) }
    }

    /// The number of rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }
}

/// The seed of each round and its random numbers. There is at least one round.
impl Iterator for Budget {
    type Item = (u64, Random);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rounds > 0 && Instant::now() >= self.deadline {
            return None;
        }
        let seed = self.first.wrapping_add(self.rounds);
        self.rounds += 1;
        Some((seed, Random::new(seed)))
    }
}
