//! Times of good queries while hostile peers use the same workers: with the filter, and with `tcp_proxy` alone.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use firstword_testing::random::Random;

use crate::flood::attack;
use crate::good::Session;
use crate::proxy::{Proxy, Traffic};
use crate::tally::{Attacks, Counts, Tally};

/// Threads with good queries, and threads with hostile connections.
const GOOD: u64 = 2;
const HOSTILE: u64 = 2;
/// Time between two good queries, and between two hostile connections, of one thread.
const QUERY_EVERY: Duration = Duration::from_millis(2);
const ATTACK_EVERY: Duration = Duration::from_millis(10);

/// Percentiles 50 and 99 of the times of queries, in microseconds.
#[derive(Clone, Copy)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
}

/// The times in the same round.
#[derive(Clone, Copy)]
pub struct Round {
    pub filtered: Times,
    pub plain: Times,
}

/// Runs good queries beside a flood, for this time, through one proxy.
pub fn measure(proxy: &Proxy, time: Duration, seed: u64, counts: &mut Counts) -> Times {
    let end = Instant::now() + time;
    let (mut times, tallies, attacks) = scope(|scope| {
        let good: Vec<_> = (0..GOOD).map(|n| scope.spawn(move || queries(proxy, end, seed ^ n))).collect();
        let hostile: Vec<_> =
            (0..HOSTILE).map(|n| scope.spawn(move || flood(proxy, end, seed ^ n, ATTACK_EVERY))).collect();
        let (times, tallies): (Vec<_>, Vec<_>) =
            good.into_iter().map(|thread| thread.join().expect("good queries")).unzip();
        let attacks: Vec<_> = hostile.into_iter().map(|thread| thread.join().expect("a flood")).collect();
        (times.concat(), tallies, attacks)
    });
    tallies.iter().for_each(|tally| counts.good.add(tally));
    attacks.iter().for_each(|attacks| counts.add_attacks(*attacks));
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    Times { p50: at(50), p99: at(99) }
}

fn queries(proxy: &Proxy, end: Instant, seed: u64) -> (Vec<Duration>, Tally) {
    let (mut tally, mut random, mut times) = (Tally::default(), Random::from_seed(seed), Vec::new());
    let mut session = Session::open(proxy.address(Traffic::Good), &mut tally);
    while Instant::now() < end {
        let began = Instant::now();
        session.point_select(&mut random, &mut tally);
        times.push(began.elapsed());
        sleep(QUERY_EVERY);
    }
    session.quit(&mut tally);
    (times, tally)
}

/// Opens hostile connections one after the other.
pub fn flood(proxy: &Proxy, end: Instant, seed: u64, every: Duration) -> Attacks {
    let mut random = Random::from_seed(seed);
    let mut attacks = [0; 2];
    while Instant::now() < end {
        let next = Instant::now() + every;
        let kind = random.below(2);
        attack(proxy.address([Traffic::Flood, Traffic::Proxied][kind]), &mut random);
        attacks[kind] += 1;
        sleep(next.saturating_duration_since(Instant::now()));
    }
    attacks
}
