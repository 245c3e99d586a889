//! Time as the host tells it. The core never asks for it itself: it is handed a [`Clock`].

use std::time::Duration;

/// A point in time, in nanoseconds of the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From nanoseconds since the epoch of the host's clock.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch of the host's clock.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time that went by since `earlier`; zero when the host's clock stepped back, or gave no time.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        let nanos = if earlier.0 == 0 { 0 } else { self.0.saturating_sub(earlier.0) };
        Duration::from_nanos(nanos)
    }
}

/// Reads the host's clock at most once, and only if somebody asks: a read is a host call, and all
/// that happens in one callback happens at one time.
pub struct Clock<'a> {
    read: &'a dyn Fn() -> Timestamp,
    now: Option<Timestamp>,
}

impl<'a> Clock<'a> {
    /// A clock for one callback.
    #[must_use]
    pub fn new(read: &'a dyn Fn() -> Timestamp) -> Self {
        Self { read, now: None }
    }

    /// The time of this callback.
    pub fn now(&mut self) -> Timestamp {
        *self.now.get_or_insert_with(self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_clock_that_steps_back_gives_zero() {
        let late = Timestamp::from_nanos(5);
        assert_eq!(Timestamp::from_nanos(3).since(late), Duration::ZERO);
        assert_eq!(late.since(Timestamp::from_nanos(3)), Duration::from_nanos(2));
        assert_eq!(late.since(Timestamp::default()), Duration::ZERO, "the epoch is no time");
    }

    #[test]
    fn the_host_is_asked_once_and_only_on_demand() {
        let reads = Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            Timestamp::from_nanos(7)
        };
        let mut clock = Clock::new(&read);
        assert_eq!(reads.get(), 0);
        clock.now();
        clock.now();
        assert_eq!(reads.get(), 1);
    }
}
