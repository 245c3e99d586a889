//! Progress on the terminal: the round, and the time that the rest takes.

use std::time::Instant;

/// Progress of one part of the run.
pub(crate) struct Progress {
    part: &'static str,
    rounds: usize,
    began: Instant,
}

impl Progress {
    pub(crate) fn start(part: &'static str, rounds: usize) -> Self {
        Self { part, rounds, began: Instant::now() }
    }

    /// Shows the begin of a round, counted from 0.
    pub(crate) fn show(&self, round: usize) {
        let Self { part, rounds, began } = self;
        let left = began.elapsed().as_secs_f64() / round as f64 * (rounds - round) as f64;
        let left = if round == 0 { String::new() } else { format!(", about {left:.0} seconds left") };
        eprintln!("{part}: round {} of {rounds}{left}", round + 1);
    }
}
