//! Durations as cumulative bucket counters with an exact sum.

use std::time::Duration;

use super::Profile;

/// Upper bounds in steps of 1, 2.5 and 5: the text of the label, nanoseconds, and whether `standard` exports it. Those of `standard`
/// are the bounds that OpenTelemetry advises for database calls, and one below them.
const BOUNDS: [(&str, u64, bool); 16] = [
    ("0.0001", 100_000, false),
    ("0.00025", 250_000, true),
    ("0.0005", 500_000, false),
    ("0.001", 1_000_000, true),
    ("0.0025", 2_500_000, false),
    ("0.005", 5_000_000, true),
    ("0.01", 10_000_000, true),
    ("0.025", 25_000_000, false),
    ("0.05", 50_000_000, true),
    ("0.1", 100_000_000, true),
    ("0.25", 250_000_000, false),
    ("0.5", 500_000_000, true),
    ("1", 1_000_000_000, true),
    ("2.5", 2_500_000_000, false),
    ("5", 5_000_000_000, true),
    ("10", 10_000_000_000, true),
];

/// The label of the last bucket.
const INFINITY: &str = "+Inf";

/// The bounds that a profile exports.
pub fn bounds(profile: Profile) -> impl Iterator<Item = (&'static str, u64)> {
    let exported = BOUNDS.into_iter().filter(move |(.., standard)| *standard || profile == Profile::Full);
    exported.map(|(le, nanos, _)| (le, nanos)).chain([(INFINITY, u64::MAX)])
}

/// Durations that are not exported yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// Number of durations between the bound before and this one.
    counts: [u64; BOUNDS.len() + 1],
    count: u64,
    nanos: u64,
}

impl Pending {
    /// Adds a duration.
    pub fn observe(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let index = BOUNDS.iter().position(|(_, bound, _)| nanos <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Number of durations of at most `bound` nanoseconds.
    #[must_use]
    pub fn up_to(&self, bound: u64) -> u64 {
        let bounds = BOUNDS.iter().map(|(_, bound, _)| *bound).chain([u64::MAX]);
        let within = bounds.zip(self.counts).take_while(|(upper, _)| *upper <= bound);
        within.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Sum of the durations in whole microseconds.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.nanos / 1000
    }

    /// Removes the durations after their export. The remaining part of a microsecond stays.
    pub fn clear(&mut self) {
        *self = Self { nanos: self.nanos % 1000, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() {
        let mut pending = Pending::default();
        for micros in [100, 101, 10_000_000, 10_000_001] {
            pending.observe(Duration::from_micros(micros));
        }
        let counts: Vec<_> = bounds(Profile::Full).map(|(le, bound)| (le, pending.up_to(bound))).collect();
        assert_eq!(counts.first(), Some(&("0.0001", 1)));
        assert_eq!(counts.get(1), Some(&("0.00025", 2)));
        assert_eq!(counts.get(15), Some(&("10", 3)));
        assert_eq!(counts.get(16), Some(&("+Inf", 4)));
        assert_eq!(pending.micros(), 20_000_202);
    }

    #[test]
    fn the_standard_profile_has_the_bounds_of_opentelemetry_and_one_below() {
        let standard: Vec<_> = bounds(Profile::Standard).map(|(le, _)| le).collect();
        assert_eq!(
            standard,
            ["0.00025", "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "10", "+Inf"]
        );
    }

    #[test]
    fn parts_of_a_microsecond_are_not_lost() {
        let mut pending = Pending::default();
        let mut micros = 0;
        for _ in 0..10 {
            pending.observe(Duration::from_nanos(1_300));
            micros += pending.micros();
            pending.clear();
        }
        assert_eq!(micros, 13);
    }
}
