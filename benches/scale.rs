//! The second half of `make bench`: cost of the filter with large results and with many connections.
//!
//! MariaDB's command line reads a large result through each of the proxies of the first half in turn. Read its ratios like
//! those of the first half. Then the program opens idle connections, and measures their memory in the VM and the cost of a
//! query while they are open. That cost is a ratio to `tcp_proxy` alone with the same number of connections, because more
//! sockets also cost Envoy and the kernel time. The program does not fail because of a number.

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

#[allow(dead_code, unreachable_pub, reason = "each program uses a part of this")]
mod measure;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::process::cpu_time;
use measure::{
    CONNECTIONS, PROXIES, QUERIES, QUIET, Spread, envoy, modules, option, point_selects, sysbench,
};

/// One thread for each connection would need more memory than the connections themselves.
const SERVER: [&str; 3] =
    ["--thread-handling=pool-of-threads", "--max-connections=25000", "--open-files-limit=20000"];
/// Length of a row of the large result in bytes. MariaDB sends little more.
const ROW: u32 = 16_000;
const ROWS: u32 = 4_000;
const FEW: u32 = 10;
const MANY: u32 = 10_000;

/// Proxy under measurement, and idle connections through it.
struct Proxy {
    envoy: Envoy,
    address: SocketAddr,
    pid: u32,
    idle: Vec<Client>,
}

fn main() {
    let quick = option("QUICK").is_some_and(|quick| quick != 0);
    let rounds = if quick { 9 } else { 25 };
    let database = MariaDb::start(&SERVER);
    sysbench(database.addr(), "prepare", CONNECTIONS, &[]);
    let mut proxies = modules().map(|(_, module)| {
        let mut envoy = envoy(&database, module, 1);
        let (address, pid) = (envoy.listener_addr("mysql"), envoy.process().id());
        Proxy { envoy, address, pid, idle: Vec::new() }
    });
    large_results(&proxies, rounds);
    // Each Envoy needs two files for each connection. This process and MariaDB need one for each connection of two Envoys, and
    // MariaDB needs some more.
    let files = open_files();
    assert!(files >= 8_000, "expected a limit of open files (ulimit -n) of 8000 or more, found {files}");
    let many = MANY.min((files - 4_000) / 2).min(if quick { 1_000 } else { MANY });
    many_connections(&mut proxies, many, rounds);
}

fn large_results(proxies: &[Proxy; PROXIES], rounds: usize) {
    let mebibytes = f64::from(ROW) * f64::from(ROWS) / f64::from(1 << 20);
    println!("\nA result of {mebibytes:.0} MiB, {rounds} rounds ...\n");
    let mut samples = proxies.each_ref().map(|_| (Vec::new(), Vec::new()));
    for round in 0..=rounds {
        for turn in 0..proxies.len() {
            let index = (round + turn) % proxies.len();
            let (began, before) = (Instant::now(), cpu_time(proxies[index].pid));
            read_all(proxies[index].address);
            let cpu = cpu_time(proxies[index].pid) - before;
            // The first round is not counted.
            if round > 0 {
                samples[index].0.push(mebibytes / began.elapsed().as_secs_f64());
                samples[index].1.push(cpu.as_secs_f64() * 1e6 / mebibytes);
            }
        }
    }
    println!("  {:<11}{:<24}{:<24}{:<24}CPU to plain", "", "MiB per second", "to plain", "CPU per MiB, us");
    for ((name, _), (speed, cpu)) in modules().iter().zip(&samples) {
        println!(
            "  {name:<11}{:<24}{:<24}{:<24}{}",
            Spread::of(speed.iter().copied()).show(0),
            to(speed, &samples[0].0).show(3),
            Spread::of(cpu.iter().copied()).show(0),
            to(cpu, &samples[0].1).show(3)
        );
    }
}

/// Runs a client that reads the large result.
fn read_all(address: SocketAddr) {
    let statement = format!("SELECT REPEAT('x', {ROW}) FROM sbtest1 LIMIT {ROWS}");
    let mut client = Command::new("mariadb");
    client.args([
        "--no-defaults",
        "--skip-ssl",
        "--batch",
        "--quick",
        "--skip-column-names",
        "-e",
        &statement,
    ]);
    client.args([format!("-h{}", address.ip()), format!("-P{}", address.port())]);
    client.args([&format!("-u{USER}"), &format!("-p{PASSWORD}"), firstword_testing::mariadb::DATABASE]);
    let status = client.stdout(Stdio::null()).status().expect("mariadb in PATH");
    assert!(status.success(), "mariadb: {status}");
}

fn many_connections(proxies: &mut [Proxy; PROXIES], many: u32, rounds: usize) {
    let [plain, _, ours, _] = proxies;
    let mut before = None;
    println!("\n  open        CPU per query to plain  memory of the VM for each, bytes");
    for open in [FEW, many] {
        for proxy in [&mut *plain, &mut *ours] {
            let login = Login::new(CLASSIC);
            while proxy.idle.len() < open as usize {
                proxy.idle.push(Client::login(proxy.address, &login));
            }
        }
        let [own, base] = in_turns([&*ours, &*plain], rounds);
        let metrics = ours.envoy.stable(QUIET);
        let is_open = metrics.get("firstword_connections_active", &[("protocol", "mysql")]);
        assert_eq!(is_open, Some(f64::from(open)), "{}", ours.envoy.log());
        let memory = metrics.get("firstword_vm_memory_bytes", &[]).expect("the memory of the VMs");
        let grown = before.map(|(few, then): (u32, f64)| (memory - then) / f64::from(open - few));
        let grown = grown.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
        println!("  {open:<12}{:<24}{grown}", to(&own, &base).show(3));
        before = before.or(Some((open, memory)));
    }
}

/// CPU time per query of each proxy, round by round.
fn in_turns(proxies: [&Proxy; 2], rounds: usize) -> [Vec<f64>; 2] {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for turn in 0..2 {
            let index = (round + turn) % 2;
            let Proxy { address, pid, .. } = proxies[index];
            let load = point_selects(*address, *pid, CONNECTIONS, QUERIES);
            if round > 0 {
                samples[index].push(load.cpu);
            }
        }
    }
    samples
}

fn to(own: &[f64], base: &[f64]) -> Spread {
    Spread::ratio(own.iter().copied(), base.iter().copied())
}

/// Maximum number of open files of a process.
fn open_files() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the limits of this process");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Max open files");
    line.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(u32::MAX)
}
