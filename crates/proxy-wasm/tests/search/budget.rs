//! Duration of a search, and repetition of one of its runs.
//!
//! `SEARCH_SECONDS=600 cargo test --test search` searches longer. `FIRSTWORD_SEED=7` repeats only the run of that seed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firstword_testing::random::Random;

/// Default of `SEARCH_SECONDS`.
const SECONDS: u64 = 5;

/// Seed of a run. It is printed if the run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("repeat with FIRSTWORD_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Repeats `run` with different seeds until the time is over, at least once. Returns the number of runs.
pub fn search(mut run: impl FnMut(&mut Random)) -> u64 {
    let mut once = |seed| {
        let _seed = Seed(seed);
        run(&mut Random::from_seed(seed));
    };
    if let Some(seed) = number("FIRSTWORD_SEED") {
        once(seed);
        return 1;
    }
    let until = Instant::now() + Duration::from_secs(number("SEARCH_SECONDS").unwrap_or(SECONDS));
    let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    println!("the first seed is {first}");
    let mut runs = 0;
    while runs == 0 || Instant::now() < until {
        once(first.wrapping_add(runs));
        runs += 1;
    }
    println!("{runs} runs");
    runs
}
