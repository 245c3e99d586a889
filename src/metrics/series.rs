//! Series that wait for their export to the host.

use super::catalogue::Kind;
use super::histogram::{Pending, bounds};
use super::{Profile, Sink};

/// Maximum that one response adds to a counter whose number the server sends.
const MAX_PER_RESPONSE: u64 = 1 << 48;

/// Maximum value of one series of a counter. The sum of 128 VMs stays below 2^63, so that it never appears to go backwards.
const MAX_COUNT: i64 = 1 << 56;

/// One series.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The host's number for the series; `None` until the host has defined it.
    pub(super) id: Option<u32>,
    /// The change since the last export.
    pub(super) delta: i64,
    /// The sum of a counter that the host has.
    exported: i64,
}

impl Cell {
    /// Exports the change since the last export to the series `id` of the host. Keeps the change if the host refuses it.
    pub(super) fn export(&mut self, id: u32, kind: Kind, sink: &mut impl Sink) {
        let is_counter = kind != Kind::Gauge;
        if is_counter {
            self.delta = self.delta.min(MAX_COUNT.saturating_sub(self.exported));
        }
        if self.delta != 0 && sink.add(id, self.delta) {
            if is_counter {
                self.exported = self.exported.saturating_add(self.delta);
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
    /// A histogram of [`histogram_series`] series.
    pub(super) fn new(series: usize) -> Self {
        let cells = std::iter::repeat_with(Cell::default).take(series).collect();
        Self { pending: Pending::default(), cells }
    }

    /// Adds the pending durations to the series.
    pub(super) fn apply_pending(&mut self, profile: Profile) {
        let counts = bounds(profile).map(|(_, bound)| self.pending.up_to(bound));
        let values: Vec<_> = counts.chain([self.pending.count(), self.pending.micros()]).collect();
        for (cell, value) in self.cells.iter_mut().zip(values) {
            cell.delta = cell.delta.saturating_add(signed(value));
        }
        self.pending.clear();
    }
}

/// Number of series of a histogram: the buckets, the count and the sum.
pub(super) fn histogram_series(profile: Profile) -> usize {
    bounds(profile).count().saturating_add(2)
}

/// The amount that a response adds to a counter, if the server sends `count`.
pub(super) fn from_response(count: u64) -> i64 {
    signed(count.min(MAX_PER_RESPONSE))
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that refuses the first call.
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
    fn a_counter_stops_at_its_limit_and_a_gauge_does_not() {
        let max = MAX_COUNT;
        assert_eq!(exported(Kind::Counter, &[1, 2, 3]), [3, 3], "a refused change is kept");
        assert_eq!(exported(Kind::Counter, &[0, i64::MAX, 5, i64::MAX, 1]), [max]);
        assert_eq!(exported(Kind::Counter, &[5, max - 7, 1, 9, 9]), [max - 2, 1, 1]);
        assert_eq!(exported(Kind::Histogram, &[1, i64::MAX, 1]), [max]);
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
