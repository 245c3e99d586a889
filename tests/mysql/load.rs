//! Ten thousand commands by different clients at once.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use ::mysql::prelude::Queryable;

use crate::counts::{Known, QUIET, address, assert_equal, between, login, on_both_servers, sum};
use firstword_testing::client::{CLASSIC, Client, DEPRECATE_EOF, Login, SESSION_TRACK};
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};

on_both_servers! { ten_thousand_commands }

fn ten_thousand_commands(database: &Database) {
    database.sql("CREATE TABLE demo.load_of (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)");
    let envoy = between(database);
    let address = address(&envoy);
    let before = database.oracle_when_alone();
    thread::scope(|scope| {
        scope.spawn(move || texts(address));
        scope.spawn(move || prepared(address));
        scope.spawn(move || ahead(address, CLASSIC));
        scope.spawn(move || ahead(address, CLASSIC | DEPRECATE_EOF | SESSION_TRACK));
        scope.spawn(move || short_sessions(address));
        scope.spawn(move || command_line(address));
    });
    assert_equal(database, &before, &envoy, Known::default());
    let metrics = envoy.stable(QUIET);
    let commands = sum(&metrics, "commands_total", &[]);
    assert!(commands >= 10_000, "{commands} commands");
}

fn texts(address: SocketAddr) {
    let mut connection = login(address);
    for n in 0..700 {
        connection.query_drop(format!("INSERT INTO load_of (text) VALUES ('{n}'), (NULL)")).unwrap();
        let _: Vec<(u64, Option<String>)> = connection.query("SELECT * FROM load_of LIMIT 5").unwrap();
        connection.query_drop("SELECT * FROM nosuch").unwrap_err();
    }
}

fn prepared(address: SocketAddr) {
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

fn ahead(address: SocketAddr, capabilities: u32) {
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

/// MariaDB's own client; MySQL's password plugin is not part of it, so there it logs in as nobody and is refused.
fn command_line(address: SocketAddr) {
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
    // It may have been refused and gone.
    let _ = std::io::Write::write_all(&mut input, statements.as_bytes());
    drop(input);
    client.wait().unwrap();
}
