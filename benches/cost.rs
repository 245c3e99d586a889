//! `make bench`: what the filter costs, as Envoy's CPU time per query, as queries per second and as time of a query.
//!
//! Three Envoys with one worker each, all in front of one MariaDB: `plain` is `tcp_proxy` alone, `floor` has the filter of
//! `benches/floor` in front of it, which reads what must be read and does nothing else, `firstword` has ours.
//!
//! How to read the numbers: times depend on the machine and on what else runs on it, so only ratios count, and only those
//! of one run. In each round all variants do the same work one after the other, each round in another order; a ratio is
//! taken within a round, and of all rounds' ratios the median is told, with the smallest and the largest behind it. The
//! busier the machine, the further these are apart, and the more rounds it takes (`make bench ROUNDS=400`) until the range
//! given last is narrow enough to say something. CPU time is that of Envoy's process, its kernel part included: on a
//! machine with idle cores the CPU time per query matters, on a saturated one the queries per second. Nothing fails here
//! because of a number.

// A program to look at: what goes wrong ends it. Counts are far below 2^53.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[allow(dead_code, unreachable_pub, reason = "each program uses a part of this")]
mod measure;

use std::net::SocketAddr;

use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use measure::{
    CONNECTIONS, Load, QUERIES, QUIET, Spread, envoy, modules, option, point_selects, run, sysbench,
};

/// One after the other, for the time that each takes.
const QUERIES_IN_TURN: u32 = 500;
/// The CPU time per query that ours may take, as a multiple of the floor's.
const LIMIT: f64 = 1.25;
/// What it is meant to take.
const TARGET: f64 = 1.10;

/// A proxy under measurement. Whatever can be addressed and has a process can be one.
struct Variant {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
}

/// What one variant did in one round.
#[derive(Clone, Copy)]
struct Sample {
    queries: u64,
    per_second: f64,
    /// CPU time per query, in microseconds.
    cpu: f64,
    /// Of a query while there is no other, in microseconds.
    latency: f64,
}

fn main() {
    let quick = option("QUICK").is_some_and(|quick| quick != 0);
    let rounds = option("ROUNDS").unwrap_or(if quick { 25 } else { 100 }).max(1);

    println!("Starting MariaDB and three Envoys ...");
    let database = MariaDb::start(&[]);
    sysbench(database.addr(), "prepare", CONNECTIONS, &[]);
    let mut envoys = modules().map(|(name, module)| (name, envoy(&database, module, 1)));
    let variants = envoys.each_mut().map(|(name, envoy)| {
        let (address, pid) = (envoy.listener_addr("mysql"), envoy.process().id());
        Variant { name, address, pid }
    });

    // Not counted: caches fill, and V8 replaces its first, quick translation of the module.
    for variant in &variants {
        measure(variant);
    }
    println!("Point selects, {CONNECTIONS} connections, {rounds} rounds of {QUERIES} for each ...");
    let mut samples = variants.each_ref().map(|_| Vec::new());
    let mut directly = Vec::new();
    for round in 0..rounds as usize {
        for turn in 0..variants.len() {
            let index = (round + turn) % variants.len();
            samples[index].push(measure(&variants[index]));
        }
        directly.push(latency(database.addr()));
    }
    let queries = samples[2].iter().map(|sample| sample.queries).sum();
    assert_observed(&envoys[2].1, queries);
    report(&variants, &samples, directly);
}

fn measure(variant: &Variant) -> Sample {
    let Load { queries, per_second, cpu } = point_selects(variant.address, variant.pid, CONNECTIONS, QUERIES);
    Sample { queries, per_second, cpu, latency: latency(variant.address) }
}

/// Of a query while there is no other, in microseconds.
fn latency(address: SocketAddr) -> f64 {
    1e6 / run(address, 1, QUERIES_IN_TURN).1
}

/// A filter that had stopped looking would be cheap.
fn assert_observed(envoy: &Envoy, queries: u64) {
    let metrics = envoy.stable(QUIET);
    let counted = metrics.get("firstword_commands_total", &[("command", "query")]).unwrap_or(0.0);
    assert!(counted >= queries as f64, "the filter counted {counted} of {queries} queries\n{}", envoy.log());
}

fn report(variants: &[Variant], samples: &[Vec<Sample>], directly: Vec<f64>) {
    let line = |cells: [&str; 4]| {
        println!("  {:<11}{:<24}{:<24}{}", cells[0], cells[1], cells[2], cells[3]);
    };
    let table = |title: &str, digits: usize, of: fn(&Sample) -> f64| {
        println!();
        line(["", title, "to plain", "to floor"]);
        for (variant, own) in variants.iter().zip(samples) {
            let absolute = Spread::of(own.iter().map(of)).show(digits);
            let [plain, floor] = [0, 1].map(|base| ratio(own, &samples[base], of).show(3));
            line([variant.name, &absolute, &plain, &floor]);
        }
    };
    table("CPU per query, us", 1, |sample| sample.cpu);
    table("queries per second", 0, |sample| sample.per_second);
    table("one query at a time, us", 0, |sample| sample.latency);
    line(["directly", &Spread::of(directly.into_iter()).show(0), "", ""]);

    let ours = ratio(&samples[2], &samples[1], |sample| sample.cpu);
    let verdict = |bound: f64| if ours.median <= bound { "yes" } else { "NO" };
    let Spread { median, sure: (low, high), .. } = ours;
    println!("\n  CPU per query, firstword to floor: {median:.3} (95 % sure: {low:.3} to {high:.3})");
    println!("  within the limit of {LIMIT:.2}: {}", verdict(LIMIT));
    println!("  within the target of {TARGET:.2}: {}", verdict(TARGET));
}

/// Of one variant's samples to another's of the same rounds.
fn ratio(own: &[Sample], base: &[Sample], of: fn(&Sample) -> f64) -> Spread {
    Spread::ratio(own.iter().map(of), base.iter().map(of))
}
