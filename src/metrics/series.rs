//! What series have to tell the host.

use super::Profile;
use super::histogram::{Pending, bounds};

/// What one series has to tell.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The host's number for it, once it is defined.
    pub(super) id: Option<u32>,
    pub(super) delta: i64,
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

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
