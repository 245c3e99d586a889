//! What series have to tell the host.

use super::catalogue::Kind;
use super::histogram::{Pending, bounds};
use super::{Profile, Sink};

/// The most that one response adds to a count of which the server gives the number.
const MAX_PER_RESPONSE: u64 = 1 << 48;

/// The most that is counted in one series of a counter: 128 VMs together stay below 2^63, from where a sum could appear
/// to go backwards.
const MAX_COUNT: i64 = 1 << 56;

/// What one series has to tell.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The host's number for it, once it is defined.
    pub(super) id: Option<u32>,
    pub(super) delta: i64,
    /// Sum of a counter that the host has.
    counted: i64,
}

impl Cell {
    /// Exports the change since the last export to the host, which calls the series `id`. Keeps what the host refuses.
    pub(super) fn export(&mut self, id: u32, kind: Kind, sink: &mut impl Sink) {
        let is_counter = kind != Kind::Gauge;
        if is_counter {
            self.delta = self.delta.min(MAX_COUNT.saturating_sub(self.counted));
        }
        if self.delta != 0 && sink.add(id, self.delta) {
            if is_counter {
                self.counted = self.counted.saturating_add(self.delta);
            }
            self.delta = 0;
        }
    }
}

/// The series of one histogram.
#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) pending: Pending,
    /// The buckets, the count, the sum.
    pub(super) cells: Vec<Cell>,
}

impl Histogram {
    /// One of as many series as [`histogram_series`] says.
    pub(super) fn new(series: usize) -> Self {
        let cells = std::iter::repeat_with(Cell::default).take(series).collect();
        Self { pending: Pending::default(), cells }
    }

    /// Turns durations into what the series have to tell.
    pub(super) fn settle(&mut self, profile: Profile) {
        let counts = bounds(profile).map(|(_, bound)| self.pending.up_to(bound));
        let values: Vec<_> = counts.chain([self.pending.count(), self.pending.micros()]).collect();
        for (cell, value) in self.cells.iter_mut().zip(values) {
            cell.delta = cell.delta.saturating_add(signed(value));
        }
        self.pending.clear();
    }
}

/// The buckets, the count and the sum.
pub(super) fn histogram_series(profile: Profile) -> usize {
    bounds(profile).count().saturating_add(2)
}

/// What a response adds to a counter, if the server says `count`.
pub(super) fn from_response(count: u64) -> i64 {
    signed(count.min(MAX_PER_RESPONSE))
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses the first call.
    #[derive(Default)]
    struct Host(Vec<i64>, bool);

    impl Sink for Host {
        fn define(&mut self, _: Kind, _: &str) -> Option<u32> {
            None
        }

        fn add(&mut self, _: u32, delta: i64) -> bool {
            if std::mem::replace(&mut self.1, true) {
                self.0.push(delta);
                return true;
            }
            false
        }

        fn set(&mut self, _: u32, _: u64) -> bool {
            false
        }
    }

    fn exported(kind: Kind, deltas: &[i64]) -> Vec<i64> {
        let (mut cell, mut host) = (Cell::default(), Host::default());
        for delta in deltas {
            cell.delta = cell.delta.saturating_add(*delta);
            cell.export(1, kind, &mut host);
        }
        host.0
    }

    #[test]
    fn a_counter_ends_at_its_limit_and_a_gauge_does_not() {
        let most = MAX_COUNT;
        assert_eq!(exported(Kind::Counter, &[1, 2, 3]), [3, 3], "what is refused is kept");
        assert_eq!(exported(Kind::Counter, &[0, i64::MAX, 5, i64::MAX, 1]), [most]);
        assert_eq!(exported(Kind::Counter, &[5, most - 7, 1, 9, 9]), [most - 2, 1, 1]);
        assert_eq!(exported(Kind::Histogram, &[1, i64::MAX, 1]), [most]);
        assert_eq!(exported(Kind::Gauge, &[1, 5, -9, i64::MAX]), [6, -9, i64::MAX]);
    }

    #[test]
    fn a_response_adds_no_more_than_its_limit() {
        let cases = [
            (0, 0),
            (7, 7),
            (MAX_PER_RESPONSE, 1 << 48),
            (MAX_PER_RESPONSE + 1, 1 << 48),
            (u64::MAX, 1 << 48),
        ];
        for (count, expected) in cases {
            assert_eq!(from_response(count), expected);
        }
    }
}
