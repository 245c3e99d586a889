//! `make profile`: where the CPU time of a point select goes, by `perf`, for plain `tcp_proxy` and both modules.
//!
//! The native module needs its symbols, so it is built for this program only. Envoy's binary has none, and perf does not know the
//! functions that V8 compiles: they are in memory without a file. So of a wasm module only the sum is known. A function that the
//! compiler has put into another one counts for that one.

// This program ends with a panic on every error.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[allow(dead_code, unreachable_pub, reason = "each program uses a part of this")]
mod measure;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use firstword_testing::mariadb::MariaDb;
use firstword_testing::process::cpu_time;
use firstword_testing::{root, wasm};
use measure::{envoy, floor, option, sysbench};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Groups of functions, in the order of the table.
const GROUPS: [&str; 8] = [
    "the kernel",
    "Envoy, with V8 and the calls between Envoy and a module",
    "the C library: memory, locks, clock",
    "a wasm module's code",
    "native: hooks and budget (`dynamic-module`, `filter`)",
    "native: protocol (`connection`, `session`, `mysql`)",
    "native: metrics",
    "native: Rust's library",
];

/// Samples in a second. An odd number, so that they do not follow a timer.
const FREQUENCY: &str = "3989";

fn main() {
    let queries = option("QUERIES").unwrap_or(100_000);
    let database = MariaDb::start(&[]);
    sysbench(database.addr(), "oltp_point_select", "prepare", &[]);
    let native = root().join("target/libfirstword-symbols.so");
    let sides: [(&str, Option<PathBuf>); 4] = [
        ("plain tcp_proxy", None),
        ("wasm floor", Some(floor())),
        ("Firstword wasm", Some(wasm())),
        ("Firstword native", Some(native)),
    ];
    let columns: Vec<_> =
        sides.iter().map(|(_, module)| profile(&database, module.as_deref(), queries)).collect();
    let names = sides.map(|(name, _)| name);
    println!("| microseconds of CPU for a query | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (index, group) in GROUPS.into_iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|groups| format!("{:.2}", groups[index])).collect();
        println!("| {group} | {} |", cells.join(" | "));
    }
    let sums: Vec<_> = columns.iter().map(|groups| format!("{:.2}", groups.iter().sum::<f64>())).collect();
    println!("| sum | {} |", sums.join(" | "));
}

/// Microseconds of Envoy's CPU time for a query, by group.
fn profile(database: &MariaDb, module: Option<&Path>, queries: u32) -> [f64; GROUPS.len()] {
    let mut envoy = envoy(database, module, 1);
    let (address, pid) = (envoy.listener_addr("mysql"), envoy.process().id());
    let load = |queries: u32| {
        let options = ["--db-ps-mode=disable", "--time=0", &format!("--events={queries}")];
        sysbench(address, "oltp_point_select", "run", &options)
    };
    // Caches fill first.
    load(queries / 4);
    let samples = root().join("target/profile.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "--event=cpu-clock", "--freq", FREQUENCY, "--pid", &pid.to_string(), "--output"]);
    let mut perf = perf.arg(&samples).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("perf");
    // It attaches to Envoy's threads.
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu_time(pid);
    load(queries);
    let cpu = (cpu_time(pid) - before).as_secs_f64() * 1e6 / f64::from(queries);
    kill(Pid::from_raw(perf.id().try_into().expect("a process id")), Signal::SIGINT).expect("a running perf");
    perf.wait().expect("the end of perf");
    let script =
        Command::new("perf").args(["script", "--fields", "ip,sym,dso", "--input"]).arg(&samples).output();
    let script = script.expect("perf script");
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let mut counts = [0_u32; GROUPS.len()];
    for line in String::from_utf8_lossy(&script.stdout).lines() {
        counts[group(line)] += 1;
    }
    let all: u32 = counts.iter().sum();
    assert!(all > 1000, "{all} samples");
    counts.map(|count| cpu * f64::from(count) / f64::from(all))
}

/// Group of a sample: the line `ADDRESS FUNCTION (FILE)`.
fn group(line: &str) -> usize {
    let file = line.rsplit_once('(').map_or("", |(_, file)| file);
    let is_of = |names: &[&str]| names.iter().any(|name| line.contains(name));
    if file.contains("kernel") || line.contains("([k") {
        0
    } else if file.contains("libfirstword") {
        match () {
            () if is_of(&["firstword::metrics", "with_metrics", "Filter::count"]) => 6,
            () if is_of(&["firstword_dynamic_module", "envoy_dynamic_module_on", "firstword::filter"]) => 4,
            () if is_of(&["firstword::"]) => 5,
            () => 7,
        }
    } else if file.contains("/envoy") {
        1
    } else if file.contains(".so") || file.contains("vdso") {
        2
    } else {
        3
    }
}
