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

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::envoy::{Envoy, EnvoyOptions};
use support::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use support::process::cpu_time;

/// Connections that send queries at the same time.
const CONNECTIONS: u32 = 8;
const TABLE_ROWS: u32 = 10_000;
/// Of one variant in one round: a fraction of a second, so that all of a round meet the same weather.
const QUERIES: u32 = 4000;
/// The same one after the other, for the time that each takes.
const QUERIES_IN_TURN: u32 = 500;
/// The CPU time per query that ours may take, as a multiple of the floor's.
const LIMIT: f64 = 1.25;
/// What it is meant to take.
const TARGET: f64 = 1.10;
/// Longer than two ticks of the filter: what it counted has been exported.
const QUIET: Duration = Duration::from_millis(1500);

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
    let mut envoys = [("plain", None), ("floor", Some(floor())), ("firstword", Some(support::wasm()))]
        .map(|(name, module)| (name, envoy(&database, module)));
    let variants = envoys.each_mut().map(|(name, envoy)| {
        let (address, pid) = (envoy.listener_addr("mysql"), envoy.process().id());
        Variant { name, address, pid }
    });

    // Not counted: caches fill, and V8 replaces its first, quick translation of the module.
    for variant in &variants {
        point_selects(variant);
    }
    println!("Point selects, {CONNECTIONS} connections, {rounds} rounds of {QUERIES} for each ...");
    let mut samples = variants.each_ref().map(|_| Vec::new());
    let mut directly = Vec::new();
    for round in 0..rounds as usize {
        for turn in 0..variants.len() {
            let index = (round + turn) % variants.len();
            samples[index].push(point_selects(&variants[index]));
        }
        directly.push(latency(database.addr()));
    }
    let queries = samples[2].iter().map(|sample| sample.queries).sum();
    assert_observed(&envoys[2].1, queries);
    report(&variants, &samples, directly);
}

fn option(name: &str) -> Option<u32> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn floor() -> PathBuf {
    support::root().join("target/floor.wasm")
}

/// The Envoy that users start, with another filter or none.
fn envoy(database: &MariaDb, module: Option<PathBuf>) -> Envoy {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr());
    Envoy::start(match module {
        Some(module) => options.wasm(&module),
        None => options.edit(|bootstrap| {
            let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
            filters.as_array_mut().expect("filters").retain(|filter| filter["name"] != "firstword");
        }),
    })
}

fn point_selects(variant: &Variant) -> Sample {
    let before = cpu_time(variant.pid);
    let (queries, per_second) = run(variant.address, CONNECTIONS, QUERIES);
    let cpu = cpu_time(variant.pid) - before;
    let latency = latency(variant.address);
    Sample { queries, per_second, cpu: cpu.as_secs_f64() * 1e6 / queries as f64, latency }
}

/// Of a query while there is no other, in microseconds.
fn latency(address: SocketAddr) -> f64 {
    1e6 / run(address, 1, QUERIES_IN_TURN).1
}

/// How many queries there were, and how many in a second.
fn run(address: SocketAddr, connections: u32, events: u32) -> (u64, f64) {
    let report = sysbench(address, "run", connections, &["--time=0".into(), format!("--events={events}")]);
    queries(&report).unwrap_or_else(|| panic!("no queries in {report}"))
}

/// Statements go as text, COM_QUERY: so do those of most clients.
fn sysbench(address: SocketAddr, command: &str, connections: u32, options: &[String]) -> String {
    let mut sysbench = Command::new("sysbench");
    sysbench.args(["oltp_point_select", "--db-driver=mysql", "--db-ps-mode=disable"]);
    sysbench.args([format!("--mysql-host={}", address.ip()), format!("--mysql-port={}", address.port())]);
    sysbench.args([format!("--mysql-user={USER}"), format!("--mysql-password={PASSWORD}")]);
    sysbench.args([format!("--mysql-db={DATABASE}"), format!("--table-size={TABLE_ROWS}")]);
    sysbench.arg(format!("--threads={connections}")).args(options).arg(command);
    let output = sysbench.output().expect("sysbench; run: make bench");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "sysbench {command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// From the line `queries: 12345 (1234.50 per sec.)`.
fn queries(report: &str) -> Option<(u64, f64)> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("queries:"))?;
    let mut words = line.split([' ', '(', ')']).filter(|word| !word.is_empty());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
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
    Spread::of(own.iter().zip(base).map(|(own, base)| of(own) / of(base)))
}

/// The median of some values, between the smallest and the largest.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
    /// Where the median of endless rounds lies, 95 times of 100: between the values at these ranks, whatever their
    /// distribution.
    sure: (f64, f64),
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let either_side = values.len().isqrt();
        Self {
            least: values[0],
            median: (values[last / 2] + values[last.div_ceil(2)]) / 2.0,
            most: values[last],
            sure: (
                values[(last / 2).saturating_sub(either_side)],
                values[(last.div_ceil(2) + either_side).min(last)],
            ),
        }
    }

    fn show(&self, digits: usize) -> String {
        let Self { least, median, most, .. } = self;
        format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}
