//! A client sees no difference. With MariaDB, because its general log and its command-line client are available.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use crate::counts::{QUIET, client_options as options, login, start_envoy, sum};
use firstword_testing::mariadb::{GENERAL_LOG, MariaDb, PASSWORD, USER};
use firstword_testing::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that a client sees in a session: rows, errors, numbers of affected rows.
fn session(address: SocketAddr, table: &str) -> Vec<String> {
    let mut connection = login(address);
    let mut seen = Vec::new();
    let statements = [
        format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))"),
        format!("INSERT INTO {table} (name) VALUES ('a'), ('b'), (NULL)"),
        format!("SELECT * FROM {table} ORDER BY id"),
        format!("UPDATE {table} SET name = 'c' WHERE id < 3"),
        format!("DELETE FROM {table} WHERE id = 2"),
        "SELECT * FROM nosuch".to_owned(),
        "SELECT FROM WHERE".to_owned(),
        "SELECT 1 WHERE FALSE".to_owned(),
        "SELECT seq, MD5(seq) FROM seq_1_to_3000".to_owned(),
        format!("DROP TABLE {table}"),
    ];
    for statement in statements {
        let rows: Result<Vec<Row>, _> = connection.query(statement);
        let rows = rows.map(|rows| rows.into_iter().map(|row| row.unwrap()).collect::<Vec<_>>());
        seen.push(format!("{rows:?}, {} affected", connection.affected_rows()));
    }
    let prepared = connection.prep("SELECT seq, ? FROM seq_1_to_10 WHERE seq <= ?").unwrap();
    for limit in 0..4 {
        let rows: Vec<(u64, String)> = connection.exec(&prepared, ("x", limit)).unwrap();
        seen.push(format!("{rows:?}"));
    }
    connection.close(prepared).unwrap();
    connection.ping().unwrap();
    // More than 16 MiB in each direction, which gives fragments of the response and of the statement.
    let long: String = connection.query_first("SELECT REPEAT('0123456789', 2000000)").unwrap().unwrap();
    let digest: String = connection.exec_first("SELECT MD5(?)", (long,)).unwrap().unwrap();
    seen.push(digest);
    seen
}

/// Our label of a command, and its name in the general log.
const LOGGED: [(&str, &str); 6] = [
    ("query", "Query"),
    ("stmt_prepare", "Prepare"),
    ("stmt_execute", "Execute"),
    ("stmt_send_long_data", "Long Data"),
    ("stmt_close", "Close stmt"),
    ("quit", "Quit"),
];

#[test]
fn a_client_sees_no_difference() {
    let database = MariaDb::start(&[]);
    let envoy = start_envoy(&database);
    let direct = session(database.addr(), "seen");
    assert_eq!(session(envoy.listener_addr("mysql"), "seen"), direct);
    assert!(direct[5].contains("1146") && direct[6].contains("1064"), "{direct:?}");
}

#[test]
fn the_filters_counts_equal_the_servers() {
    const STATUSES: [&str; 4] = ["Bytes_received", "Bytes_sent", "Rows_sent", "Connections"];
    let database = MariaDb::start(&GENERAL_LOG);
    let envoy = start_envoy(&database);
    let before = database.statuses(&STATUSES);
    let clients: u64 = 4;
    thread::scope(|scope| {
        for client in 0..clients {
            let address = envoy.listener_addr("mysql");
            scope.spawn(move || session(address, &format!("counted_{client}")));
        }
    });
    wait_for("the end of all sessions", PATIENCE, || {
        (database.logged().get("Quit") == Some(&clients)).then_some(())
    });
    let metrics = envoy.stable(QUIET);
    let after = database.statuses(&STATUSES);
    let grown = |name: &str| after[name] - before[name];
    let sent_by = |sender| sum(&metrics, "bytes_total", &[("sender", sender)]);

    assert_eq!(sent_by("client"), grown("Bytes_received"));
    assert_eq!(sent_by("server"), grown("Bytes_sent"));
    assert_eq!(sum(&metrics, "connections_total", &[("protocol", "mysql")]), grown("Connections"));
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), clients);
    assert_eq!(sum(&metrics, "rows_total", &[]), grown("Rows_sent"));
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1146")]), clients);
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1064")]), clients);
    assert_eq!(sum(&metrics, "errors_total", &[]), 2 * clients);
    let logged = database.logged();
    let counted: BTreeMap<_, _> = LOGGED
        .map(|(label, word)| (word, sum(&metrics, "commands_total", &[("command", label)])))
        .into_iter()
        .collect();
    let expected: BTreeMap<_, _> =
        LOGGED.map(|(_, word)| (word, logged.get(word).copied().unwrap_or(0))).into_iter().collect();
    assert_eq!(counted, expected);
    // The general log omits COM_PING.
    assert_eq!(sum(&metrics, "commands_total", &[("command", "ping")]), clients);
    let all: u64 = expected.values().sum();
    assert_eq!(sum(&metrics, "commands_total", &[]), all + clients);
    assert_eq!(sum(&metrics, "commands_in_flight", &[]), 0);
    assert_eq!(sum(&metrics, "connections_active", &[]), 0);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0);
}

#[test]
fn refused_clients_are_counted_by_error() {
    let database = MariaDb::start(&["--max-connections=10"]);
    let envoy = start_envoy(&database);
    let address = envoy.listener_addr("mysql");
    Conn::new(options(address, USER, "wrong")).unwrap_err();
    Conn::new(options(address, "nobody", "")).unwrap_err();
    Conn::new(options(address, USER, PASSWORD).db_name(Some("nosuch"))).unwrap_err();
    let mut held = Vec::new();
    let refused = loop {
        match Conn::new(options(address, USER, PASSWORD)) {
            Ok(connection) => held.push(connection),
            Err(refused) => break refused,
        }
    };
    assert!(refused.to_string().contains("1040"), "{refused}");
    let accepted = held.len() as u64;
    drop(held);
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "pre_handshake_errors_total", &[("errno", "1040")]), 1);
    assert_eq!(sum(&metrics, "pre_handshake_errors_total", &[]), 1);
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "error")]), 3);
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), accepted);
    let version = database.sql("SELECT VERSION()")[0][0].clone();
    let release = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let greeted = sum(&metrics, "greetings_total", &[("flavor", "mariadb"), ("release", &release)]);
    assert_eq!(greeted, 3 + accepted);
    assert_eq!(sum(&metrics, "connections_total", &[("protocol", "mysql")]), 4 + accepted);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0);
}

fn cli(address: SocketAddr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--skip-ssl", "-h127.0.0.1"])
        .args([format!("-P{}", address.port()), format!("-u{USER}"), format!("-p{PASSWORD}")])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_client_sees_no_difference() {
    let database = MariaDb::start(&[]);
    let envoy = start_envoy(&database);
    let address = envoy.listener_addr("mysql");
    let cases: [&[&str]; 4] = [
        &["-e", "SELECT 1; SHOW DATABASES; SELECT REPEAT('x', 100000)"],
        &["-e", "SELECT 1; SELECT * FROM nosuch.t; SELECT 2"],
        &["--force", "-e", "SELECT 1; SELECT * FROM nosuch.t; SELECT 2"],
        &["--compress", "-e", "SELECT REPEAT('x', 100000)"],
    ];
    for arguments in cases {
        assert_eq!(cli(address, arguments), cli(database.addr(), arguments), "{arguments:?}");
    }
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "opaque_total", &[("reason", "compressed")]), 1);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 1);
}
