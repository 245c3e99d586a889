//! Shared parts of the measuring programs: Envoy with a module, the load.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use firstword_testing::root;

/// Connections that send queries at the same time.
pub const CONNECTIONS: u32 = 8;
/// Time after which the filter has exported its counts: longer than two ticks.
pub const QUIET: Duration = Duration::from_millis(1500);

/// The floor: a filter that only reads the bytes.
pub fn floor() -> PathBuf {
    root().join("target/floor.wasm")
}

/// Starts Envoy with the configuration for users, and with this module in place of the filter. `None` removes the filter.
pub fn envoy(database: &MariaDb, module: Option<&Path>, workers: u32) -> Envoy {
    Envoy::start(options(database, module, workers))
}

/// Options of [`envoy`].
pub fn options(database: &MariaDb, module: Option<&Path>, workers: u32) -> EnvoyOptions {
    let is_native = module.is_some_and(|module| module.extension().is_some_and(|end| end == "so"));
    let file = if is_native { "envoy/native.yaml" } else { "envoy/mysql.yaml" };
    let options = EnvoyOptions::new(file).upstream("mysql", database.addr()).concurrency(workers);
    match module {
        Some(module) if is_native => options.native(module),
        Some(module) => options.wasm(module),
        None => options.edit(|bootstrap| {
            let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
            filters.as_array_mut().expect("filters").retain(|filter| filter["name"] != "firstword");
        }),
    }
}

/// Number in an environment variable. `None` if the variable is empty or not set.
pub fn option(name: &str) -> Option<u32> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Number of rows in sysbench's table.
pub const TABLE_ROWS: u32 = 10_000;

/// Runs a command of a test of sysbench, and returns its report.
pub fn sysbench(address: SocketAddr, test: &str, command: &str, options: &[&str]) -> String {
    let mut sysbench = Command::new("sysbench");
    sysbench.args([test, "--db-driver=mysql", &format!("--threads={CONNECTIONS}")]);
    sysbench.args([format!("--mysql-host={}", address.ip()), format!("--mysql-port={}", address.port())]);
    sysbench.args([format!("--mysql-user={USER}"), format!("--mysql-password={PASSWORD}")]);
    sysbench.args([format!("--mysql-db={DATABASE}"), format!("--table-size={TABLE_ROWS}")]);
    sysbench.args(options).arg(command);
    let output = sysbench.output().expect("sysbench; run: make bench");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "sysbench {command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
