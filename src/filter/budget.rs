//! Memory budget of a worker for the state of its connections. It belongs to the worker and not to a configuration, because
//! all configurations of a worker share its memory.

use std::cell::Cell;

/// Minimum share in bytes. A connection that needs less is never above its share.
const MIN_SHARE: usize = 4 << 10;

thread_local! {
    static WORKER: Cell<Worker> = const { Cell::new(Worker { connection_state: 0, connections: 0 }) };
}

#[derive(Clone, Copy)]
struct Worker {
    /// Sum of the reservations of all connections, in bytes.
    connection_state: usize,
    /// Number of connections that have a reservation.
    connections: usize,
}

/// Bytes that one connection has reserved. Dropping it returns them to the budget.
#[derive(Debug, Default)]
pub(super) struct Reservation(usize);

impl Reservation {
    /// Replaces the current reservation by one of `bytes`.
    pub(super) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.0, bytes);
        if before != bytes {
            WORKER.with(|cell| {
                let Worker { connection_state, connections } = cell.get();
                let (removed, added) = (usize::from(before > 0), usize::from(bytes > 0));
                cell.set(Worker {
                    connection_state: connection_state.saturating_sub(before).saturating_add(bytes),
                    connections: connections.saturating_sub(removed).saturating_add(added),
                });
            });
        }
    }

    /// Returns its size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Memory of the state of all connections of this worker, in bytes. A tick adds its changes to the gauge
/// `connection_state_bytes`.
#[must_use]
pub fn connection_state() -> usize {
    WORKER.with(Cell::get).connection_state
}

/// Number of free bytes in a budget of `limit` bytes.
pub(super) fn left(limit: usize) -> usize {
    limit.saturating_sub(connection_state())
}

/// True if a budget of `limit` bytes has room for `bytes` more.
pub(super) fn has_room(limit: usize, bytes: usize) -> bool {
    connection_state().saturating_add(bytes) <= limit
}

/// True if more than three quarters of a budget of `limit` bytes are used, and `bytes` are more than the share of one
/// connection in these three quarters.
pub(super) fn is_above_share(limit: usize, bytes: usize) -> bool {
    let Worker { connection_state, connections } = WORKER.with(Cell::get);
    let high = limit.saturating_mul(3) / 4;
    let share = high.checked_div(connections).unwrap_or(high).max(MIN_SHARE);
    connection_state > high && bytes > share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_sum_up_and_are_returned() {
        let (mut one, mut two) = (Reservation::default(), Reservation::default());
        one.set(100);
        two.set(50);
        one.set(70);
        assert_eq!((connection_state(), one.bytes()), (120, 70));
        assert_eq!((left(200), left(120), left(100)), (80, 0, 0));
        assert_eq!((has_room(200, 80), has_room(200, 81)), (true, false));
        drop(one);
        assert_eq!(connection_state(), 50);
        drop(two);
        assert_eq!(connection_state(), 0);
    }

    #[test]
    fn a_share_depends_on_the_number_of_connections_and_has_a_minimum() {
        let limit = 64 << 10;
        let mut reservations: Vec<_> = (0..2).map(|_| Reservation::default()).collect();
        reservations.iter_mut().for_each(|reservation| reservation.set(24 << 10));
        assert!(!is_above_share(limit, 40 << 10), "not more than three quarters are used");
        reservations.push(Reservation::default());
        reservations[2].set(1);
        assert!(is_above_share(limit, (16 << 10) + 1), "a third of 48 KiB is 16 KiB");
        assert!(!is_above_share(limit, 16 << 10));
        reservations.extend((0..100).map(|_| Reservation::default()));
        reservations.iter_mut().skip(3).for_each(|reservation| reservation.set(1));
        assert_eq!((is_above_share(limit, MIN_SHARE + 1), is_above_share(limit, MIN_SHARE)), (true, false));
    }
}
