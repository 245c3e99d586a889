//! Comparison of the filter's counts with what the clients did and with the servers' own counters, after the last connection.

use std::time::Duration;

use firstword_testing::database::Database;
use firstword_testing::envoy::Envoy;
use firstword_testing::prometheus::Metrics;

use crate::proxy::Traffic;
use crate::tally::Counts;

/// Time without changes after which all counts are exported: more than two ticks of the filter.
const QUIET: Duration = Duration::from_secs(3);
/// Maximum time until a server has ended its last sessions.
const ENDING: Duration = Duration::from_secs(60);

const GAUGES: [&str; 6] = [
    "connections_active",
    "commands_in_flight",
    "commands_stalled",
    "prepared_statements_open",
    "transactions_open",
    "connection_state_bytes",
];

/// Counters of MariaDB for commands, and the filter's labels of these commands.
const COMMANDS: [(&str, &str); 3] = [
    ("Com_stmt_prepare", "stmt_prepare"),
    ("Com_stmt_execute", "stmt_execute"),
    ("Com_stmt_close", "stmt_close"),
];
const SERVER: [&str; 7] = [
    "Bytes_received",
    "Bytes_sent",
    "Connections",
    "Rows_sent",
    "Com_stmt_prepare",
    "Com_stmt_execute",
    "Com_stmt_close",
];

/// Counters of a server.
pub type Statuses = std::collections::BTreeMap<String, u64>;

/// Counters of a server without other sessions than the monitor's.
pub fn statuses(database: &Database) -> Statuses {
    database.wait_until_alone(ENDING);
    database.statuses(&SERVER)
}

/// One comparison of two counts.
pub struct Comparison {
    pub what: String,
    pub found: u64,
    pub expected: u64,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.found == self.expected
    }

    fn line(&self) -> String {
        format!("{}: {} and {}", self.what, self.found, self.expected)
    }
}

/// Asserts that all counts are equal.
pub fn assert_equal(comparisons: &[Comparison]) {
    let wrong: Vec<_> =
        comparisons.iter().filter(|compared| !compared.is_equal()).map(Comparison::line).collect();
    assert!(wrong.is_empty(), "found and expected: {wrong:#?}");
}

/// Counters of the good server before the first connection, and after the last.
pub struct Server {
    pub before: Statuses,
    pub after: Statuses,
}

impl Server {
    fn count(&self, name: &str) -> u64 {
        self.after[name] - self.before[name]
    }

    /// Compares what the clients did with what the server counted.
    pub fn with_clients(&self, counts: &Counts) -> Vec<Comparison> {
        let tally = &counts.good;
        let compared = |name: &str, expected: u64| Comparison {
            what: format!("the server's {name}, as the clients count"),
            found: self.count(name),
            expected,
        };
        let commands = COMMANDS.iter().map(|(status, label)| compared(status, tally.commands[label]));
        let mut all = vec![compared("Connections", tally.connections), compared("Rows_sent", tally.rows)];
        all.extend(commands);
        all
    }

    /// Compares the filter's counts with those of the server and of the clients.
    pub fn with_filter(&self, envoy: &Envoy, counts: &Counts) -> Vec<Comparison> {
        let metrics = envoy.stable(QUIET);
        let mut all = Vec::new();
        let mut add = |what: String, found, expected| all.push(Comparison { what, found, expected });
        let of = |traffic: Traffic, name: &str, labels: &[(&str, &str)]| {
            sum(&metrics, name, &[&[("destination", traffic.name())], labels].concat())
        };
        let tally = &counts.good;
        let good = |name: &str, labels: &[(&str, &str)]| {
            [Traffic::Good, Traffic::Tunnelled].map(|traffic| of(traffic, name, labels)).iter().sum()
        };
        for (sender, status) in [("client", "Bytes_received"), ("server", "Bytes_sent")] {
            let found = good("bytes_total", &[("sender", sender)]);
            add(format!("bytes of the {sender}, as the server counts"), found, self.count(status));
        }
        add(
            "connections, as the server counts".into(),
            good("connections_total", &[]),
            self.count("Connections"),
        );
        add("connections that ended".into(), good("connections_closed_total", &[]), tally.connections);
        add("logins".into(), good("handshakes_total", &[("result", "ok")]), tally.connections);
        add("rows, as the server counts".into(), good("rows_total", &[]), self.count("Rows_sent"));
        for (label, count) in &tally.commands {
            let found = good("commands_total", &[("command", label)]);
            add(format!("{label}, as the clients count"), found, *count);
        }
        add("all commands".into(), good("commands_total", &[]), tally.all_commands());
        add("errors, as the clients count".into(), good("errors_total", &[]), tally.errors);
        add("connections without inspection".into(), good("opaque_total", &[]), 0);
        let [flood, proxied] = counts.attacks;
        for (traffic, opened) in
            [(Traffic::Cut, counts.cut), (Traffic::Flood, flood), (Traffic::Proxied, proxied)]
        {
            let name = traffic.name();
            add(format!("connections of `{name}`"), of(traffic, "connections_total", &[]), opened);
            add(
                format!("connections of `{name}` that ended"),
                of(traffic, "connections_closed_total", &[]),
                opened,
            );
        }
        for gauge in GAUGES {
            add(format!("gauge `{gauge}`"), sum(&metrics, gauge, &[]), 0);
        }
        add("panics".into(), sum(&metrics, "panics_total", &[]), 0);
        all
    }
}

/// Sum of all series of a metric with these labels. A missing series counts 0.
fn sum(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.select(&format!("firstword_{name}"), labels).map(|sample| sample.value as u64).sum()
}
