//! Records the captures in `tests/captures` from real connections: `make record`.
//!
//! Passwords and scrambles in them are those of a server that existed for a second.

// A tool for this repository: what goes wrong ends it.
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use support::capture::{self, Recorder};
use support::mariadb::MariaDb;

fn options(recorder: &Recorder, password: &str) -> OptsBuilder {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(recorder.address().port())
        .user(Some("app"))
        .pass(Some(password))
        .db_name(Some("demo"))
        .prefer_socket(false)
}

fn text(recorder: &Recorder) {
    let mut connection = Conn::new(options(recorder, "app")).expect("a login");
    connection.query_drop("CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, name TEXT)").expect("a table");
    connection.query_drop("INSERT INTO t VALUES (1, 'one'), (2, NULL), (3, 'three')").expect("rows");
    let rows: Vec<(i32, Option<String>)> = connection.query("SELECT * FROM t").expect("rows");
    assert_eq!(rows.len(), 3);
    connection.query_drop("SELECT * FROM nosuch").expect_err("no such table");
    connection.query_drop("UPDATE t SET name = 'x' WHERE id > 1").expect("an update");
    connection.ping().expect("an answer");
}

fn prepared(recorder: &Recorder) {
    let mut connection = Conn::new(options(recorder, "app")).expect("a login");
    let statement = connection.prep("SELECT ?, seq FROM seq_1_to_5 WHERE seq > ?").expect("a statement");
    for least in 0..3 {
        let rows: Vec<(String, u64)> = connection.exec(&statement, ("x", least)).expect("rows");
        assert_eq!(rows.len(), 5 - least);
    }
    connection.close(statement).expect("a close");
    connection.prep("SELECT FROM").expect_err("a syntax error");
}

fn refused(recorder: &Recorder) {
    Conn::new(options(recorder, "wrong")).expect_err("a wrong password");
}

fn client(recorder: &Recorder, arguments: &[&str]) {
    let status = Command::new("mariadb")
        .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp", "--skip-ssl"])
        .arg(format!("-P{}", recorder.address().port()))
        .args(arguments)
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("the mariadb client").success());
}

/// The capture's name, the client's, and what it does.
type Scenario = (&'static str, &'static str, fn(&Recorder));

fn main() {
    let scenarios: [Scenario; 5] = [
        ("mariadb-text", "Rust mysql 28", text),
        ("mariadb-prepared", "Rust mysql 28", prepared),
        ("mariadb-refused", "Rust mysql 28", refused),
        ("mariadb-cli", "mariadb command line", |recorder| {
            client(recorder, &["demo", "-e", "SHOW TABLES; SELECT REPEAT('x', 20000) AS long_row; SELECT 1"]);
        }),
        ("mariadb-cli-compressed", "mariadb command line, --compress", |recorder| {
            client(recorder, &["demo", "--compress", "-e", "SELECT 1"]);
        }),
    ];
    let server = MariaDb::start(&[]);
    let version = server.sql("SELECT VERSION()").concat().concat();
    for (name, client, scenario) in scenarios {
        let recorder = Recorder::start(server.addr());
        scenario(&recorder);
        let comments =
            [format!("server: {version}"), format!("client: {client}"), "made by: make record".into()];
        let path = capture::directory().join(format!("{name}.cap"));
        std::fs::write(&path, capture::format(&comments, &recorder.finish())).expect("a file");
        println!("{}", path.display());
    }
}
