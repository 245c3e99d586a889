//! The known connections of a capture, by their ends. No operation touches more than two entries, so that the time grows with
//! the packets of a capture and not with its connections.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The connection between two ends.
pub(super) enum Entry<'t, F> {
    Unknown,
    /// A connection that is followed.
    Open(&'t mut F),
    /// A connection that has ended or is not followed, with the sequence number of its SYN.
    Ended(Option<u32>),
}

/// Open connections, and the newest of those that have ended.
pub(super) struct Table<K, F> {
    open: HashMap<K, F>,
    /// Ended connections. The number is that of the newest entry of `order` with this key.
    ended: HashMap<K, (u64, Option<u32>)>,
    /// Ended connections, the oldest first, with entries of connections that have begun again.
    order: VecDeque<(u64, K)>,
    ends: u64,
    max_open: usize,
    max_ended: usize,
    /// Number of entries that operations touched.
    #[cfg(test)]
    pub(super) touched: u64,
}

impl<K: Copy + Eq + Hash, F> Table<K, F> {
    /// An empty table with a maximum number of open connections and of ended ones.
    pub(super) fn new(max_open: usize, max_ended: usize) -> Self {
        Self {
            open: HashMap::new(),
            ended: HashMap::new(),
            order: VecDeque::new(),
            ends: 0,
            max_open,
            max_ended,
            #[cfg(test)]
            touched: 0,
        }
    }

    fn touch(&mut self) {
        #[cfg(test)]
        {
            self.touched = self.touched.saturating_add(1);
        }
    }

    pub(super) fn get(&mut self, key: K) -> Entry<'_, F> {
        self.touch();
        match self.open.get_mut(&key) {
            Some(flow) => Entry::Open(flow),
            None => self.ended.get(&key).map_or(Entry::Unknown, |(_, isn)| Entry::Ended(*isn)),
        }
    }

    /// Whether another connection can be opened.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < self.max_open
    }

    /// Adds an open connection. There must be room.
    pub(super) fn open(&mut self, key: K, flow: F) {
        self.touch();
        self.ended.remove(&key);
        self.open.insert(key, flow);
    }

    /// Removes an open connection.
    pub(super) fn close(&mut self, key: K) -> Option<F> {
        self.touch();
        self.open.remove(&key)
    }

    /// Remembers a connection that has ended or is not followed. Forgets the oldest one if there are too many.
    pub(super) fn remember(&mut self, key: K, isn: Option<u32>) {
        self.touch();
        self.ends = self.ends.saturating_add(1);
        self.ended.insert(key, (self.ends, isn));
        self.order.push_back((self.ends, key));
        if self.order.len() > self.max_ended {
            self.touch();
            let Some((number, oldest)) = self.order.pop_front() else { return };
            if self.ended.get(&oldest).is_some_and(|(newest, _)| *newest == number) {
                self.ended.remove(&oldest);
            }
        }
    }

    pub(super) fn into_open(self) -> impl Iterator<Item = F> {
        self.open.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Table<u32, u32> {
        fn sizes(&self) -> [usize; 3] {
            [self.open.len(), self.ended.len(), self.order.len()]
        }
    }

    #[test]
    fn the_work_grows_with_the_connections_and_the_memory_does_not() {
        for connections in [100_000_u32, 300_000] {
            let mut table = Table::new(1 << 16, 1 << 16);
            for key in 0..connections {
                assert!(matches!(table.get(key), Entry::Unknown));
                if table.has_room() {
                    table.open(key, key);
                } else {
                    table.remember(key, Some(key));
                }
            }
            assert!(table.touched <= 3 * u64::from(connections), "{}", table.touched);
            let refused = (connections as usize - (1 << 16)).min(1 << 16);
            assert_eq!(table.sizes(), [1 << 16, refused, refused]);
        }
    }

    #[test]
    fn connections_that_begin_again_do_not_fill_the_table() {
        let mut table = Table::new(2, 3);
        for isn in 0..100 {
            table.open(7, isn);
            assert!(matches!(table.get(7), Entry::Open(found) if *found == isn));
            assert_eq!(table.close(7), Some(isn));
            table.remember(7, Some(isn));
            assert!(matches!(table.get(7), Entry::Ended(Some(found)) if found == isn));
        }
        assert_eq!(table.sizes(), [0, 1, 3]);
        for key in [8, 9] {
            table.remember(key, None);
        }
        assert!(matches!(table.get(7), Entry::Ended(Some(99))));
        table.remember(10, None);
        assert!(matches!(table.get(7), Entry::Unknown), "the oldest is forgotten");
        assert!(matches!(table.get(8), Entry::Ended(None)));
        assert_eq!(table.sizes(), [0, 3, 3]);
    }
}
