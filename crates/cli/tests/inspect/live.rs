//! Real traffic through a real Envoy, recorded by Wireshark's `dumpcap`: the report of `inspect` equals the filter's metrics
//! exactly. Recording needs root.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{report_on, run};
use firstword_testing::client::{CLASSIC, COMPRESS, Client, DEPRECATE_EOF, Login, SESSION_TRACK};
use firstword_testing::database::{Database, USER};
use firstword_testing::dumpcap::Dump;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::prometheus::Metrics;
use firstword_testing::relay::{CUTS, Relay};

/// Longer than two ticks of the filter.
const QUIET: Duration = Duration::from_millis(1500);

fn between(server: SocketAddr) -> Envoy {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", server);
    Envoy::start(options.configuration(r#"{"metrics": {"profile": "full", "max_series": 5000}}"#))
}

/// The sum of one of the filter's metrics over all series with these labels; 0 without a series.
fn sum(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.get(&format!("firstword_{name}"), labels).unwrap_or(0.0) as u64
}

/// The sums by the values of one label, without zeros.
fn by(metrics: &Metrics, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for sample in metrics.select(&format!("firstword_{name}"), &[]) {
        *sums.entry(sample.labels[label].clone()).or_insert(0) += sample.value as u64;
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// Asserts that the report and the metrics have the same counts.
fn assert_equal(report: &Value, metrics: &Metrics) {
    let totals = &report["totals"];
    let counts = &totals["counts"];
    let all = |name: &str| json!(sum(metrics, name, &[]));
    let sent = |name: &str| {
        let of = |sender| sum(metrics, name, &[("sender", sender)]);
        json!({"client": of("client"), "server": of("server")})
    };
    assert_eq!(totals["connections"], all("connections_total"));
    assert_eq!(totals["protocols"], json!(by(metrics, "connections_total", "protocol")));
    let mut handshakes = totals["handshakes"].clone();
    let refused = handshakes.as_object_mut().unwrap().remove("refused").unwrap_or(json!(0));
    assert_eq!(refused, all("pre_handshake_errors_total"));
    assert_eq!(handshakes, json!(by(metrics, "handshakes_total", "result")));
    assert_eq!(totals["opaque"], json!(by(metrics, "opaque_total", "reason")));
    assert_eq!(counts["commands"], json!(by(metrics, "commands_total", "command")));
    assert_eq!(counts["errors"], json!(by(metrics, "errors_total", "errno")));
    for name in ["rows", "affected_rows", "warnings", "result_sets"] {
        assert_eq!(counts[name], all(&format!("{name}_total")), "{name}");
    }
    for name in ["bytes", "packets", "compressed_bytes"] {
        assert_eq!(counts[name], sent(&format!("{name}_total")), "{name}");
    }
    assert_eq!(counts["lost_bytes"], json!({"client": 0, "server": 0}));
    let hazard = |kind: &str| totals["hazards"].get(kind).cloned().unwrap_or(json!(0));
    assert_eq!(hazard("local_infile"), all("local_infile_total"));
    assert_eq!(hazard("prepare_eof_split"), all("prepare_eof_splits_total"));
    assert_eq!(hazard("split_eof"), all("eof_hazard_clients_total"));
    assert_eq!(hazard("full_auth_without_tls"), all("plaintext_full_auth_total"));
    let ended = |phase: &str, who: &str| {
        sum(metrics, "connections_closed_total", &[("phase", phase), ("closed_by", who)])
    };
    for phase in ["greeting", "handshake", "authentication", "command", "opaque"] {
        let connections = report["connections"].as_array().unwrap();
        let quits = |who: &str| {
            let is = |end: &&Value| {
                let by = if end["quit"] == true { "client" } else { end["by"].as_str().unwrap() };
                end["phase"] == phase && by == who
            };
            connections.iter().map(|connection| &connection["end"]).filter(is).count() as u64
        };
        assert_eq!(quits("client"), ended(phase, "client"), "{phase}");
        assert_eq!(quits("server"), ended(phase, "server"), "{phase}");
    }
}

fn every_kind_of_command(address: SocketAddr) {
    for capabilities in [CLASSIC, CLASSIC | DEPRECATE_EOF | SESSION_TRACK] {
        let mut client = Client::login(address, &Login::new(capabilities));
        client.query("CREATE TABLE seen (id INT PRIMARY KEY, text LONGTEXT)").expect("a table");
        client
            .query("INSERT INTO seen VALUES (1, NULL), (2, 'two'), (3, REPEAT('x', 300000))")
            .expect("rows");
        client.query("SELECT * FROM seen").expect("rows");
        client.query("SELECT 1; SELECT * FROM seen; DELETE FROM seen WHERE id = 1").expect("three results");
        client.query("SELECT * FROM nosuch").expect_errno(1146);
        client.query("SELECT FROM").expect_errno(1064);
        client.query("SELECT 1/0").expect("a warning");
        let select = client.prepare("SELECT * FROM seen WHERE id = ?").expect("a statement").statement_id();
        for id in ["2", "9"] {
            client.execute(select, 0, &[id]).expect("rows");
        }
        client.command(&[&[0x19], &select.to_le_bytes()[..]].concat());
        let payloads =
            ["SELECT 1", "SELECT FROM", "SELECT 2 UNION SELECT 3"].map(|text| client.query_payload(text));
        client.pipeline(&payloads.each_ref().map(Vec::as_slice));
        client.results().expect("a row");
        client.results().expect_errno(1064);
        client.results().expect("two rows");
        client.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE seen (id)");
        client.write(b"7\n8\n");
        client.write(b"");
        client.single().expect("the end of the file");
        client.command(b"\x0e");
        client.single().expect("a pong");
        client.command(b"\x02nosuch");
        client.single().expect_errno(1049);
        client.query("DROP TABLE seen").expect("a drop");
        client.quit();
    }
}

fn every_ending(address: SocketAddr) {
    // Refused. The client waits for the server's end, because otherwise the order of the ends may differ on the two sides of
    // Envoy.
    let mut client = Client::connect(address);
    let response = client.response(&Login::new(CLASSIC).user(USER, "wrong")).expect("a greeting");
    client.write(&response);
    let plugin = client.plugin.clone();
    client.authenticate(&plugin, "wrong").expect_errno(1045);
    assert!(client.closes(), "the server's end");
    // Closed by the client after the greeting, and in the middle of a session.
    Client::connect(address).packet();
    let mut client = Client::login(address, &Login::new(CLASSIC));
    client.query("SELECT 1").expect("a row");
    drop(client);
    // Closed by the server in the middle of a command.
    let mut client = Client::login(address, &Login::new(CLASSIC));
    client.query("SELECT 1").expect("a row");
    client.command(&packet_of_kill(client.thread_id));
    while client.next_packet().is_some() {}
    // Compressed, so that only the login is inspected. COM_QUIT is in a compressed packet without compression.
    let mut client = Client::login(address, &Login::new(CLASSIC | COMPRESS));
    client.send(b"\x05\0\0\0\0\0\0\x01\0\0\0\x01");
    assert!(client.closes(), "the server's end");
}

fn packet_of_kill(thread: u32) -> Vec<u8> {
    format!("\x03KILL CONNECTION {thread}").into_bytes()
}

fn metrics_and_a_capture_say_the_same(database: &Database) {
    database.sql("SET GLOBAL local_infile = 1");
    let envoy = between(database.addr());
    let address = envoy.listener_addr("mysql");
    let mut dump = Dump::start("lo", &[address.port()], &[]);
    every_kind_of_command(address);
    every_ending(address);
    let metrics = envoy.stable(QUIET);
    let port = address.port().to_string();
    let report = report_on(dump.stop(), &["--port", &port, "--limit", "1000"]);
    assert_equal(&report, &metrics);
    assert_eq!(report["totals"]["connections"], 7, "{report:#}");
    assert_eq!(report["totals"]["opaque"], json!({"compressed": 1}));
    assert_eq!(report["totals"]["handshakes"], json!({"aborted": 1, "error": 1, "ok": 5}));
    // Times come from the capture. A command with a response has both.
    for connection in report["connections"].as_array().unwrap() {
        assert_eq!(connection["first_word"]["by"], "server");
        assert!(connection["first_word"]["after_us"].as_u64().unwrap() < 60_000_000);
        for command in connection["commands"].as_array().unwrap() {
            let answer = &command["answer"];
            let first = answer["first_byte_us"].as_u64().unwrap_or(0);
            assert!(answer.is_null() || first <= answer["took_us"].as_u64().unwrap(), "{command}");
        }
    }
    // Without --port, the command finds the same connections.
    assert_eq!(report_on(&dump.file, &[])["totals"], report["totals"]);
}

mod needs_root {
    use super::*;

    mod mariadb {
        use firstword_testing::mariadb::{COUNTED, MariaDb};

        #[test]
        #[ignore = "needs root, and the servers of make tools-servers"]
        fn metrics_and_a_capture_say_the_same() {
            crate::live::metrics_and_a_capture_say_the_same(&MariaDb::start(&COUNTED));
        }
    }

    mod needs_mysqld {
        use firstword_testing::mysqld::{MySql, NO_TLS};

        #[test]
        #[ignore = "needs root, the servers of make tools-servers, and MySQL"]
        fn metrics_and_a_capture_say_the_same() {
            crate::live::metrics_and_a_capture_say_the_same(&MySql::start(&[NO_TLS]));
        }
    }

    /// A server without `DEPRECATE_EOF`, and a network that splits the last EOF of each COM_STMT_PREPARE response. In the
    /// connection number `n`, from 0 to 8, the split is before byte `n`.
    #[test]
    #[ignore = "needs root, and the servers of make tools-servers"]
    fn the_byte_at_which_a_network_splits_an_eof_is_reported() {
        let server = MariaDb::start(&[]);
        let relay = Relay::start(server.addr());
        let envoy = between(relay.address());
        let address = envoy.listener_addr("mysql");
        let mut dump = Dump::start("lo", &[address.port(), relay.address().port()], &[]);
        for _ in 0..CUTS {
            let login = Login::new(CLASSIC).attribute("_client_version", "8.0.27");
            let mut client = Client::login(address, &login);
            client.prepare("SELECT ?, 2").expect("a statement");
            client.prepare("SELECT 3").expect("a statement");
            client.quit();
        }
        assert_eq!(relay.take_cut(), [2; CUTS]);
        let metrics = envoy.stable(QUIET);
        let port = |address: SocketAddr| address.port().to_string();
        // Between Envoy and the client.
        let after = report_on(dump.stop(), &["--port", &port(address)]);
        assert_equal(&after, &metrics);
        assert_eq!(sum(&metrics, "prepare_eof_splits_total", &[]), 2 * CUTS as u64);
        // Between the network and Envoy.
        let before = report_on(&dump.file, &["--port", &port(relay.address())]);
        for report in [&before, &after] {
            let connections = report["connections"].as_array().unwrap();
            let mut found: Vec<_> = Vec::new();
            for connection in connections {
                for hazard in connection["hazards"].as_array().unwrap() {
                    let split = &hazard["split"];
                    found.push(split["eof_bytes"].as_u64().unwrap());
                    assert!(split["rest_packet"].as_u64() > hazard["packet"].as_u64(), "{hazard}");
                    assert!(split["rest_after_us"].as_u64().unwrap() > 20_000, "{hazard}");
                    assert_eq!(split["client_went_on_packet"], Value::Null);
                }
            }
            found.sort_unstable();
            let expected: Vec<_> = (0..CUTS as u64).flat_map(|cut| [cut, cut]).collect();
            assert_eq!(found, expected, "{report:#}");
        }
        let text = run(&["--port", &port(address), dump.file.to_str().unwrap()], b"").output;
        assert!(text.contains("cut in front of byte 5 of 0 to 8; the rest came with packet "), "{text}");
    }

    /// Like Connector/J 8.0.27, the client does not wait for the EOF, and takes the rest of it for a response.
    #[test]
    #[ignore = "needs root, and the servers of make tools-servers"]
    fn a_client_that_hangs_after_a_split_eof_is_reported_to_wait() {
        let server = MariaDb::start(&[]);
        let relay = Relay::start(server.addr());
        let mut dump = Dump::start("lo", &[relay.address().port()], &[]);
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(Client::login(relay.address(), &Login::new(CLASSIC)));
        }
        let client = clients.last_mut().unwrap();
        client.command(b"\x16SELECT 1");
        let head = client.packet();
        assert_eq!(head[0], 0);
        client.packet();
        // COM_STMT_EXECUTE while 4 bytes of the EOF are missing.
        client.command(&[&[0x17], &head[1..5], &[0, 1, 0, 0, 0]].concat());
        // The EOF, the column count, a definition, an EOF, the row, an EOF.
        for _ in 0..6 {
            client.packet();
        }
        let report = report_on(dump.stop(), &["--port", &relay.address().port().to_string()]);
        let connection = &report["connections"][5];
        let hazards = &connection["hazards"];
        assert_eq!(
            (&hazards[0]["code"], &hazards[0]["split"]["eof_bytes"]),
            (&json!("prepare_eof_split"), &json!(5))
        );
        let went_on = hazards[0]["split"]["client_went_on_packet"].as_u64().unwrap();
        let rest = hazards[0]["split"]["rest_packet"].as_u64().unwrap();
        assert!(hazards[0]["packet"].as_u64().unwrap() < went_on && went_on < rest, "{hazards}");
        assert_eq!(connection["waits"]["who"], "client");
        assert_eq!(connection["waits"]["what"], "rest_of_split_eof");
        assert_eq!(connection["end"], Value::Null);
        for connection in report["connections"].as_array().unwrap().iter().take(5) {
            assert_eq!(
                (&connection["waits"]["who"], &connection["waits"]["what"]),
                (&Value::Null, &json!("command"))
            );
        }
        drop(clients);
    }
}
