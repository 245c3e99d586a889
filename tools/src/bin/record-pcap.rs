//! Records the captures of `tests/captures/pcap` again, as root:
//!
//! `cargo run --package firstword-tools --bin record-pcap -- [NAME...]`
//!
//! `NAME` is a name in `RECORDINGS`. Without a name, all are recorded.
//!
//! Each function describes its capture. Names and texts in captures contain `hidden`, so that `committed.rs` finds them if
//! a report prints them.

// A tool reports failures through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use firstword_testing::client::{CLASSIC, Client, DEPRECATE_EOF, Login, SESSION_TRACK};
use firstword_testing::database::{DATABASE, Database};
use firstword_testing::dumpcap::Dump;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::{MySql, NO_TLS};
use firstword_testing::program::firstword;
use firstword_testing::relay::Relay;
use firstword_testing::root;
use serde_json::Value;

/// Names of the recordings, and the functions that make them.
const RECORDINGS: [(&str, fn()); 5] = [
    ("mariadb", record_mariadb),
    ("mysql", record_mysql),
    ("proxy-header", record_proxy_header),
    ("silence", record_silence),
    ("split-eof", record_split_eof),
];

const ACCOUNT: &str = "hidden_account";
const PASSWORD: &str = "hidden_password";

fn main() {
    let names: Vec<_> = std::env::args().skip(1).collect();
    for name in &names {
        assert!(RECORDINGS.iter().any(|(known, _)| known == name), "no recording is called {name}");
    }
    for (name, record) in RECORDINGS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            record();
        }
    }
}

fn save(dump: &mut Dump, name: &str) {
    let directory = root().join("tests/captures/pcap");
    fs::create_dir_all(&directory).unwrap();
    fs::copy(dump.stop(), directory.join(name)).unwrap();
}

fn create_account(database: &Database) {
    database.sql(&format!("CREATE USER {ACCOUNT}@'%' IDENTIFIED BY '{PASSWORD}'"));
    database.sql(&format!("GRANT ALL ON *.* TO {ACCOUNT}@'%'"));
}

fn login(capabilities: u32) -> Login {
    Login::new(capabilities).user(ACCOUNT, PASSWORD).attribute("_client_version", "1.2.3")
}

fn session(address: SocketAddr, capabilities: u32) -> Client {
    let mut client = Client::login(address, &login(capabilities));
    client.query("CREATE TABLE hidden_table (id INT PRIMARY KEY, text TEXT)").expect("a table");
    client.query("INSERT INTO hidden_table VALUES (1, 'hidden'), (2, REPEAT('hidden', 500))").expect("rows");
    client.query("SELECT * FROM hidden_table").expect("rows");
    client.query("SELECT hidden FROM hidden_nothing").expect_errno(1146);
    client
        .query("SELECT 'hidden'; SELECT 1/0; DELETE FROM hidden_table WHERE id = 1")
        .expect("three results");
    let statement =
        client.prepare("SELECT text FROM hidden_table WHERE id = ?").expect("a statement").statement_id();
    client.execute(statement, 0, &["2"]).expect("a row");
    client.command(&[&[0x19], &statement.to_le_bytes()[..]].concat());
    let payloads = ["SELECT 'hidden'", "SELECT FROM hidden"].map(|text| client.query_payload(text));
    client.pipeline(&payloads.each_ref().map(Vec::as_slice));
    client.results().expect("a row");
    client.results().expect_errno(1064);
    client.command(b"\x0e");
    client.single().expect("a response to COM_PING");
    client.query("DROP TABLE hidden_table").expect("a drop");
    client
}

/// MariaDB 10.11 on the interface `any`, as pcap: a session with COM_QUIT, a wrong password, and a session that its client
/// resets during a command. Then a capture with 100 bytes of each packet.
fn record_mariadb() {
    let server = MariaDb::start(&[]);
    create_account(&server);
    let mut dump = Dump::start("any", &[server.addr().port()], &["-P"]);
    session(server.addr(), CLASSIC).quit();
    assert_eq!(
        Client::connect(server.addr()).log_in(&login(CLASSIC).user(ACCOUNT, "wrong")).err(),
        Some(1045)
    );
    let mut client = Client::login(server.addr(), &login(CLASSIC));
    client.command(b"\x03SELECT SLEEP(1), 'hidden'");
    sleep(Duration::from_millis(100));
    drop(client);
    sleep(Duration::from_millis(1500));
    save(&mut dump, "mariadb.pcap");
    let mut dump = Dump::start("lo", &[server.addr().port()], &["-s", "100"]);
    session(server.addr(), CLASSIC).quit();
    save(&mut dump, "mariadb-100-bytes.pcapng");
}

/// MySQL 9.7: a session of a client with DEPRECATE_EOF. Then a session of MariaDB's command-line client with TLS.
fn record_mysql() {
    let server = MySql::start(&[NO_TLS]);
    create_account(&server);
    let mut dump = Dump::start("lo", &[server.addr().port()], &[]);
    session(server.addr(), CLASSIC | DEPRECATE_EOF | SESSION_TRACK).quit();
    save(&mut dump, "mysql-9.7.pcapng");
    drop(server);
    let server = MySql::start(&[]);
    create_account(&server);
    let mut dump = Dump::start("lo", &[server.addr().port()], &[]);
    let port = format!("-P{}", server.addr().port());
    let mut client = Command::new("mariadb");
    client.args([
        "--no-defaults",
        "--ssl",
        "--skip-ssl-verify-server-cert",
        "-h127.0.0.1",
        DATABASE,
        "-eSELECT 1",
    ]);
    client.args([&port, &format!("-u{ACCOUNT}"), &format!("-p{PASSWORD}")]);
    client.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the mariadb client");
    save(&mut dump, "mysql-9.7-tls.pcapng");
}

/// The connection from Envoy with the filter to MariaDB. The filter sends a PROXY header of version 2 with the client's first
/// bytes, and MariaDB trusts it.
fn record_proxy_header() {
    let server = MariaDb::start(&["--proxy-protocol-networks=127.0.0.1"]);
    create_account(&server);
    let rule = r#"{"rules": [{"name": "orders", "proxy_protocol": {"send": {"mode": "with_first_client_bytes", "version": 2}}}]}"#;
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", server.addr());
    let envoy = Envoy::start(options.configuration(rule));
    let mut dump = Dump::start("lo", &[server.addr().port()], &[]);
    let mut client = Client::login(envoy.listener_addr("mysql"), &login(CLASSIC));
    client.query("SELECT 'hidden'").expect("a row");
    client.quit();
    save(&mut dump, "proxy-header.pcapng");
}

/// A server that accepts a connection on port 3306 and sends nothing, as behind a proxy that waits for the client's first bytes.
/// The client closes after three seconds.
fn record_silence() {
    let listener = TcpListener::bind("127.0.0.77:3306").expect("port 3306");
    let mut dump = Dump::start("lo", &[3306], &[]);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap();
    sleep(Duration::from_secs(3));
    drop(client);
    drop(server);
    save(&mut dump, "silence.pcapng");
}

/// Connector/J 8.0.27 with `useServerPrepStmts` (`tests/hazards/java`, by `scripts/drivers.sh hazards`). It hangs, because the
/// relay before MariaDB delays the last 4 of the 9 bytes of an EOF by 50 ms. The capture ends while it hangs.
fn record_split_eof() {
    let server = MariaDb::start(&[]);
    create_account(&server);
    server.sql(&format!("CREATE TABLE {DATABASE}.items (id INT PRIMARY KEY, name VARCHAR(20))"));
    for id in 1..=5 {
        server.sql(&format!("INSERT INTO {DATABASE}.items VALUES ({id}, 'item {id}')"));
    }
    let relay = Relay::start(server.addr());
    // The relay cuts connection number n before byte n of its EOFs. The driver gets number 5.
    for _ in 0..5 {
        Client::connect(relay.address()).packet();
    }
    let mut dump = Dump::start("lo", &[relay.address().port()], &[]);
    let program = root().join("target/drivers/bin/hazard-8.0.27");
    let mut client = Command::new(program);
    client.args([
        "127.0.0.1",
        &relay.address().port().to_string(),
        ACCOUNT,
        PASSWORD,
        DATABASE,
        "1",
        "50",
        "rows",
    ]);
    let mut client = client.stdout(Stdio::null()).spawn().expect("scripts/drivers.sh hazards");
    // Waits until the client hangs. A slow client, as in its first run, can read the whole EOF at once.
    while std::iter::repeat_with(|| (sleep(Duration::from_secs(1)), relay.take_cut()[5]).1)
        .take(3)
        .any(|cut| cut > 0)
    {}
    save(&mut dump, "connector-j-split-eof.pcapng");
    let output = Command::new(firstword()).args(["inspect", "-o", "json"]).arg(&dump.file).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["connections"][0]["waits"]["what"], "rest_of_split_eof", "it hangs; try again");
    client.kill().unwrap();
    client.wait().unwrap();
}
