//! Sets of ports and of addresses as sorted ranges, so that one pass over two sets compares them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A value that can be the end of a range.
pub(super) trait Bound: Copy + Ord {
    /// The next value of the same kind; `None` if this is the last one.
    fn next(self) -> Option<Self>;
}

/// A port or an address. One type for both, because each one would bring its own code for sorting into the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    /// IPv4 comes before IPv6, and no range holds both.
    is_ipv6: bool,
    value: u128,
}

impl From<u16> for Point {
    fn from(port: u16) -> Self {
        Self { is_ipv6: false, value: port.into() }
    }
}

impl From<IpAddr> for Point {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { is_ipv6: false, value: address.to_bits().into() },
            IpAddr::V6(address) => Self { is_ipv6: true, value: address.to_bits() },
        }
    }
}

impl Bound for Point {
    fn next(self) -> Option<Self> {
        self.value.checked_add(1).map(|value| Self { value, ..self })
    }
}

/// A set of values: sorted ranges, none of which overlap or join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<T>(Vec<(T, T)>);

impl<T: Bound> Ranges<T> {
    /// The set of all values in `ranges`. These may overlap, in any order.
    pub(super) fn new<'r, V: Copy + Into<T> + 'r>(
        ranges: impl IntoIterator<Item = &'r RangeInclusive<V>>,
    ) -> Self {
        let ends = |range: &RangeInclusive<V>| ((*range.start()).into(), (*range.end()).into());
        Self::merged(ranges.into_iter().map(ends).collect())
    }

    fn merged(mut sorted: Vec<(T, T)>) -> Self {
        sorted.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first <= *end || end.next() == Some(first) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Whether this set contains all values of the other set.
    pub(super) fn contains(&self, other: &Self) -> bool {
        let mut ours = self.0.iter().peekable();
        other.0.iter().all(|(first, last)| {
            while ours.next_if(|(_, end)| end < first).is_some() {}
            ours.peek().is_some_and(|(start, end)| start <= first && last <= end)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use super::*;

    thread_local! {
        static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    /// A number that counts its comparisons.
    #[derive(Clone, Copy, Debug)]
    struct Counted(u32);

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other) == Ordering::Equal
        }
    }

    impl Eq for Counted {}

    impl Bound for Counted {
        fn next(self) -> Option<Self> {
            self.0.checked_add(1).map(Self)
        }
    }

    #[test]
    fn ranges_that_join_contain_a_range_across_them() {
        let ranges: Ranges<Point> = Ranges::new(&[400..=u16::MAX, 201..=300, 1..=100, 90..=200]);
        let expected = [(1_u16, 300_u16), (400, u16::MAX)].map(|(first, last)| (first.into(), last.into()));
        assert_eq!(ranges.0, expected);
        for (wanted, covered) in [
            (vec![1..=300], true),
            (vec![150..=250], true),
            (vec![1..=301], false),
            (vec![350..=450], false),
            (vec![400..=65_535], true),
            (vec![500..=600, 1..=2, 299..=300], true),
            (vec![500..=600, 1..=2, 299..=301], false),
            (vec![], true),
        ] {
            assert_eq!(ranges.contains(&Ranges::new(&wanted)), covered, "{wanted:?}");
        }
    }

    #[test]
    fn addresses_of_two_families_do_not_join() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all: Ranges<Point> =
            Ranges::new(&[ip("::")..=ip("ffff::"), ip("0.0.0.0")..=ip("255.255.255.255")]);
        assert_eq!(all.0.len(), 2);
        let halves =
            Ranges::new(&[ip("10.128.0.0")..=ip("10.255.255.255"), ip("10.0.0.0")..=ip("10.127.255.255")]);
        assert!(halves.contains(&Ranges::new(&[ip("10.0.0.0")..=ip("10.255.255.255")])));
        assert!(!halves.contains(&Ranges::new(&[ip("10.0.0.0")..=ip("11.0.0.0")])));
        assert!(all.contains(&halves) && !halves.contains(&all));
    }

    #[test]
    fn a_comparison_takes_one_pass_over_both_sets() {
        for size in [1_000_u32, 100_000] {
            let ranges = |shift: u32| {
                (0..size).rev().map(|n| Counted(n * 10 + shift)..=Counted(n * 10 + 5)).collect::<Vec<_>>()
            };
            let (ours, theirs) = (ranges(0), ranges(1));
            COMPARISONS.set(0);
            let (ours, theirs): (Ranges<Counted>, Ranges<Counted>) =
                (Ranges::new(&ours), Ranges::new(&theirs));
            // Sorting, then one comparison of each range with its neighbour.
            let budget = u64::from(size) * u64::from(size.ilog2() + 10) * 4;
            assert!(COMPARISONS.replace(0) <= budget);
            assert!(ours.contains(&theirs) && !theirs.contains(&ours));
            assert!(COMPARISONS.get() <= 10 * u64::from(size), "{}", COMPARISONS.get());
        }
    }
}
