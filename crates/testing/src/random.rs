//! Pseudo-random numbers that a seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    /// Takes the seed from `FIRSTWORD_SEED`, else from the clock, and prints it so that a failed run can be repeated.
    pub fn from_environment() -> Self {
        let given = std::env::var("FIRSTWORD_SEED").ok();
        let seed = given.map_or_else(
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64),
            |seed| seed.parse().expect("FIRSTWORD_SEED is a number"),
        );
        println!("repeat with FIRSTWORD_SEED={seed}");
        Self(seed)
    }

    /// Starts the sequence of this seed. Consecutive seeds have unrelated sequences.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next())
    }

    /// Starts another sequence, for another thread.
    pub fn another(&mut self) -> Self {
        Self(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number less than `bound`. `bound` must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
