//! `make bench`: the price list of the filter, and of what people use in its place.
//!
//! All sides ([`sides`]) are before one MariaDB. In each round every side does the same work ([`loads`]) one after the other, in
//! a different order in each round. Then connections are opened and stay idle ([`open`]). The results are in `target/bench`:
//! a table (`cost.md`), a plot (`cost.svg`) and all figures (`cost.json`). `RECORD=1` also writes them into `docs`.
//!
//! How to read the numbers: compare only ratios, and only those of one run, because times depend on the machine and on other
//! processes. A ratio compares two sides in one round. The tables show the median of all rounds, and in brackets the range in
//! which the median is with 95 % certainty. On a busy machine that range is wide. Then run more rounds (`ROUNDS=100`). CPU
//! time is that of the proxy's process, including its kernel part. On a machine with idle cores the CPU time matters, and on a
//! saturated machine the rate. The program does not fail because of a number.

// This program ends with a panic on every error. It reads the clock. Counts are far below 2^53.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod loads;
#[allow(dead_code, unreachable_pub, reason = "each program uses a part of this")]
#[path = "../measure/mod.rs"]
mod measure;
mod open;
mod plot;
mod progress;
mod report;
mod results;
mod sides;

use firstword_testing::machine::{Machine, program};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::{built, envoy, mariadbd};
use loads::{Load, Work, loads};
use measure::{option, sysbench};
use progress::Progress;
use results::{Measured, OtherWork, Results};
use sides::Side;

fn main() {
    let is_quick = option("QUICK").is_some_and(|quick| quick != 0);
    let rounds = option("ROUNDS").unwrap_or(if is_quick { 8 } else { 30 }).max(1) as usize;
    let haproxy = built("HAPROXY", "target/tools/haproxy", "scripts/proxies.sh");
    let router = built("MYSQLROUTER", "target/tools/mysqlrouter", "scripts/router.sh");
    let machine = Machine::look(vec![
        program("Envoy", &envoy(), "--version"),
        program("MariaDB", &mariadbd(), "--version"),
        program("HAProxy", &haproxy, "-v"),
        program("MySQL Router", &router, "-V"),
    ]);
    let other_work = OtherWork::start();
    let loads = loads(is_quick);
    eprintln!("starting MariaDB and the proxies");
    let measured = run(loads, rounds);
    let database = MariaDb::start(&open::SERVER);
    sysbench(database.addr(), "oltp_point_select", "prepare", &[]);
    let steps = open::steps(is_quick);
    let open_rounds = if is_quick { 2 } else { rounds.div_ceil(10) };
    let open = open::measure(&sides::start(&database), &measured[0].load, &steps, open_rounds);
    drop(database);
    let other_cores = other_work.cores();
    let results = Results { machine, other_cores, rounds, open_rounds, measured, open };
    report::write(&results, option("RECORD").is_some_and(|record| record != 0));
}

/// Runs all loads in turn.
fn run(loads: Vec<Load>, rounds: usize) -> Vec<Measured> {
    let database = MariaDb::start(&[]);
    sysbench(database.addr(), "oltp_point_select", "prepare", &[]);
    let sides = sides::start(&database);
    let mut all: Vec<_> =
        loads.into_iter().map(|load| Measured { load, samples: vec![Vec::new(); sides.len()] }).collect();
    // The first round is not counted, because caches fill.
    let progress = Progress::start("loads", rounds + 1);
    for round in 0..=rounds {
        progress.show(round);
        let is_due = |load: &Load| load.every == 1 || round > 0 && round % load.every.min(rounds) == 0;
        for Measured { load, samples } in all.iter_mut().filter(|measured| is_due(&measured.load)) {
            for turn in 0..sides.len() {
                let index = (round + turn) % sides.len();
                let sample = load.run(&sides[index]);
                if round > 0 {
                    samples[index].push(sample);
                }
            }
        }
    }
    assert_inspected(&sides, &all);
    all
}

fn assert_inspected(sides: &[Side], all: &[Measured]) {
    let units = |side: usize, is_meant: fn(&Work) -> bool| {
        let meant = all.iter().filter(|measured| is_meant(&measured.load.work));
        meant.flat_map(|measured| &measured.samples[side]).map(|sample| sample.units).sum::<f64>() as u64
    };
    for side in [sides::WASM, sides::REQUESTS, sides::NATIVE] {
        let as_text = units(side, |work| {
            matches!(work, Work::Sysbench { prepared: false, .. } | Work::Sessions { .. })
        });
        sides[side].assert_inspected("query", as_text);
        let prepared = units(side, |work| matches!(work, Work::Sysbench { prepared: true, .. }));
        sides[side].assert_inspected("stmt_execute", prepared);
    }
    let sessions = units(sides::LOGIN_ONLY, |work| matches!(work, Work::Sessions { .. }));
    sides[sides::LOGIN_ONLY].assert_login_only(sessions);
}
