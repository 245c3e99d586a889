//! Drivers for MySQL and MariaDB in eight languages. Each returns the same results with and without the filter, and the
//! filter's counts equal the server's. `make test-drivers` fetches the drivers and runs the test.
//!
//! A driver is a program that takes `HOST PORT USER PASSWORD DATABASE FILE plain|tls|default|AUTHORITY`, goes through the
//! scenario of `tests/drivers/README.md` and prints a line for each step, as in `tests/drivers/expected.txt`.

// Tests report by a panic.
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "mysql/certificates.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests/mysql uses the rest, and shares it")]
mod certificates;
#[path = "drivers/concurrent_drivers.rs"]
mod concurrent_drivers;
#[path = "drivers/tables.rs"]
mod tables;
#[path = "drivers/tls_by_default.rs"]
mod tls_by_default;
#[path = "drivers/tls_modes.rs"]
mod tls_modes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::MySql;
use firstword_testing::prometheus::Metrics;
use firstword_testing::{root, temp_dir};
use mysql::{Conn, OptsBuilder};
use tables::{FILLED, GIVEN};

/// Time without changes after which all counts are exported: more than two ticks of the filter.
const QUIET: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);
/// Maximum time of a driver in seconds. One that takes longer hangs, and `timeout` kills it.
const MAX_SECONDS: &str = "120";

const EXPECTED: &str = include_str!("drivers/expected.txt");

/// A program of `tests/drivers`, set up by `scripts/drivers.sh`.
struct Driver {
    name: &'static str,
    /// Its name in documents. The program prints the version.
    title: &'static str,
    /// Steps of the scenario that its API does not support.
    lacks: &'static [&'static str],
    /// Steps that it does not support with MySQL.
    lacks_with_mysql: &'static [&'static str],
    /// Whether it can request the server's public key. Otherwise, caching_sha2_password needs TLS at a user's first login.
    requests_key: bool,
    /// Whether it can verify a server's certificate.
    verifies: bool,
}

const fn driver(name: &'static str, title: &'static str, lacks: &'static [&'static str]) -> Driver {
    Driver { name, title, lacks, lacks_with_mysql: &[], requests_key: true, verifies: true }
}

const DRIVERS: [Driver; 19] = [
    driver("connector-j-26.10.0", "MySQL Connector/J", &["dump", "reset"]),
    driver("connector-j-5.1.49", "MySQL Connector/J", &["dump", "reset"]),
    driver("connector-j-8.0.33", "MySQL Connector/J", &["dump", "reset"]),
    driver("go-sql-driver", "go-sql-driver", &["cursor", "dump", "reset", "change-user"]),
    driver("mariadb-cli", "MariaDB's command line", &["cursor", "reset", "change-user"]),
    Driver {
        lacks_with_mysql: &["reset"],
        ..driver("mariadb-java-3.5.11", "MariaDB Connector/J", &["dump", "change-user"])
    },
    Driver {
        lacks_with_mysql: &["reset"],
        ..driver("mariadb-java-4.0.0", "MariaDB Connector/J", &["dump", "change-user"])
    },
    Driver {
        lacks_with_mysql: &["change-user"],
        ..driver("mariadb-node", "mariadb for Node.js", &["cursor", "dump"])
    },
    driver("mysql-cli", "MySQL's command line", &["cursor", "reset", "change-user"]),
    driver("mysql2", "mysql2 for Node.js", &["cursor", "dump"]),
    driver("mysql_async", "mysql_async (Rust)", &["cursor", "dump"]),
    Driver {
        requests_key: false,
        ..driver("mysql-connector-python", "mysql-connector-python, in Python", &["cursor", "dump"])
    },
    Driver {
        requests_key: false,
        ..driver("mysql-connector-python-c", "mysql-connector-python, in C", &["cursor", "dump"])
    },
    driver("perl-mariadb", "DBD::MariaDB (Perl)", &["cursor", "dump", "reset", "change-user"]),
    Driver {
        verifies: false,
        ..driver("perl-mysql", "DBD::mysql (Perl)", &["cursor", "dump", "reset", "change-user"])
    },
    driver("php-mysqli", "PHP mysqli", &["dump", "reset"]),
    driver("php-pdo", "PHP PDO", &["cursor", "dump", "reset", "change-user", "ping"]),
    driver(
        "pymysql",
        "PyMySQL",
        &["prepared", "prepared-empty", "parameter", "cursor", "dump", "reset", "change-user"],
    ),
    driver("sqlx", "sqlx (Rust)", &["infile", "cursor", "dump", "reset", "change-user"]),
];

/// Events of `performance_schema` that are not text statements, and the filter's labels for them.
const EVENTS: [(&str, &str); 16] = [
    ("Binlog Dump", "binlog_dump"),
    ("Bulk_execute", "stmt_bulk_execute"),
    ("Change user", "change_user"),
    ("Close stmt", "stmt_close"),
    ("Execute", "stmt_execute"),
    ("Fetch", "stmt_fetch"),
    ("Field List", "field_list"),
    ("Init DB", "init_db"),
    ("Long Data", "stmt_send_long_data"),
    ("Ping", "ping"),
    ("Prepare", "stmt_prepare"),
    ("Quit", "quit"),
    ("Reset connection", "reset_connection"),
    ("Reset stmt", "stmt_reset"),
    ("Set option", "set_option"),
    ("Statistics", "statistics"),
];

/// Condition for the statements whose row neither server counts: SHOW CREATE.
const CREATE_ROWS: &str = "event_name LIKE 'statement/sql/show\\_create\\_%'";

const STATUSES: [&str; 2] = ["Bytes_received", "Bytes_sent"];

/// Counts of one run, from the server or the filter: commands by their labels, and rows, errors and bytes.
type Counts = BTreeMap<String, u64>;

/// The server's counts for `USER` since [`reset_counts`].
fn counted_by_server(server: &Server, before: &Counts) -> Counts {
    let Server { database, rows, .. } = server;
    let mut counts = Counts::new();
    let mut add = |name: &str, value: u64| *counts.entry(name.to_owned()).or_default() += value;
    let events = database.sql(&format!(
        "SELECT event_name, count_star, IF({CREATE_ROWS}, count_star - sum_errors, {rows}), sum_errors \
         FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE user = '{USER}'"
    ));
    for event in events {
        let number = |column: usize| event[column].parse::<u64>().expect("a number");
        add("rows", number(2));
        add("errors", number(3));
        match event[0].strip_prefix("statement/").and_then(|name| name.split_once('/')) {
            Some(("sql", _)) => add("query", number(1)),
            Some(("com", name)) if number(1) > 0 => {
                let label = EVENTS.iter().find(|(event, _)| event.eq_ignore_ascii_case(name));
                add(label.unwrap_or_else(|| panic!("no label for {name}")).1, number(1));
            }
            // Statements in a procedure are not commands.
            _ => {}
        }
    }
    for (name, value) in database.statuses(&STATUSES) {
        add(&name, value - before[&name]);
    }
    counts
}

/// Sets the server's counts of statements to zero. Returns the current values of the others.
fn reset_counts(database: &Database) -> Counts {
    database.sql("TRUNCATE performance_schema.events_statements_summary_by_user_by_event_name");
    database.statuses(&STATUSES)
}

/// The filter's counts.
fn counted_by_filter(metrics: &Metrics) -> Counts {
    let commands = metrics.select("firstword_commands_total", &[]);
    let mut counts: Counts =
        commands.map(|sample| (sample.labels["command"].clone(), sample.value as u64)).collect();
    let sums = [
        ("rows", "firstword_rows_total", None),
        ("errors", "firstword_errors_total", None),
        ("Bytes_received", "firstword_bytes_total", Some(("sender", "client"))),
        ("Bytes_sent", "firstword_bytes_total", Some(("sender", "server"))),
    ];
    for (name, metric, label) in sums {
        counts.insert(name.to_owned(), sum(metrics, metric, label.as_slice()));
    }
    counts
}

/// Number of commands in the counts.
fn commands(counts: &Counts) -> u64 {
    let labels = EVENTS.iter().map(|(_, label)| *label).chain(["query"]);
    labels.filter_map(|label| counts.get(label)).sum()
}

/// Differences between the two counts.
fn differences(server: &Counts, filter: &Counts) -> Vec<String> {
    let names: BTreeSet<_> = server.keys().chain(filter.keys()).collect();
    let both = names.into_iter().map(|name| {
        let of = |counts: &Counts| counts.get(name).copied().unwrap_or(0);
        (name, of(server), of(filter))
    });
    both.filter(|(_, server, filter)| server != filter)
        .map(|(name, server, filter)| format!("{name}: the server counted {server}, the filter {filter}"))
        .collect()
}

/// Value of the series of a metric with these labels, or zero.
fn sum(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.get(name, labels).unwrap_or(0.0) as u64
}

/// Creates the tables that the driver fills, and waits until there is no other session. Lets a driver that needs it find its
/// password in the server's cache.
fn prepare(driver: &Driver, database: &Database) {
    prepare_with(database, if driver.requests_key { Cache::Cold } else { Cache::Warm });
}

/// Whether caching_sha2_password finds the password in the server's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    Cold,
    Warm,
}

fn prepare_with(database: &Database, cache: Cache) {
    each(database, &FILLED);
    if cache == Cache::Warm {
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(database.addr().ip().to_string()))
            .tcp_port(database.port())
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .prefer_socket(false);
        drop(Conn::new(options).expect("a login"));
    }
    wait_until_alone(database);
}

/// Runs a driver's program, and waits for the end of its sessions. Returns its output, and if it failed, its errors.
fn run(driver: &Driver, database: &Database, address: SocketAddr, transport: &str) -> String {
    let printed = launch(driver, DATABASE, address, transport);
    wait_until_alone(database);
    printed
}

fn launch(driver: &Driver, schema: &str, address: SocketAddr, transport: &str) -> String {
    let files = temp_dir();
    let file = files.path().join("loaded.tsv");
    let lines: String = (1..=1000).map(|id| format!("{id}\tname {id}\n")).collect();
    std::fs::write(&file, lines).expect("a file to load");
    let output = Command::new("timeout")
        .arg(MAX_SECONDS)
        .arg(root().join("target/drivers/bin").join(driver.name))
        .args([&address.ip().to_string(), &address.port().to_string(), USER, PASSWORD, schema])
        .arg(&file)
        .arg(transport)
        .output()
        .expect("timeout");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    if output.status.success() {
        printed
    } else {
        format!("{printed}{}{}\n", text(&output.stderr), output.status)
    }
}

/// Differences between the output of a driver and the expected lines.
fn unexpected(driver: &Driver, server: &Server, printed: &str) -> Vec<String> {
    let lacks = [driver.lacks, if server.is_mysql { driver.lacks_with_mysql } else { &[] }].concat();
    let has = |line: &&str| !line.split_once(' ').is_some_and(|(step, _)| lacks.contains(&step));
    let expected: Vec<&str> = EXPECTED.lines().filter(has).collect();
    let found: Vec<&str> = printed.lines().filter(|line| !line.starts_with("driver ")).collect();
    line_differences(&expected, &found)
}

fn text_differences(expected: &str, found: &str) -> Vec<String> {
    line_differences(&expected.lines().collect::<Vec<_>>(), &found.lines().collect::<Vec<_>>())
}

/// Lines that only one of two outputs has.
fn line_differences(expected: &[&str], found: &[&str]) -> Vec<String> {
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}"));
    let more = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
    missing.chain(more).collect()
}

/// A server. It offers TLS and does not require it.
struct Server<'a> {
    name: String,
    database: &'a Database,
    is_mysql: bool,
    /// SQL expression for the number of rows that statements sent.
    rows: &'static str,
    /// File with the certificate that signed the server's.
    authority: PathBuf,
}

/// Results of one driver with one server.
struct Outcome {
    server: String,
    driver: &'static str,
    version: String,
    equal: bool,
    /// Counts of the filter and of the server.
    commands: (u64, u64),
    desyncs: u64,
    /// With TLS: whether the results were equal, and each connection was counted as opaque. `None` without a test.
    tls: Option<bool>,
    /// True if the filter started TLS to the server, and results and counts were equal.
    originated: bool,
    /// True if Envoy also ended the driver's TLS, and results and counts were equal.
    bridged: bool,
    /// Whether it chose TLS without any option for it.
    by_default: &'static str,
    problems: Vec<String>,
}

fn start_envoy(database: &Database) -> Envoy {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr());
    let configuration =
        r#"{"defaults": {"protocol": "mysql"}, "metrics": {"profile": "full", "max_series": 5000}}"#;
    Envoy::start(options.configuration(configuration))
}

fn compare(driver: &Driver, server: &Server) -> Outcome {
    let database = server.database;
    prepare(driver, database);
    let direct = run(driver, database, database.addr(), "plain");
    let mut problems = unexpected(driver, server, &direct);

    let envoy = start_envoy(database);
    prepare(driver, database);
    let before = reset_counts(database);
    let through = run(driver, database, envoy.listener_addr("mysql"), "plain");
    let metrics = envoy.stable(QUIET);
    let (server_counts, filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    let equal = through == direct;
    if !equal {
        problems.push("through the filter:".into());
        problems.extend(text_differences(&direct, &through));
    }
    problems.extend(differences(&server_counts, &filter));
    let desyncs = sum(&metrics, "firstword_opaque_total", &[("reason", "desync")]);
    let opaque = sum(&metrics, "firstword_opaque_total", &[]);
    if opaque > 0 {
        problems.push(format!("{opaque} connections became opaque, {desyncs} of them by desync"));
    }

    let tls = server.is_mysql.then(|| {
        let envoy = start_envoy(database);
        prepare(driver, database);
        let through = run(driver, database, envoy.listener_addr("mysql"), "tls");
        let metrics = envoy.stable(QUIET);
        let connections = sum(&metrics, "firstword_connections_total", &[]);
        let opaque = sum(&metrics, "firstword_opaque_total", &[("reason", "tls")]);
        let all_opaque = connections > 0 && opaque == connections;
        if !all_opaque || through != direct {
            problems.push(format!("TLS: {opaque} of {connections} connections were opaque"));
            problems.extend(unexpected(driver, server, &through));
        }
        all_opaque && through == direct
    });
    let (by_default, unequal) = tls_by_default::observe(driver, server, &direct);
    problems.extend(unequal);
    let unequal = tls_modes::compare_originate(driver, server, &direct);
    let originated = unequal.is_empty();
    problems.extend(unequal);
    let unequal = tls_modes::compare_bridge(driver, server, &direct);
    let bridged = unequal.is_empty();
    problems.extend(unequal);
    let version = direct.lines().find_map(|line| line.strip_prefix("driver ")).unwrap_or("?").to_owned();
    let commands = (commands(&filter), commands(&server_counts));
    Outcome {
        server: server.name.clone(),
        driver: driver.name,
        version,
        equal,
        commands,
        desyncs,
        tls,
        originated,
        bridged,
        by_default,
        problems,
    }
}

fn each(database: &Database, statements: &[&str]) {
    for statement in statements {
        database.sql(statement);
    }
}

fn wait_until_alone(database: &Database) {
    database.wait_until_alone(PATIENCE);
}

fn server_name(kind: &str, database: &Database) -> String {
    let version = database.sql("SELECT VERSION()")[0][0].clone();
    format!("{kind} {}", version.split('-').next().unwrap_or_default())
}

/// Writes a self-signed certificate and its key into the directory. Returns the server's options for them.
fn certificate(directory: &Path) -> [String; 2] {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    [("cert", cert.pem()), ("key", signing_key.serialize_pem())].map(|(name, text)| {
        let file = directory.join(name);
        std::fs::write(&file, text).expect("a file of the certificate");
        format!("--ssl-{name}={}", file.display())
    })
}

fn set_up(driver: &Driver) {
    let status = Command::new(root().join("scripts/drivers.sh")).arg(driver.name).status();
    assert!(status.expect("scripts/drivers.sh").success(), "driver {} is not ready", driver.name);
}

mod needs_drivers {
    use super::*;

    #[test]
    #[ignore = "needs the drivers' packages: make test-drivers"]
    fn drivers_see_no_difference_and_counts_equal_the_servers() {
        let wanted = std::env::var("DRIVER").unwrap_or_default();
        let selected: Vec<_> = DRIVERS.iter().filter(|driver| driver.name.starts_with(&wanted)).collect();
        let names: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
        assert!(!selected.is_empty(), "no driver's name begins with {wanted:?}; there are {names:?}");
        for driver in &selected {
            set_up(driver);
        }
        let files = temp_dir();
        let tls = certificate(files.path());
        let mariadb = MariaDb::start(&["--performance-schema=ON", "--local-infile=1", &tls[0], &tls[1]]);
        let mysql = MySql::start(&["--local-infile=1"]);
        let servers = [
            Server {
                name: server_name("MariaDB", &mariadb),
                database: &mariadb,
                is_mysql: false,
                rows: "sum_rows_sent",
                // It is self-signed.
                authority: files.path().join("cert"),
            },
            Server {
                name: server_name("MySQL", &mysql),
                database: &mysql,
                is_mysql: true,
                // For the second statement in `two_results`, MySQL also counts the row of the first.
                rows: "sum_rows_sent - IF(event_name = 'statement/sp/stmt', count_star DIV 2, 0)",
                authority: mysql.data_file("ca.pem"),
            },
        ];
        let mut outcomes = Vec::new();
        let mut problems = Vec::new();
        let compare_all = |server: &Server| {
            each(server.database, &[&format!("USE {DATABASE}")]);
            each(server.database, &GIVEN);
            let outcomes: Vec<_> = selected.iter().map(|driver| compare(driver, server)).collect();
            let found =
                if wanted.is_empty() { concurrent_drivers::run_concurrently(server) } else { Vec::new() };
            (outcomes, found.into_iter().map(|problem| format!("{}: {problem}", server.name)).collect())
        };
        // Both at the same time, because a run mostly waits.
        let of_servers: Vec<(_, Vec<_>)> = thread::scope(|scope| {
            let compare_all = &compare_all;
            let running: Vec<_> =
                servers.iter().map(|server| scope.spawn(move || compare_all(server))).collect();
            running.into_iter().map(|server| server.join().expect("the drivers of a server")).collect()
        });
        for (compared, found) in of_servers {
            outcomes.extend(compared);
            problems.extend(found);
        }
        println!("{}", table(&outcomes));
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).collect();
        for Outcome { driver, server, problems, .. } in &failed {
            println!("{driver} with {server}:");
            // Limit the output, because a driver that fails may print pages of its source.
            for problem in problems.iter().take(100) {
                println!("    {}", problem.chars().take(200).collect::<String>());
            }
        }
        let differing = tls_by_default::compare_rows(&outcomes);
        assert!(failed.is_empty(), "{} of {} differ", failed.len(), outcomes.len());
        assert!(problems.is_empty(), "six concurrent drivers:\n{}", problems.join("\n"));
        let hint = "docs/tls.md differs; make test-drivers FIRSTWORD_BLESS=1 writes the table";
        assert!(differing.is_empty(), "{hint}\n{}", differing.join("\n"));
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut lines = vec![
        [
            "driver",
            "version",
            "server",
            "results equal",
            "commands",
            "server's",
            "desyncs",
            "TLS",
            "originate",
            "bridge",
            "passed",
        ]
        .map(str::to_owned),
    ];
    lines.extend(outcomes.iter().map(|outcome| {
        [
            outcome.driver.into(),
            outcome.version.clone(),
            outcome.server.clone(),
            yes(outcome.equal).into(),
            outcome.commands.0.to_string(),
            outcome.commands.1.to_string(),
            outcome.desyncs.to_string(),
            outcome.tls.map_or("-", yes).into(),
            yes(outcome.originated).into(),
            yes(outcome.bridged).into(),
            yes(outcome.problems.is_empty()).into(),
        ]
    }));
    let widths: Vec<_> = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let padded = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ")
    });
    padded.map(|line| format!("{}\n", line.trim_end())).collect()
}
