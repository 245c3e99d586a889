//! `make test-small`: Envoy with the filter in 128 MiB of memory and a tenth of a CPU, as root.
//!
//! A control group sets the limits: version 2 if it has the controllers `memory` and `cpu`, else version 1, which does not
//! count socket buffers. Each variant shows the time until Envoy is ready, and the memory at that time and at the end. In
//! between there is traffic whose every value is compared, and the worst known client.
//!
//! The program fails if a value is wrong, if the kernel kills a process, or if the module traps. It does not fail because of
//! times.

// This program ends with a panic on every error. It reads the clock.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::DATABASE;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{COM_QUERY, COM_STMT_PREPARE, command};
use firstword_testing::process::cpu_time;
use serde_json::{Value, json};

const MEMORY: usize = 128 << 20;
/// Time on a CPU within each period, in microseconds.
const CPU: [u32; 2] = [10_000, 100_000];
const CONNECTIONS: usize = 300;
const ROUNDS: usize = 5;
const ATTACKERS: usize = 200;

/// Control group that is removed with its owner.
struct Group {
    dirs: Vec<PathBuf>,
    is_v2: bool,
}

impl Group {
    fn new(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let is_v2 =
            ["memory", "cpu"].iter().all(|wanted| controllers.split_whitespace().any(|has| has == *wanted));
        let dirs = if is_v2 {
            vec![root.join(name)]
        } else {
            ["memory", "cpu"].map(|kind| root.join(kind).join(name)).into()
        };
        if is_v2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory +cpu").expect("controllers for children");
        }
        for dir in &dirs {
            fs::create_dir(dir).unwrap_or_else(|e| panic!("{}: {e}; this needs root", dir.display()));
        }
        let group = Self { dirs, is_v2 };
        let [quota, period] = CPU;
        if is_v2 {
            group.write("memory.max", &MEMORY.to_string());
            group.write("memory.swap.max", "0");
            group.write("cpu.max", &format!("{quota} {period}"));
        } else {
            group.write("memory.limit_in_bytes", &MEMORY.to_string());
            group.write("cpu.cfs_period_us", &period.to_string());
            group.write("cpu.cfs_quota_us", &quota.to_string());
        }
        group
    }

    fn find(&self, file: &str) -> PathBuf {
        let files = self.dirs.iter().map(|dir| dir.join(file));
        files.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{file} in {:?}", self.dirs))
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.find(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.find(file)).expect(file).trim().parse().expect("a number")
    }

    /// Maximum memory that was charged, in MiB. It includes memory that the kernel can reclaim, such as pages of Envoy's file.
    fn peak(&self) -> f64 {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        self.number(file) as f64 / f64::from(1 << 20)
    }

    /// Number of processes that the kernel killed because of missing memory.
    fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.find(file)).expect(file);
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("oom_kill").parse().expect("a number")
    }

    /// Script that starts its arguments in this group.
    fn launcher(&self, dir: &Path) -> PathBuf {
        let enter = self.dirs.iter().map(|dir| format!("echo $$ > {}/cgroup.procs\n", dir.display()));
        let envoy = firstword_testing::envoy();
        let text =
            format!("#!/bin/sh\nset -e\n{}exec {} \"$@\"\n", enter.collect::<String>(), envoy.display());
        let path = dir.join("launcher");
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // The folder is busy until the kernel has removed the last process.
            for _ in 0..50 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Anonymous memory of a process, which the kernel cannot reclaim, in MiB.
fn anonymous(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") / 1024.0
}

fn options(database: &MariaDb, limit: Option<&str>) -> EnvoyOptions {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr());
    let Some(limit) = limit else {
        return options.edit(|bootstrap: &mut Value| {
            let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
            filters.as_array_mut().expect("filters").remove(0);
        });
    };
    options.configuration(json!({
        "rules": [{"protocol": "mysql", "mysql": {"block_local_infile": true}}],
        "limits": {"connection_state": limit},
    }))
}

/// Sends queries on connections that are open at the same time, and compares each value. Returns the queries per second.
fn traffic(envoy: &Envoy) -> f64 {
    let address = envoy.listener_addr("mysql");
    let mut clients: Vec<_> =
        (0..CONNECTIONS).map(|_| Client::login(address, &Login::new(CLASSIC))).collect();
    let began = Instant::now();
    for round in 0..ROUNDS {
        for (n, client) in clients.iter_mut().enumerate() {
            let value = format!("{n}.{round}.{}", "x".repeat(1_000));
            let statement = format!("SELECT CONCAT('{n}.{round}.', REPEAT('x', 1000))");
            let response = client.query(&statement).expect("a result");
            let found = response.0.iter().any(|packet| packet.ends_with(value.as_bytes()));
            assert!(found, "connection {n}, round {round}: {response:?}");
        }
    }
    let rate = (CONNECTIONS * ROUNDS) as f64 / began.elapsed().as_secs_f64();
    clients.into_iter().for_each(Client::quit);
    rate
}

/// Runs clients that pipeline LOAD DATA LOCAL with file names after `SELECT SLEEP`, and one honest client.
fn attack(envoy: &Envoy) {
    let address = envoy.listener_addr("mysql");
    let mut honest = Client::login(address, &Login::new(CLASSIC));
    let load = |name_len: usize| format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", "n".repeat(name_len));
    let prepared = command(COM_STMT_PREPARE, load(100).as_bytes()).repeat(128);
    let sleep = command(COM_QUERY, b"SELECT SLEEP(100)");
    let modest = [&prepared[..], &sleep, &command(COM_QUERY, load(15_000).as_bytes())].concat();
    let greedy = [&sleep[..], &command(COM_QUERY, load(16_000).as_bytes()).repeat(100)].concat();
    let mut attackers = Vec::new();
    for n in 0..2 * ATTACKERS {
        let Ok(mut client) = Client::connect(address).log_in(&Login::new(CLASSIC)) else { continue };
        if client.try_send(if n % 2 == 0 { &modest } else { &greedy }).is_some() {
            attackers.push(client);
        }
    }
    honest.query("SELECT 1").expect("a response to the honest client");
    drop(attackers);
    honest.quit();
}

fn main() {
    let database = MariaDb::start(&["--max-connections=1000", "--max-prepared-stmt-count=200000"]);
    database.sql(&format!("CREATE TABLE {DATABASE}.t (a TEXT)"));
    println!(
        "  {:<22}ready after  CPU till then  anonymous  queries/s  at the end: anonymous  peak  kills",
        ""
    );
    for (name, limit) in
        [("tcp_proxy", None), ("Firstword", Some("16MiB")), ("Firstword, 4 MiB", Some("4MiB"))]
    {
        let dir = firstword_testing::temp_dir();
        let group = Group::new(&format!("firstword-{}", std::process::id()));
        let began = Instant::now();
        let mut envoy = Envoy::start(options(&database, limit).run_by(&group.launcher(dir.path()), 0));
        let (ready, pid) = (began.elapsed(), envoy.process().id());
        let (cpu, before) = (cpu_time(pid), anonymous(pid));
        let rate = traffic(&envoy);
        if limit.is_some() {
            attack(&envoy);
            assert!(!envoy.log().contains("Uncaught RuntimeError"), "{}", envoy.log());
        }
        let after = anonymous(pid);
        println!(
            "  {name:<22}{:<13}{:<15}{:<11}{rate:<11.0}{:<23}{:<6.0}{}",
            format!("{:.1} s", ready.as_secs_f64()),
            format!("{:.2} s", cpu.as_secs_f64()),
            format!("{before:.0} MiB"),
            format!("{after:.0} MiB"),
            group.peak(),
            group.kills(),
        );
        if limit.is_some() {
            let metric = |name: &str| {
                let metrics = envoy.prometheus();
                metrics.select(&format!("firstword_{name}"), &[]).map(|sample| sample.value).sum::<f64>()
            };
            println!(
                "    linear memory of the VMs {:.1} MiB, connections that a rule ended for memory {}",
                metric("vm_memory_bytes") / f64::from(1 << 20),
                metric("protection_lost_total"),
            );
        }
        assert_eq!(group.kills(), 0);
        drop(envoy);
        drop(group);
    }
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" };
    println!(
        "  limits by control groups of version {version}; {CONNECTIONS} connections at once, {ROUNDS} queries on each"
    );
}
