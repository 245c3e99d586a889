//! Hazards of real drivers, servers and networks. Each is shown without the filter, and prevented with it. `make test-hazards`
//! fetches the drivers and runs the tests with them.

// Tests report by a panic, and read the real clock.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

mod capabilities;
mod endings;
mod files;
mod hostile;
mod rogue;
mod sequences;
#[path = "../drivers/tables.rs"]
mod tables;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::{MySql, NO_TLS};
use firstword_testing::prometheus::Metrics;
use firstword_testing::relay::{CUTS, Relay};
use firstword_testing::root;

/// Time without changes after which all counts are exported: more than two ticks of the filter.
const QUIET: Duration = Duration::from_millis(1500);

/// Number of times that each cut is made.
const TIMES: usize = 1000;
/// Number of connections with the same cut.
const CONNECTIONS: usize = 8;

/// Maximum time of a driver in seconds. One that takes longer hangs, and `timeout` kills it.
const MAX_SECONDS: &str = "300";

/// Versions of Connector/J with and without the bug.
const AFFECTED: [&str; 2] = ["8.0.27", "8.0.31"];
const SOUND: [&str; 3] = ["5.1.49", "8.0.33", "26.10.0"];

const FETCHES: [&str; 2] = ["rows", "cursor"];

/// Output of a run of `Prepares.java`.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    done: usize,
    failures: Vec<String>,
}

fn prepares(version: &str, address: SocketAddr, connections: usize, times: usize, fetch: &str) -> Report {
    let program = root().join(format!("target/drivers/bin/hazard-{version}"));
    let mut command = Command::new("timeout");
    command.args([MAX_SECONDS.as_ref(), program.as_os_str()]).arg(address.ip().to_string());
    command.args([&address.port().to_string(), USER, PASSWORD, DATABASE]);
    let output = command.args([&connections.to_string(), &times.to_string(), fetch]).output();
    let output = output.expect("timeout and the driver");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rev().find_map(|line| line.strip_prefix("done "));
    let done = last.and_then(|done| done.parse().ok());
    let errors = String::from_utf8_lossy(&output.stderr);
    let done = done.unwrap_or_else(|| panic!("Connector/J {version}: {} {text}{errors}", output.status));
    let failures = text.lines().filter_map(|line| line.strip_prefix("failed ")).map(str::to_owned).collect();
    Report { done, failures }
}

/// Fetches the drivers, and creates their tables in a server.
fn prepare(server: &Database) {
    let script = root().join("scripts/drivers.sh");
    let status = Command::new(script).arg("hazards").status();
    assert!(status.expect("scripts/drivers.sh").success(), "Connector/J is not ready");
    server.sql("SET GLOBAL max_connections = 500");
    server.sql(&format!("CREATE TABLE {DATABASE}.items (id INT PRIMARY KEY, name VARCHAR(20))"));
    for id in 1..=5 {
        server.sql(&format!("INSERT INTO {DATABASE}.items VALUES ({id}, 'item {id}')"));
    }
    // MySQL caches a hash of the password, so that clients need no public key.
    Client::login(server.addr(), &Login::new(CLASSIC)).quit();
}

fn envoy(server: SocketAddr, configuration: &str) -> Envoy {
    let options = EnvoyOptions::new(root().join("envoy/mysql.yaml"));
    Envoy::start(options.upstream("mysql", server).configuration(configuration))
}

fn hold(setting: &str) -> String {
    format!(r#"{{"rules": [{{"name": "orders", "mysql": {{"hold_split_eof": "{setting}"}}}}]}}"#)
}

fn count(metrics: &Metrics, name: &str) -> u64 {
    metrics.get(&format!("firstword_{name}"), &[]).unwrap_or(0.0) as u64
}

/// Counts of hazards, without zeros.
fn hazards(metrics: &Metrics) -> Vec<(&str, u64)> {
    let kinds = metrics.select("firstword_hazards_total", &[]);
    let counted = kinds.map(|sample| (sample.labels["kind"].as_str(), sample.value as u64));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Asserts that each connection fails. Each has several attempts, because a slow driver may read the whole EOF at once.
fn assert_all_fail(version: &str, address: SocketAddr, fetch: &str) {
    let report = prepares(version, address, CUTS, 50, fetch);
    assert_eq!(report.failures.len(), CUTS, "Connector/J {version}, {fetch}: {report:?}");
}

mod needs_drivers {
    use super::*;

    #[test]
    #[ignore = "needs Connector/J: make test-hazards"]
    fn a_split_eof_of_mariadb_hangs_affected_releases_unless_it_is_held() {
        assert_a_split_eof_hangs_unless_held(&MariaDb::start(&[]));
    }

    #[test]
    #[ignore = "needs Connector/J: make test-hazards"]
    fn a_split_eof_of_mysql_hangs_affected_releases_unless_it_is_held() {
        assert_a_split_eof_hangs_unless_held(&MySql::start(&[NO_TLS]));
    }

    #[test]
    #[ignore = "needs Connector/J: make test-hazards"]
    fn a_split_eof_that_is_not_held_is_counted_and_logged_with_the_setting() {
        let server = MariaDb::start(&[]);
        prepare(&server);
        let relay = Relay::start(server.addr());
        let envoy = envoy(relay.address(), "{}");
        assert_all_fail("8.0.27", envoy.listener_addr("mysql"), "rows");
        let metrics = envoy.stable(QUIET);
        assert!(count(&metrics, "prepare_eof_splits_total") >= CUTS as u64);
        assert_eq!(count(&metrics, "prepare_eof_held_total"), 0);
        assert_eq!(count(&metrics, "eof_hazard_clients_total"), CUTS as u64);
        assert_eq!(hazards(&metrics), [("split_eof", CUTS as u64)]);
        let log = envoy.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("event=eof_hazard")).collect();
        assert!(!lines.is_empty() && lines.len() <= 2, "once for each worker: {lines:#?}");
        for line in lines {
            assert!(line.contains("client=\"MySQL Connector/J 8.0.27\""), "{line}");
            assert!(line.contains(r#"'"mysql": {"hold_split_eof": "affected_clients"}'"#), "{line}");
        }
    }
}

fn assert_a_split_eof_hangs_unless_held(server: &Database) {
    prepare(server);
    let relay = Relay::start(server.addr());
    for fetch in FETCHES {
        for version in AFFECTED {
            assert_all_fail(version, relay.address(), fetch);
        }
        for version in SOUND {
            let report = prepares(version, relay.address(), CUTS, 20, fetch);
            assert_eq!(report, Report { done: CUTS * 20, failures: Vec::new() }, "Connector/J {version}");
        }
    }
    for (setting, versions) in
        [("affected_clients", AFFECTED.as_slice()), ("always", &SOUND), ("always", &AFFECTED[..1])]
    {
        for version in versions {
            let envoy = envoy(relay.address(), &hold(setting));
            for fetch in FETCHES {
                relay.take_cut();
                let times = TIMES / CONNECTIONS;
                let report =
                    prepares(version, envoy.listener_addr("mysql"), CUTS * CONNECTIONS, times, fetch);
                assert_eq!(
                    report,
                    Report { done: CUTS * TIMES, failures: Vec::new() },
                    "Connector/J {version}"
                );
                assert_eq!(relay.take_cut(), [TIMES as u64; CUTS], "Connector/J {version}");
            }
            let metrics = envoy.stable(QUIET);
            let [splits, held, lost, clients] = [
                "prepare_eof_splits_total",
                "prepare_eof_held_total",
                "prepare_eof_lost_total",
                "eof_hazard_clients_total",
            ]
            .map(|name| count(&metrics, name));
            println!(
                "Connector/J {version}: {splits} splits, {held} held, {lost} lost, {clients} affected clients"
            );
            // On a busy machine, Envoy sometimes reads both parts at once.
            let all = (FETCHES.len() * CUTS * TIMES) as u64;
            assert!(held == splits && lost == 0 && (all / 2..=all).contains(&held), "{held} of {splits}");
            let expected = if AFFECTED.contains(version) { FETCHES.len() * CUTS * CONNECTIONS } else { 0 };
            assert_eq!(clients, expected as u64, "Connector/J {version}");
            assert_eq!(
                hazards(&metrics),
                [("split_eof", clients)].into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>()
            );
        }
    }
}
