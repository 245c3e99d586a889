//! The drivers of MySQL's world as clients: what each tells its program through the filter is what it tells without, and
//! the filter counts what the server counts. Run by `make test-drivers`, which also gets what they need.
//!
//! A driver is a program that takes `HOST PORT USER PASSWORD DATABASE FILE plain|tls`, goes through the scenario of
//! `tests/drivers/README.md` and prints a line for each step: the lines of `tests/drivers/expected.txt`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::envoy::{Envoy, EnvoyOptions};
use support::mariadb::{DATABASE, MariaDb, PASSWORD, USER};
use support::prometheus::Metrics;
use support::{root, temp_dir, wait_for};

/// Longer than two ticks of the filter.
const QUIET: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);
/// A driver that takes longer hangs; killing it is what `timeout` is for.
const LONGEST: &str = "120";

const EXPECTED: &str = include_str!("drivers/expected.txt");

/// A program of `tests/drivers`, set up by `scripts/drivers.sh`.
struct Driver {
    name: &'static str,
    /// The steps of the scenario its API has no words for.
    lacks: &'static [&'static str],
}

const fn driver(name: &'static str, lacks: &'static [&'static str]) -> Driver {
    Driver { name, lacks }
}

const DRIVERS: [Driver; 15] = [
    driver("connector-j-26.10.0", &["dump", "reset"]),
    driver("connector-j-5.1.49", &["dump", "reset"]),
    driver("connector-j-8.0.33", &["dump", "reset"]),
    driver("go-sql-driver", &["cursor", "dump", "reset", "change-user"]),
    driver("mariadb-java-3.5.11", &["dump", "change-user"]),
    driver("mariadb-java-4.0.0", &["dump", "change-user"]),
    driver("mariadb-node", &["cursor", "dump"]),
    driver("mysql2", &["cursor", "dump"]),
    driver("mysql-connector-python", &["cursor", "dump"]),
    driver("mysql-connector-python-c", &["cursor", "dump"]),
    driver("perl-mariadb", &["cursor", "dump", "reset", "change-user"]),
    driver("perl-mysql", &["cursor", "dump", "reset", "change-user"]),
    driver("php-mysqli", &["dump", "reset"]),
    driver("php-pdo", &["cursor", "dump", "reset", "change-user", "ping"]),
    driver("pymysql", &["prepared", "prepared-empty", "parameter", "cursor", "dump", "reset", "change-user"]),
];

/// What every server gets once.
const GIVEN: [&str; 7] = [
    "CREATE TABLE kinds (i INT, u BIGINT UNSIGNED, d DECIMAL(10,2), f DOUBLE, day DATE, at DATETIME, t VARCHAR(20), \
     b VARBINARY(20)) CHARACTER SET utf8mb4",
    "INSERT INTO kinds VALUES (-42, 18446744073709551615, 12.34, 1.5, '2024-02-29', '2024-02-29 12:34:56', \
     CONVERT(X'6772c3bcc39f65' USING utf8mb4), X'00ff10'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "CREATE TABLE items (id INT, name VARCHAR(20), price DECIMAL(10,2))",
    "INSERT INTO items VALUES (1, 'one', 1.25), (2, NULL, -3.00), (3, 'three', NULL)",
    "CREATE TABLE numbers (n INT PRIMARY KEY)",
    "INSERT INTO numbers WITH digits AS (SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION \
     SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) SELECT a.d + 10 * b.d + 100 * c.d + \
     1000 * e.d + 10000 * f.d FROM digits a, digits b, digits c, digits e, digits f",
    "CREATE PROCEDURE two_results(IN n INT, OUT doubled INT) BEGIN SELECT n; \
     SELECT n AS id, 'second' AS name UNION ALL SELECT n + 1, NULL; SET doubled = 2 * n; END",
];

/// What every run fills.
const FILLED: [&str; 3] = [
    "DROP TABLE IF EXISTS batch, loaded",
    "CREATE TABLE batch (id INT PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE loaded (id INT, name VARCHAR(20))",
];

/// The events of `performance_schema` that are not statements as text, by the filter's label.
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

const STATUSES: [&str; 2] = ["Bytes_received", "Bytes_sent"];

/// What one run did, as the server or the filter tells it: commands under their labels, and rows, errors, bytes.
type Counts = BTreeMap<String, u64>;

/// The server's side of what `USER` did.
fn counted_by_server(database: &MariaDb, before: &Counts) -> Counts {
    let mut counts = Counts::new();
    let mut add = |name: &str, value: u64| *counts.entry(name.to_owned()).or_default() += value;
    let events = database.sql(&format!(
        "SELECT event_name, count_star, sum_rows_sent, sum_errors \
         FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE user = '{USER}'"
    ));
    for event in events {
        let number = |column: usize| event[column].parse::<u64>().expect("a number");
        add("rows", number(2));
        add("errors", number(3));
        match event[0].strip_prefix("statement/").and_then(|name| name.split_once('/')) {
            Some(("sql", _)) => add("query", number(1)),
            Some(("com", name)) if number(1) > 0 => {
                let label = EVENTS.iter().find(|(event, _)| *event == name);
                add(label.unwrap_or_else(|| panic!("no label for {name}")).1, number(1));
            }
            // What a procedure does inside is no command.
            _ => {}
        }
    }
    for (name, value) in database.statuses(&STATUSES) {
        add(&name, value - before[&name]);
    }
    counts
}

/// The filter's side.
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

/// The sum of a metric over all labels but those given.
fn sum(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.get(name, labels).unwrap_or(0.0) as u64
}

/// Runs a driver's program: what it printed, or how it failed.
fn run(driver: &Driver, address: SocketAddr, transport: &str) -> Result<String, String> {
    let files = temp_dir();
    let file = files.path().join("loaded.tsv");
    let lines: String = (1..=1000).map(|id| format!("{id}\tname {id}\n")).collect();
    std::fs::write(&file, lines).expect("a file to load");
    let output = Command::new("timeout")
        .arg(LONGEST)
        .arg(programs().join(driver.name))
        .args([&address.ip().to_string(), &address.port().to_string(), USER, PASSWORD, DATABASE])
        .arg(&file)
        .arg(transport)
        .output()
        .expect("timeout");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    if output.status.success() {
        Ok(printed)
    } else {
        Err(format!("{}\n{printed}{}", output.status, text(&output.stderr)))
    }
}

fn programs() -> PathBuf {
    root().join("target/drivers/bin")
}

/// What is wrong with the lines a driver printed.
fn unexpected(driver: &Driver, printed: &str) -> Vec<String> {
    let step = |line: &'static str| line.split_once(' ').map_or(line, |(step, _)| step);
    let wanted: BTreeSet<&str> =
        EXPECTED.lines().filter(|line| !driver.lacks.contains(&step(line))).collect();
    let found: BTreeSet<&str> = printed.lines().filter(|line| !line.starts_with("driver ")).collect();
    let missing = wanted.difference(&found).map(|line| format!("missing: {line}"));
    missing.chain(found.difference(&wanted).map(|line| format!("printed: {line}"))).collect()
}

/// How one driver got on with one server.
struct Outcome {
    server: &'static str,
    driver: &'static str,
    version: String,
    /// The filter's, the server's.
    commands: (u64, u64),
    desyncs: u64,
    problems: Vec<String>,
}

fn between(database: &MariaDb) -> Envoy {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr());
    let configuration = r#"{"defaults": {"protocol": "mysql"}, "metrics": {"profile": "full"}}"#;
    Envoy::start(options.configuration(configuration))
}

fn observe(driver: &Driver, database: &MariaDb) -> Outcome {
    let mut problems = Vec::new();
    let mut note = |result: Result<String, String>, how: &str| {
        result.unwrap_or_else(|failure| {
            problems.push(format!("{how}: {failure}"));
            String::new()
        })
    };
    each(database, &FILLED);
    let direct = note(run(driver, database.addr(), "plain"), "direct");
    let envoy = between(database);
    each(database, &FILLED);
    wait_for("the end of the direct sessions", PATIENCE, || nobody_else(database));
    database.sql("TRUNCATE performance_schema.events_statements_summary_by_user_by_event_name");
    let before = database.statuses(&STATUSES);
    let through = note(run(driver, envoy.listener_addr("mysql"), "plain"), "through the filter");
    wait_for("the end of the sessions", PATIENCE, || nobody_else(database));
    let metrics = envoy.stable(QUIET);
    let (server, filter) = (counted_by_server(database, &before), counted_by_filter(&metrics));

    if !direct.is_empty() {
        problems.extend(unexpected(driver, &direct));
    }
    if through != direct {
        problems.push(format!("direct:\n{direct}through the filter:\n{through}"));
    }
    let names: BTreeSet<_> = server.keys().chain(filter.keys()).collect();
    for name in names {
        let (server, filter) = (server.get(name).copied(), filter.get(name).copied());
        if server.unwrap_or(0) != filter.unwrap_or(0) {
            problems.push(format!("{name}: the server counted {server:?}, the filter {filter:?}"));
        }
    }
    let commands = |counts: &Counts| {
        EVENTS.iter().map(|event| event.1).chain(["query"]).filter_map(|label| counts.get(label)).sum()
    };
    let desyncs = sum(&metrics, "firstword_opaque_total", &[("reason", "desync")]);
    let opaque = sum(&metrics, "firstword_opaque_total", &[]);
    if opaque > 0 {
        problems.push(format!("{opaque} connections became opaque, {desyncs} of them by desync"));
    }
    let version = direct.lines().find_map(|line| line.strip_prefix("driver ")).unwrap_or("?").to_owned();
    let commands = (commands(&filter), commands(&server));
    Outcome { server: "MariaDB 10.11", driver: driver.name, version, commands, desyncs, problems }
}

fn each(database: &MariaDb, statements: &[&str]) {
    for statement in statements {
        database.sql(statement);
    }
}

fn nobody_else(database: &MariaDb) -> Option<()> {
    (database.status("Threads_connected") == 1).then_some(())
}

fn set_up(driver: &Driver) {
    let status = Command::new(root().join("scripts/drivers.sh")).arg(driver.name).status();
    assert!(status.expect("scripts/drivers.sh").success(), "driver {} is not ready", driver.name);
}

#[test]
#[ignore = "needs the drivers' packages: make test-drivers"]
fn drivers_see_no_difference_and_are_counted_as_the_server_counts() {
    let wanted = std::env::var("DRIVER").unwrap_or_default();
    let chosen: Vec<_> = DRIVERS.iter().filter(|driver| driver.name.starts_with(&wanted)).collect();
    let names: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
    assert!(!chosen.is_empty(), "no driver's name begins with {wanted:?}; there are {names:?}");
    for driver in &chosen {
        set_up(driver);
    }
    let mariadb = MariaDb::start(&["--performance-schema=ON", "--local-infile=1"]);
    each(&mariadb, &[&format!("USE {DATABASE}")]);
    each(&mariadb, &GIVEN);
    let outcomes: Vec<_> = chosen.iter().map(|driver| observe(driver, &mariadb)).collect();
    println!("{}", table(&outcomes));
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).collect();
    for Outcome { driver, server, problems, .. } in &failed {
        println!("{driver} with {server}:\n{}\n", problems.join("\n"));
    }
    assert!(failed.is_empty(), "{} runs differ", failed.len());
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:24} {:34} {:14} {:8} {:>15} {:>7}\n",
        "driver", "version", "server", "equal", "commands/server", "desyncs"
    );
    for Outcome { server, driver, version, commands: (filter, counted), desyncs, problems } in outcomes {
        let equal = if problems.is_empty() { "yes" } else { "no" };
        let commands = format!("{filter}/{counted}");
        writeln!(text, "{driver:24} {version:34} {server:14} {equal:8} {commands:>15} {desyncs:>7}")
            .expect("a String takes everything");
    }
    text
}
