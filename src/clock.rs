//! Time, supplied by the host. The core never reads a clock: its callers pass a [`Clock`].

use std::time::Duration;

/// Point in time, in nanoseconds of the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates a timestamp from nanoseconds since the epoch of the host's clock.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch of the host's clock.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time between `earlier` and this timestamp. Zero if the host's clock stepped back, or if `earlier` is the epoch, which
    /// stands for an unknown time.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        let nanos = if earlier.0 == 0 { 0 } else { self.0.saturating_sub(earlier.0) };
        Duration::from_nanos(nanos)
    }
}

/// Clock of one callback. It reads the host's clock on demand and at most once, because a read is a host call, and because
/// all events of a callback have the same time.
pub struct Clock<'a> {
    read: &'a dyn Fn() -> Timestamp,
    now: Option<Timestamp>,
}

impl<'a> Clock<'a> {
    /// Creates a clock for one callback. `read` reads the host's clock.
    #[must_use]
    pub fn new(read: &'a dyn Fn() -> Timestamp) -> Self {
        Self { read, now: None }
    }

    /// Time of this callback.
    pub fn now(&mut self) -> Timestamp {
        *self.now.get_or_insert_with(self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_duration_is_zero_if_the_clock_steps_back() {
        let late = Timestamp::from_nanos(5);
        assert_eq!(Timestamp::from_nanos(3).since(late), Duration::ZERO);
        assert_eq!(late.since(Timestamp::from_nanos(3)), Duration::from_nanos(2));
        assert_eq!(late.since(Timestamp::default()), Duration::ZERO, "the epoch is not a time");
    }

    #[test]
    fn the_clock_is_read_once_and_only_on_demand() {
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
