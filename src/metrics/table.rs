//! A table of series by their keys, fast for the few that every command counts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Number of entries that are found without a search. A command counts about ten series, and a worker has a few destinations.
const SLOTS: usize = 256;

/// The position of an entry, and its rank.
#[derive(Clone, Copy, Debug)]
struct Slot {
    rank: u64,
    position: usize,
}

/// Slot without an entry. No table has an entry at this position.
const EMPTY: Slot = Slot { rank: 0, position: usize::MAX };

/// Entries by their rank. None is ever removed.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<T>,
    /// Positions in `entries`.
    positions: BTreeMap<u64, usize>,
    /// The last entry found for each hash of a rank, if there are entries.
    recent: Vec<Slot>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), positions: BTreeMap::new(), recent: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, rank: u64) -> bool {
        self.positions.contains_key(&rank)
    }

    /// Returns the entry with this rank, if it is the last one found for its hash.
    pub(super) fn recent(&mut self, rank: u64) -> Option<&mut T> {
        let slot = self.recent.get(hash(rank)).filter(|slot| slot.rank == rank)?;
        self.entries.get_mut(slot.position)
    }

    /// Returns the entry with this rank, which then is the last one found for its hash.
    pub(super) fn get_mut(&mut self, rank: u64) -> Option<&mut T> {
        let position = *self.positions.get(&rank)?;
        *self.recent.get_mut(hash(rank))? = Slot { rank, position };
        self.entries.get_mut(position)
    }

    /// Returns the entry with this rank, which `new` makes if it does not exist.
    pub(super) fn get_or_insert_with(&mut self, rank: u64, new: impl FnOnce() -> T) -> Option<&mut T> {
        self.recent.resize(SLOTS, EMPTY);
        let next = self.entries.len();
        let position = *self.positions.entry(rank).or_insert(next);
        if position == next {
            self.entries.push(new());
        }
        self.entries.get_mut(position)
    }

    /// Calls `act` with each entry, by rank.
    pub(super) fn for_each(&mut self, mut act: impl FnMut(&mut T)) {
        for position in self.positions.values() {
            self.entries.get_mut(*position).map(&mut act);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    /// Returns the entries whose rank is in a range, by rank.
    pub(super) fn range(&self, ranks: RangeInclusive<u64>) -> impl Iterator<Item = &T> {
        self.positions.range(ranks).filter_map(|(_, position)| self.entries.get(*position))
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4). Less than [`SLOTS`].
fn hash(rank: u64) -> usize {
    let mixed = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 56).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many more entries than slots, so that most lookups find another entry in their slot.
    #[test]
    fn an_entry_is_found_whatever_was_found_before() {
        let mut table = Table::default();
        let ranks: Vec<u64> = (0..1000).map(|n: u64| n.wrapping_mul(0x0001_0000_0001_0007)).collect();
        assert!(ranks.iter().all(|rank| hash(*rank) < SLOTS));
        for rank in &ranks {
            assert_eq!(table.get_mut(*rank), None);
            assert_eq!(table.recent(*rank), None);
            *table.get_or_insert_with(*rank, || 0_u64).unwrap() += rank;
        }
        for _ in 0..2 {
            for rank in ranks.iter().rev() {
                assert_eq!(table.get_mut(*rank), Some(&mut rank.clone()));
                assert_eq!(table.recent(*rank), Some(&mut rank.clone()), "again, from its slot");
                assert!(table.contains(*rank));
            }
        }
        assert_eq!(table.get_or_insert_with(ranks[7], || 0), Some(&mut ranks[7].clone()));
        assert_eq!((table.len(), table.get_mut(1)), (1000, None));
    }

    #[test]
    fn entries_have_the_order_of_their_ranks() {
        let mut table = Table::default();
        for rank in [5, 0, 9, 7] {
            table.get_or_insert_with(rank, || rank);
        }
        let mut ordered = Vec::new();
        table.for_each(|entry| ordered.push(*entry));
        assert_eq!(ordered, [0, 5, 7, 9]);
        assert_eq!(table.range(5..=8).collect::<Vec<_>>(), [&5, &7]);
        assert_eq!(table.iter().collect::<Vec<_>>(), [&5, &0, &9, &7]);
    }
}
