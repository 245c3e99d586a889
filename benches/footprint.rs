//! `make footprint`: cost of the filter before the first query: resident memory, VMs and time to start.
//!
//! The variants are plain `tcp_proxy`, a filter that only reads the bytes, and both modules, with one, two and four workers. Memory is the resident set of Envoy's process after
//! each worker has had some connections, and all are closed. Time to start is the time from the start of the process to LIVE
//! on the admin interface, because a readiness probe waits for that. The CPU time until then depends less on other processes.
//! The numbers are medians of several starts, in which the variants take turns, so that all have the same conditions. The
//! program does not fail because of a number.

// This program ends with a panic on every error. It reads the clock.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[allow(dead_code, unreachable_pub, reason = "each program uses a part of this")]
mod measure;

use std::path::Path;
use std::time::{Duration, Instant};

use firstword_testing::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use firstword_testing::process::{cpu_time, resident};
use firstword_testing::shell::native;
use firstword_testing::wasm;
use measure::{envoy, floor};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

const WORKERS: [u32; 3] = [1, 2, 4];
const STARTS: usize = 5;
/// Number of connections. It is large enough that every worker gets some.
const CONNECTIONS: usize = 64;

struct Start {
    /// Time until Envoy is ready.
    time: Duration,
    /// CPU time until Envoy is ready.
    cpu: Duration,
    /// Resident memory in MiB.
    resident: f64,
    vms: u64,
}

fn main() {
    let database = MariaDb::start(&[]);
    let variants =
        [("plain", None), ("floor", Some(floor())), ("firstword", Some(wasm())), ("native", Some(native()))];
    line(["workers", "", "resident, MiB", "VMs", "ready after, ms", "CPU until then, ms"]);
    for workers in WORKERS {
        let mut starts = variants.each_ref().map(|_| Vec::new());
        for _ in 0..STARTS {
            for ((_, module), starts) in variants.iter().zip(&mut starts) {
                starts.push(start(&database, workers, module.as_deref()));
            }
        }
        for ((name, _), starts) in variants.iter().zip(&starts) {
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            line([
                &workers.to_string(),
                name,
                &spread(starts, |start| start.resident),
                &starts[0].vms.to_string(),
                &spread(starts, |start| milliseconds(start.time)),
                &spread(starts, |start| milliseconds(start.cpu)),
            ]);
        }
    }
}

fn line(cells: [&str; 6]) {
    let [workers, name, resident, vms, time, cpu] = cells;
    println!("  {workers:<10}{name:<12}{resident:<16}{vms:<6}{time:<20}{cpu}");
}

/// Starts an Envoy, opens and closes some connections through it, and measures it.
fn start(database: &MariaDb, workers: u32, module: Option<&Path>) -> Start {
    let began = Instant::now();
    let mut envoy = envoy(database, module, workers);
    let time = began.elapsed();
    let pid = envoy.process().id();
    let cpu = cpu_time(pid);
    let address = envoy.listener_addr("mysql");
    let connect = || {
        let options =
            OptsBuilder::new().ip_or_hostname(Some(address.ip().to_string())).tcp_port(address.port());
        let options =
            options.user(Some(USER)).pass(Some(PASSWORD)).db_name(Some(DATABASE)).prefer_socket(false);
        let mut connection = Conn::new(options).expect("a connection through Envoy");
        assert_eq!(connection.query_first("SELECT 1").expect("a response"), Some(1));
        connection
    };
    // All are open at the same time, and then all are closed.
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    drop(connections);
    envoy.wait_stat("^listener\\.127.*\\.downstream_cx_active$", 0);
    let vms = envoy.stat("^wasm.envoy.wasm.runtime.v8.active$");
    Start { time, cpu, resident: resident(pid), vms }
}

/// Median, with the smallest and the largest value.
fn spread(starts: &[Start], of: impl Fn(&Start) -> f64) -> String {
    let mut values: Vec<_> = starts.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0}-{:.0})", values[values.len() / 2], values[0], values[values.len() - 1])
}
