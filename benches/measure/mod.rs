//! What the measuring programs share: the proxies that are compared, the load, medians.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use firstword_testing::process::cpu_time;
use firstword_testing::{root, wasm};

/// Connections that send queries at the same time.
pub const CONNECTIONS: u32 = 8;
/// Of one proxy in one round: a fraction of a second, so that all of a round meet the same weather.
pub const QUERIES: u32 = 4000;
/// Longer than two ticks of the filter: what it counted has been exported.
pub const QUIET: Duration = Duration::from_millis(1500);

/// `tcp_proxy` alone; in front of it the filter of `benches/floor`, which reads what must be read and does nothing else;
/// in front of it ours.
pub fn modules() -> [(&'static str, Option<PathBuf>); 3] {
    [("plain", None), ("floor", Some(root().join("target/floor.wasm"))), ("firstword", Some(wasm()))]
}

/// The Envoy that users start, with that module in the filter's place, or without the filter.
pub fn envoy(database: &MariaDb, module: Option<PathBuf>, workers: u32) -> Envoy {
    let options =
        EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr()).concurrency(workers);
    Envoy::start(match module {
        Some(module) => options.wasm(&module),
        None => options.edit(|bootstrap| {
            let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
            filters.as_array_mut().expect("filters").retain(|filter| filter["name"] != "firstword");
        }),
    })
}

/// The number in an environment variable, if there is one.
pub fn option(name: &str) -> Option<u32> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// What a proxy did with some queries.
pub struct Load {
    pub queries: u64,
    pub per_second: f64,
    /// CPU time per query, in microseconds.
    pub cpu: f64,
}

/// Point selects of so many connections at once through a proxy of process `pid`.
pub fn point_selects(address: SocketAddr, pid: u32, connections: u32, events: u32) -> Load {
    let before = cpu_time(pid);
    let (queries, per_second) = run(address, connections, events);
    let cpu = cpu_time(pid) - before;
    Load { queries, per_second, cpu: cpu.as_secs_f64() * 1e6 / queries as f64 }
}

/// How many queries there were, and how many in a second.
pub fn run(address: SocketAddr, connections: u32, events: u32) -> (u64, f64) {
    let report = sysbench(address, "run", connections, &["--time=0".into(), format!("--events={events}")]);
    queries(&report).unwrap_or_else(|| panic!("no queries in {report}"))
}

/// The rows of sysbench's table.
pub const TABLE_ROWS: u32 = 10_000;

/// Statements go as text, COM_QUERY: so do those of most clients.
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

/// From the line `queries: 12345 (1234.50 per sec.)`.
fn queries(report: &str) -> Option<(u64, f64)> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("queries:"))?;
    let mut words = line.split([' ', '(', ')']).filter(|word| !word.is_empty());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The median of some values, between the smallest and the largest.
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
    /// Where the median of endless rounds lies, 95 times of 100: between the values at these ranks, whatever their
    /// distribution.
    pub sure: (f64, f64),
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
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

    /// Of what is measured of one proxy to what is of another in the same rounds.
    pub fn ratio(own: impl Iterator<Item = f64>, base: impl Iterator<Item = f64>) -> Self {
        Self::of(own.zip(base).map(|(own, base)| own / base))
    }

    pub fn show(&self, digits: usize) -> String {
        let Self { least, median, most, .. } = self;
        format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}
