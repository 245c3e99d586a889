//! `make bench`: cost of the filter: Envoy's CPU time per query, queries per second, and time of a query.
//!
//! Three Envoys with one worker each are connected to one MariaDB. `plain` is `tcp_proxy` alone. `floor` has the filter of
//! `benches/floor` before it, which only reads the bytes. `firstword` has our filter.
//!
//! How to read the numbers: compare only ratios, and only those of one run, because times depend on the machine and on other
//! processes. In each round all variants do the same work one after the other, in a different order in each round. A ratio
//! compares two variants in one round. The table shows the median of all rounds, with the smallest and the largest ratio.
//! On a busy machine these are far apart. Then run more rounds (`make bench ROUNDS=400`) until the last range is narrow.
//! CPU time is that of Envoy's process, including its kernel part. On a machine with idle cores the CPU time per query
//! matters, and on a saturated machine the queries per second. The program does not fail because of a number.

// This program ends with a panic on every error. Counts are far below 2^53.
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

/// Number of queries one after the other, from which the time of a query is computed.
const QUERIES_IN_TURN: u32 = 500;
/// Maximum CPU time per query of our filter, as a multiple of the floor's.
const LIMIT: f64 = 1.25;
/// Intended CPU time per query, as a multiple of the floor's.
const TARGET: f64 = 1.10;

/// Proxy under measurement.
struct Variant {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
}

/// Measurements of one variant in one round.
#[derive(Clone, Copy)]
struct Sample {
    queries: u64,
    per_second: f64,
    /// CPU time per query, in microseconds.
    cpu: f64,
    /// Time of a query without concurrent queries, in microseconds.
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

    // The first measurement is not counted, because caches fill, and V8 replaces its first translation of the module.
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

/// Time of a query without concurrent queries, in microseconds.
fn latency(address: SocketAddr) -> f64 {
    1e6 / run(address, 1, QUERIES_IN_TURN).1
}

/// Asserts that the filter has inspected all queries, because a filter that stops inspection is cheap.
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
    let Spread { median, confidence: (low, high), .. } = ours;
    println!("\n  CPU per query, firstword to floor: {median:.3} (95 % sure: {low:.3} to {high:.3})");
    println!("  within the limit of {LIMIT:.2}: {}", verdict(LIMIT));
    println!("  within the target of {TARGET:.2}: {}", verdict(TARGET));
}

/// Ratio of one variant's samples to those of another in the same rounds.
fn ratio(own: &[Sample], base: &[Sample], of: fn(&Sample) -> f64) -> Spread {
    Spread::ratio(own.iter().map(of), base.iter().map(of))
}
