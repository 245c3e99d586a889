//! Ten thousand commands from different clients at the same time.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use ::mysql::prelude::Queryable;

use crate::counts::{
    KnownDifferences, QUIET, address, assert_equal, login, on_both_servers, start_envoy, sum,
};
use firstword_testing::client::{CLASSIC, Client, DEPRECATE_EOF, Login, SESSION_TRACK};
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};

on_both_servers! { ten_thousand_concurrent_commands_are_counted }

fn ten_thousand_concurrent_commands_are_counted(database: &Database) {
    database.sql("CREATE TABLE demo.load_of (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)");
    let envoy = start_envoy(database);
    let address = address(&envoy);
    let before = database.oracle_when_alone();
    thread::scope(|scope| {
        scope.spawn(move || text_commands(address));
        scope.spawn(move || prepared_statements(address));
        scope.spawn(move || pipelined_commands(address, CLASSIC));
        scope.spawn(move || pipelined_commands(address, CLASSIC | DEPRECATE_EOF | SESSION_TRACK));
        scope.spawn(move || short_sessions(address));
        scope.spawn(move || command_line_client(address));
    });
    assert_equal(database, &before, &envoy, KnownDifferences::default());
    let metrics = envoy.stable(QUIET);
    let commands = sum(&metrics, "commands_total", &[]);
    assert!(commands >= 10_000, "{commands} commands");
}

fn text_commands(address: SocketAddr) {
    let mut connection = login(address);
    for n in 0..700 {
        connection.query_drop(format!("INSERT INTO load_of (text) VALUES ('{n}'), (NULL)")).unwrap();
        let _: Vec<(u64, Option<String>)> = connection.query("SELECT * FROM load_of LIMIT 5").unwrap();
        connection.query_drop("SELECT * FROM nosuch").unwrap_err();
    }
}

fn prepared_statements(address: SocketAddr) {
    let mut connection = login(address);
    for n in 0..700_u64 {
        let statement = connection.prep(format!("SELECT ?, {n}")).unwrap();
        for _ in 0..3 {
            let row: Option<(u64, u64)> = connection.exec_first(&statement, (n,)).unwrap();
            assert_eq!(row, Some((n, n)));
        }
        connection.close(statement).unwrap();
    }
}

fn pipelined_commands(address: SocketAddr, capabilities: u32) {
    let mut client = Client::login(address, &Login::new(capabilities));
    let payloads =
        ["SELECT 1", "SELECT FROM", "SELECT 2 UNION SELECT 3"].map(|text| client.query_payload(text));
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    for _ in 0..700 {
        client.pipeline(&payloads);
        client.results().expect("a row");
        client.results().expect_errno(1064);
        client.results().expect("two rows");
    }
    client.quit();
}

fn short_sessions(address: SocketAddr) {
    for _ in 0..200 {
        let mut client = Client::login(address, &Login::new(CLASSIC));
        client.query("BEGIN").expect("a transaction");
        client.query("SELECT 1").expect("a row");
        client.query("ROLLBACK").expect("its end");
        client.command(b"\x0e");
        client.single().expect("a pong");
        client.quit();
    }
}

/// MariaDB's command-line client. MySQL refuses its login, because the client lacks MySQL's password plugin.
fn command_line_client(address: SocketAddr) {
    let statements = "SELECT 1;\nSELECT * FROM load_of LIMIT 1;\n".repeat(400);
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--skip-ssl", "-h127.0.0.1", DATABASE])
        .args([format!("-P{}", address.port()), format!("-u{USER}"), format!("-p{PASSWORD}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the mariadb client; run: make tools");
    let mut input = client.stdin.take().unwrap();
    // Ignore an error, because the server may have refused the client.
    let _ = std::io::Write::write_all(&mut input, statements.as_bytes());
    drop(input);
    client.wait().unwrap();
}
