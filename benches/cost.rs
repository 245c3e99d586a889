//! `make bench`: cost of the filter: Envoy's CPU time per query, queries per second, and time of a query.
//!
//! Envoys with one worker each are connected to one MariaDB. `plain` is `tcp_proxy` alone. `floor` has the filter of
//! `benches/floor` before it, which only reads the bytes. `firstword` has our filter as a wasm module, `native` as a native one.
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
/// Intended CPU time per query of the wasm module, as a multiple of the floor's.
const TARGET: f64 = 1.10;
/// Intended CPU time per query of the native module, as a multiple of that of `tcp_proxy` alone.
const NATIVE_TARGET: f64 = 1.08;

/// Places in the list of proxies.
const PLAIN: usize = 0;
const FLOOR: usize = 1;
const WASM: usize = 2;
const NATIVE: usize = 3;

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

    println!("Starting MariaDB and the Envoys ...");
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
    for index in [WASM, NATIVE] {
        let queries = samples[index].iter().map(|sample| sample.queries).sum();
        assert_observed(&envoys[index].1, queries);
    }
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
            let [plain, floor] = [PLAIN, FLOOR].map(|base| ratio(own, &samples[base], of).show(3));
            line([variant.name, &absolute, &plain, &floor]);
        }
    };
    table("CPU per query, us", 1, |sample| sample.cpu);
    table("queries per second", 0, |sample| sample.per_second);
    table("one query at a time, us", 0, |sample| sample.latency);
    line(["directly", &Spread::of(directly.into_iter()).show(0), "", ""]);

    println!("\n  CPU per query, the range in which the median is with 95 % certainty, and the target:");
    let targets = [
        ("firstword", WASM, "floor", FLOOR, Some(TARGET)),
        ("native", NATIVE, "plain", PLAIN, Some(NATIVE_TARGET)),
    ];
    for (name, own, base_name, base, target) in
        targets.into_iter().chain([("native", NATIVE, "firstword", WASM, None)])
    {
        let Spread { median, confidence: (low, high), .. } =
            ratio(&samples[own], &samples[base], |sample| sample.cpu);
        let verdict = target.map_or_else(String::new, |target| {
            format!(", target {target:.2}: {}", if median <= target { "met" } else { "NOT met" })
        });
        println!("  {name} to {base_name}: {median:.3} ({low:.3} to {high:.3}){verdict}");
    }
}

/// Ratio of one variant's samples to those of another in the same rounds.
fn ratio(own: &[Sample], base: &[Sample], of: fn(&Sample) -> f64) -> Spread {
    Spread::ratio(own.iter().map(of), base.iter().map(of))
}
