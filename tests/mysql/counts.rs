//! Comparison of the filter's counts with the server's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mysql::{Conn, OptsBuilder};

use firstword_testing::database::{DATABASE, Database, Oracle, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::prometheus::Metrics;

/// Time without changes after which all counts are exported: more than two ticks of the filter.
pub const QUIET: Duration = Duration::from_millis(1500);

pub fn options(database: &Database) -> EnvoyOptions {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr());
    options.configuration(r#"{"metrics": {"profile": "full", "max_series": 5000}}"#)
}

pub fn start_envoy(database: &Database) -> Envoy {
    Envoy::start(options(database))
}

pub fn address(envoy: &Envoy) -> SocketAddr {
    envoy.listener_addr("mysql")
}

pub fn client_options(address: SocketAddr, user: &str, password: &str) -> OptsBuilder {
    OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        .prefer_socket(false)
        .user(Some(user))
        .pass(Some(password))
        .db_name(Some(DATABASE))
        .max_allowed_packet(Some(64 << 20))
}

pub fn login(address: SocketAddr) -> Conn {
    Conn::new(client_options(address, USER, PASSWORD)).unwrap()
}

/// Sum of all series of a metric with these labels. A missing series counts 0.
pub fn sum(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    let name = format!("firstword_{name}");
    metrics.select(&name, labels).map(|sample| sample.value as u64).sum()
}

/// Sums of a metric for each value of one label, without zeros.
pub fn sums_by(metrics: &Metrics, name: &str, label: &str) -> BTreeMap<String, u64> {
    sums_of(metrics, name, &[], label)
}

/// Sums of the series with these labels for each value of another label, without zeros.
pub fn sums_of(metrics: &Metrics, name: &str, labels: &[(&str, &str)], label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for sample in metrics.select(&format!("firstword_{name}"), labels) {
        *sums.entry(sample.labels[label].clone()).or_insert(0) += sample.value as u64;
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// Differences between the packets and the counts of a server.
#[derive(Clone, Copy, Default)]
pub struct KnownDifferences {
    /// Number of statements after the first of a COM_QUERY. MySQL counts a command for each.
    pub further_statements: u64,
    /// Number of rows that MySQL's `SUM_ROWS_SENT` counts again, once for each later statement in the same procedure.
    pub rows_counted_twice: u64,
    /// Number of rows from COM_STMT_FETCH, which MariaDB's `Rows_sent` omits.
    pub rows_fetched: u64,
}

/// Asserts that the filter's counts equal the server's counts since `before` exactly.
pub fn assert_equal(database: &Database, before: &Oracle, envoy: &Envoy, known: KnownDifferences) {
    let metrics = envoy.stable(QUIET);
    let server = database.oracle_when_alone().since(before);
    let filter = |name: &str| sum(&metrics, name, &[]);
    assert_eq!(sums_by(&metrics, "opaque_total", "reason"), BTreeMap::new(), "{}", envoy.log());
    assert_eq!(sum(&metrics, "bytes_total", &[("sender", "client")]), server.bytes_received);
    assert_eq!(sum(&metrics, "bytes_total", &[("sender", "server")]), server.bytes_sent);
    assert_eq!(filter("connections_total"), server.connections);
    let mut commands = server.counts.commands.clone();
    let mut rows = server.counts.rows;
    if database.is_mysql() {
        *commands.get_mut("query").unwrap() -= known.further_statements;
        rows -= known.rows_counted_twice;
    } else {
        rows += known.rows_fetched;
    }
    for (label, count) in commands {
        assert_eq!(sum(&metrics, "commands_total", &[("command", &label)]), count, "command {label}");
    }
    let errors = server.counts.errors.iter().map(|(errno, count)| (errno.to_string(), *count)).collect();
    assert_eq!(sums_by(&metrics, "errors_total", "errno"), errors);
    assert_eq!(filter("rows_total"), rows, "rows");
    for (name, count) in
        [("affected_rows_total", server.counts.affected_rows), ("warnings_total", server.counts.warnings)]
    {
        if let Some(count) = count {
            assert_eq!(filter(name), count, "{name}");
        }
    }
    for gauge in ["connections_active", "commands_in_flight", "prepared_statements_open", "transactions_open"]
    {
        assert_eq!(filter(gauge), 0, "{gauge}");
    }
}

/// Declares a test of each scenario with MariaDB, and one with MySQL.
macro_rules! on_both_servers {
    ($($(#[$doc:meta])* $scenario:ident)*) => {
        mod mariadb {
            use firstword_testing::mariadb::{COUNTED, MariaDb};
            $($(#[$doc])* #[test] fn $scenario() { super::$scenario(&MariaDb::start(&COUNTED)); })*
        }
        mod mysql {
            mod needs_mysqld {
                use firstword_testing::mysqld::{MySql, NO_TLS};
                $(
                    $(#[$doc])*
                    #[test]
                    #[ignore = "needs MySQL: make tools-mysql"]
                    fn $scenario() { super::super::$scenario(&MySql::start(&[NO_TLS])); }
                )*
            }
        }
    };
}

pub(crate) use on_both_servers;
