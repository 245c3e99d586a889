//! Shared parts of the measuring programs: the proxies under comparison, the load, medians.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use firstword_testing::process::cpu_time;
use firstword_testing::shell::native;
use firstword_testing::{root, wasm};

/// Connections that send queries at the same time.
pub const CONNECTIONS: u32 = 8;
/// Number of queries of one proxy in one round. They take a fraction of a second, so that all proxies of a round have the same
/// conditions.
pub const QUERIES: u32 = 4000;
/// Time after which the filter has exported its counts: longer than two ticks.
pub const QUIET: Duration = Duration::from_millis(1500);

/// Number of proxies under comparison.
pub const PROXIES: usize = 4;

/// Proxies by name: `tcp_proxy` alone, with the filter of `benches/floor`, which only reads the bytes, with our filter as a wasm
/// module, and with it as a native module.
pub fn modules() -> [(&'static str, Option<PathBuf>); PROXIES] {
    [
        ("plain", None),
        ("floor", Some(root().join("target/floor.wasm"))),
        ("firstword", Some(wasm())),
        ("native", Some(native())),
    ]
}

/// Starts Envoy with the configuration for users, and with this module in place of the filter. `None` removes the filter.
pub fn envoy(database: &MariaDb, module: Option<PathBuf>, workers: u32) -> Envoy {
    let is_native = module.as_ref().is_some_and(|module| module.extension().is_some_and(|end| end == "so"));
    let file = if is_native { "envoy/native.yaml" } else { "envoy/mysql.yaml" };
    let options = EnvoyOptions::new(file).upstream("mysql", database.addr()).concurrency(workers);
    Envoy::start(match module {
        Some(module) if is_native => options.native(&module),
        Some(module) => options.wasm(&module),
        None => options.edit(|bootstrap| {
            let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
            filters.as_array_mut().expect("filters").retain(|filter| filter["name"] != "firstword");
        }),
    })
}

/// Number in an environment variable. `None` if the variable is empty or not set.
pub fn option(name: &str) -> Option<u32> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Measurements of some queries through a proxy.
pub struct Load {
    pub queries: u64,
    pub per_second: f64,
    /// CPU time per query, in microseconds.
    pub cpu: f64,
}

/// Runs `events` point selects on this number of connections through the proxy of process `pid`.
pub fn point_selects(address: SocketAddr, pid: u32, connections: u32, events: u32) -> Load {
    let before = cpu_time(pid);
    let (queries, per_second) = run(address, connections, events);
    let cpu = cpu_time(pid) - before;
    Load { queries, per_second, cpu: cpu.as_secs_f64() * 1e6 / queries as f64 }
}

/// Runs point selects. Returns the number of queries, and the queries per second.
pub fn run(address: SocketAddr, connections: u32, events: u32) -> (u64, f64) {
    let report = sysbench(address, "run", connections, &["--time=0".into(), format!("--events={events}")]);
    queries(&report).unwrap_or_else(|| panic!("no queries in {report}"))
}

/// Number of rows in sysbench's table.
pub const TABLE_ROWS: u32 = 10_000;

/// Runs a command of sysbench. It sends statements as text (COM_QUERY), as most clients do.
pub fn sysbench(address: SocketAddr, command: &str, connections: u32, options: &[String]) -> String {
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

/// Parses the line `queries: 12345 (1234.50 per sec.)`.
fn queries(report: &str) -> Option<(u64, f64)> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("queries:"))?;
    let mut words = line.split([' ', '(', ')']).filter(|word| !word.is_empty());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Median of some values, with the smallest and the largest value.
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
    /// Confidence interval of 95 % for the median of any number of rounds: the values at two ranks, for any distribution.
    pub confidence: (f64, f64),
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let either_side = values.len().isqrt();
        Self {
            min: values[0],
            median: (values[last / 2] + values[last.div_ceil(2)]) / 2.0,
            max: values[last],
            confidence: (
                values[(last / 2).saturating_sub(either_side)],
                values[(last.div_ceil(2) + either_side).min(last)],
            ),
        }
    }

    /// Ratio of one proxy's values to those of another in the same rounds.
    pub fn ratio(own: impl Iterator<Item = f64>, base: impl Iterator<Item = f64>) -> Self {
        Self::of(own.zip(base).map(|(own, base)| own / base))
    }

    pub fn show(&self, digits: usize) -> String {
        let Self { min, median, max, .. } = self;
        format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}
