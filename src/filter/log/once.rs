//! Reports that are logged once for each key, such as a port or a client release.

use std::cell::Cell;

/// Keys that were reported, each with the number of its occurrences.
pub(in crate::filter) struct ReportOnce<K> {
    counts: Cell<Vec<(K, u64)>>,
    max_keys: usize,
}

impl<K: PartialEq> ReportOnce<K> {
    /// Creates a table for at most `max_keys` keys. Further keys are never reported.
    pub(in crate::filter) fn new(max_keys: usize) -> Self {
        Self { counts: Cell::default(), max_keys }
    }

    /// Counts an occurrence of `key`. Returns the number of its occurrences; `None` if the table is full.
    pub(super) fn count(&self, key: K) -> Option<u64> {
        let mut counts = self.counts.take();
        let known = counts.iter_mut().find(|(counted, _)| *counted == key);
        let count = if let Some((_, count)) = known {
            *count = count.saturating_add(1);
            Some(*count)
        } else if counts.len() < self.max_keys {
            counts.push((key, 1));
            Some(1)
        } else {
            None
        };
        self.counts.set(counts);
        count
    }

    /// Counts an occurrence of `key`. Returns true if the caller must report it.
    pub(super) fn is_first(&self, key: K) -> bool {
        self.count(key) == Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_occurrence_of_each_key_is_reported() {
        let ports = ReportOnce::new(usize::MAX);
        assert_eq!(
            [25, 110, 25, 110, 143].map(|port| ports.is_first(port)),
            [true, true, false, false, true]
        );
        assert_eq!((ports.count(25), ports.count(143), ports.count(21)), (Some(3), Some(2), Some(1)));
    }

    #[test]
    fn a_full_table_counts_its_keys_and_reports_no_others() {
        let ports = ReportOnce::new(2);
        assert_eq!([25, 110, 143, 25].map(|port| ports.count(port)), [Some(1), Some(1), None, Some(2)]);
        assert!(!ports.is_first(143));
    }
}
