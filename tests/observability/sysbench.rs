//! The counts in Prometheus for a load equal those of the load generator and the server.

use std::process::Command;

use crate::server::{Prometheus, shipped, yaml};
use firstword_testing::database::{DATABASE, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{self, MariaDb};

const EVENTS: u32 = 20_000;

fn sysbench(port: u16, command: &str, options: &[&str]) -> String {
    let output = Command::new("sysbench")
        .args(["--db-driver=mysql", "--mysql-host=127.0.0.1", "--tables=1", "--table-size=1000"])
        .args([format!("--mysql-port={port}"), format!("--mysql-user={USER}")])
        .args([format!("--mysql-password={PASSWORD}"), format!("--mysql-db={DATABASE}")])
        .args(options)
        .args(["oltp_point_select", command])
        .output()
        .expect("sysbench; make test installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Number after a label of the report.
fn reported(report: &str, label: &str) -> f64 {
    let line =
        report.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap_or_else(|| panic!("{report}"));
    let number = line.trim_start_matches(':').split_whitespace().next();
    number.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{label} in {report}"))
}

#[test]
fn counts_and_percentiles_equal_those_of_sysbench_and_the_server() {
    let server = MariaDb::start(&mariadb::COUNTED);
    sysbench(server.port(), "prepare", &[]);
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", server.addr()).concurrency(2);
    let envoy = Envoy::start(options);
    let job = yaml(&shipped("prometheus.yaml"))["scrape_configs"][0].clone();
    let prometheus = Prometheus::start(&[(job, envoy.admin_addr())], &[yaml(&shipped("rules.yaml"))]);
    let before = server.oracle();
    let port = envoy.listener_addr("mysql").port();
    let events = format!("--events={EVENTS}");
    let report = sysbench(
        port,
        "run",
        &["--threads=4", "--time=0", "--db-ps-mode=disable", "--percentile=95", &events],
    );
    let queries = reported(&report, "total");
    assert_eq!(queries, f64::from(EVENTS));
    let counted = server.oracle_when_alone().since(&before);
    let point_selects = r#"sum(firstword_statements_total{verb="select"})"#;
    prometheus.wait(point_selects, f64::from(EVENTS));
    for (command, count) in counted.counts.commands.iter().filter(|(_, count)| **count > 0) {
        let ours = format!(r#"sum(firstword_commands_total{{command="{command}"}})"#);
        prometheus.wait(&ours, *count as f64);
    }
    prometheus.wait(r#"sum(firstword_bytes_total{sender="client"})"#, counted.bytes_received as f64);
    prometheus.wait(r#"sum(firstword_bytes_total{sender="server"})"#, counted.bytes_sent as f64);
    prometheus.wait("sum(firstword_connections_total)", 4.0);
    prometheus.wait("sum(firstword_errors_total) or vector(0)", 0.0);
    for gauge in ["connections_active", "commands_in_flight", "commands_stalled", "transactions_open"] {
        prometheus.wait(&format!("sum(firstword_{gauge})"), 0.0);
    }

    // The quotient is the exact mean, because sums and counts are exact.
    let mean = prometheus.value(
        r#"sum(firstword_command_duration_seconds_sum{command="query"})
           / sum(firstword_command_duration_seconds_count{command="query"})"#,
    );
    let theirs = reported(&report, "avg") / 1000.0;
    assert!(mean > 0.0 && mean <= theirs, "{mean} s in the filter, {theirs} s at the client");

    let p95 = prometheus.value(
        r#"histogram_quantile(0.95, sum by (le) (firstword_command_duration_seconds_bucket{command="query"}))"#,
    );
    let theirs = reported(&report, "95th percentile") / 1000.0;
    let mut bounds: Vec<f64> = prometheus
        .query(r#"sum by (le) (firstword_command_duration_seconds_bucket{command="query"})"#)
        .iter()
        .filter_map(|sample| sample.labels["le"].as_str()?.parse().ok())
        .collect();
    bounds.sort_by(f64::total_cmp);
    let bucket = |seconds: f64| bounds.iter().filter(|bound| **bound < seconds).count();
    let apart = bucket(p95).abs_diff(bucket(theirs));
    assert!(apart <= 1, "{p95} s in the filter, {theirs} s at the client, of buckets {bounds:?}");
}
