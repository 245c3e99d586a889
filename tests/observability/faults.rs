//! Traffic and the fault for each alert, at the same time, until each rule, alert and panel has data.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::files::{alerts, panels, rules};
use crate::server::{Prometheus, shipped, tool, yaml};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::DATABASE;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::temp_dir;

/// Maximum number of rounds of faults. A round takes at least a second.
const MAX_ROUNDS: usize = 90;

/// Configuration of the filter in all listeners except `small`.
const CONFIGURATION: &str = r#"{
  "defaults": {"greeting_timeout": "500ms", "protocol": "mysql"},
  "metrics": {"profile": "full", "stall": "500ms", "flush_interval": "200ms"},
  "rules": [{"name": "proxied", "match": {"ports": [PROXIED]}, "protocol": "mysql", "proxy_protocol": {
    "receive": {"mode": "optional", "trusted_networks": ["127.0.0.2"]}, "send": {"mode": "with_first_client_bytes"}}},
    {"name": "held", "match": {"ports": [HELD]}, "mysql": {"hold_split_eof": "always", "block_local_infile": true}}]
}"#;

/// Listeners in addition to that of `envoy/mysql.yaml`:
///
/// - `silent` has a server that sends nothing.
/// - `scripted` has a scripted server, for behaviour that no real server shows on demand.
/// - `slow` has slow statements.
/// - `small` has a filter with few series.
/// - `proxied` accepts PROXY headers.
/// - `held` has the rule that holds the end of a response and blocks requests of the server for local files.
/// - `inspected` has an inspector.
/// - `rejected` has a filter whose configuration has a typo.
/// - `refused` is for clients with a wrong password only.
///
/// Envoy also has a listener `missing`, whose filter comes by ECDS with a module that does not exist, and gets one by LDS with such
/// a module in the listener itself.
const LISTENERS: [&str; 9] =
    ["silent", "scripted", "slow", "small", "proxied", "held", "inspected", "rejected", "refused"];

/// Puts listeners with a module that does not exist into a bootstrap: by ECDS, and in a file of listeners. The files are in this
/// folder.
fn add_missing_modules(bootstrap: &mut Value, directory: &Path) {
    let file = |name: &str, resource: Value| {
        let path = directory.join(name);
        std::fs::write(&path, json!({"resources": [resource]}).to_string()).expect("a file");
        path
    };
    let mut listener = bootstrap["static_resources"]["listeners"][0].clone();
    let mut filter = listener["filter_chains"][0]["filters"][0]["typed_config"].take();
    let kind = filter["@type"].clone();
    filter["config"]["vm_config"]["code"] = json!({"local": {"filename": directory.join("missing.wasm")}});
    let name = "istio-system.firstword";
    let extension = file(
        "extension.json",
        json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": name, "typed_config": filter,
        }),
    );
    let source = json!({"path_config_source": {"path": extension}});
    listener["name"] = json!("missing");
    listener["stat_prefix"] = json!("missing");
    listener["filter_chains"][0]["filters"][0] =
        json!({"name": name, "config_discovery": {"config_source": source, "type_urls": [kind]}});
    let mut inline = listener.clone();
    inline["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    inline["name"] = json!("inline");
    inline["filter_chains"][0]["filters"][0] = json!({"name": "firstword", "typed_config": filter});
    bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners").push(listener);
    bootstrap["node"] = json!({"id": "test", "cluster": "test"});
    bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]["path"] =
        json!(file("listeners.json", inline));
}

fn envoy(server: SocketAddr, silent: SocketAddr, scripted: SocketAddr, directory: &Path) -> Envoy {
    let (proxied_port, held_port) = (firstword_testing::free_port(), firstword_testing::free_port());
    let configuration = CONFIGURATION.replace("PROXIED", &proxied_port.to_string());
    let options = EnvoyOptions::new("envoy/mysql.yaml")
        .upstream("mysql", server)
        .configuration(configuration.replace("HELD", &held_port.to_string()));
    let options = options.edit(|bootstrap| {
        add_missing_modules(bootstrap, directory);
        for name in LISTENERS {
            let mut listener = bootstrap["static_resources"]["listeners"][0].clone();
            listener["name"] = json!(name);
            listener["stat_prefix"] = json!(name);
            let filters = &mut listener["filter_chains"][0]["filters"];
            let own_cluster = matches!(name, "silent" | "scripted" | "slow" | "refused");
            filters[1]["typed_config"]["cluster"] = match name {
                "held" => json!("scripted"),
                _ if own_cluster => json!(name),
                _ => json!("mysql"),
            };
            match name {
                "held" => listener["address"]["socket_address"]["port_value"] = json!(held_port),
                "proxied" => listener["address"]["socket_address"]["port_value"] = json!(proxied_port),
                "small" => {
                    filters[0]["typed_config"]["config"]["name"] = json!("small");
                    filters[0]["typed_config"]["config"]["configuration"]["value"] =
                        json!(r#"{"metrics": {"max_series": 5, "flush_interval": "200ms"}}"#);
                }
                "rejected" => {
                    filters[0]["typed_config"]["config"]["name"] = json!("rejected");
                    filters[0]["typed_config"]["config"]["configuration"]["value"] = json!(r#"{"mode": "of"}"#);
                }
                "inspected" => {
                    listener["listener_filters_timeout"] = json!("0s");
                    listener["listener_filters"] = json!([{"name": "inspector", "typed_config": {"@type":
                        "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]);
                }
                _ => {}
            }
            bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
        }
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        for name in ["silent", "scripted", "slow", "refused"] {
            let mut cluster = clusters[0].clone();
            cluster["name"] = json!(name);
            cluster["load_assignment"]["cluster_name"] = json!(name);
            clusters.push(cluster);
        }
    });
    Envoy::start(
        options
            .upstream("silent", silent)
            .upstream("scripted", scripted)
            .upstream("slow", server)
            .upstream("refused", server),
    )
}

fn login() -> Login {
    Login::new(CLASSIC).database(DATABASE)
}

/// Connections that remain open, stalled or hanging in all rounds.
struct HeldOpen {
    _transactions: Vec<Client>,
    _blocked: Vec<Client>,
    _hanging: Vec<Peer>,
}

fn hold_open(envoy: &Envoy) -> HeldOpen {
    let address = envoy.listener_addr("mysql");
    let transactions = (0..12).map(|_| {
        let mut client = Client::login(address, &login());
        client.query("BEGIN").expect("a transaction");
        client
    });
    let mut transactions: Vec<_> = transactions.collect();
    let mut locker = Client::login(address, &login());
    locker.query("SELECT GET_LOCK('held', 0)").expect("a lock");
    transactions.push(locker);
    // More than half of the commands in flight wait.
    let blocked = (0..8).map(|_| {
        let mut client = Client::login(address, &login());
        let waits = client.query_payload("SELECT GET_LOCK('held', 600)");
        client.command(&waits);
        client
    });
    let blocked: Vec<_> = blocked.collect();
    let inspected = envoy.listener_addr("inspected");
    let hanging = (0..2).map(|_| Peer::connect(inspected)).collect();
    HeldOpen { _transactions: transactions, _blocked: blocked, _hanging: hanging }
}

fn forward(from: &mut Peer, to: &mut Peer, bytes: &[u8]) {
    from.send(bytes);
    to.expect(bytes);
}

/// Logs in to a scripted server without connection attributes and with EOF packets.
fn logged_in(listener: SocketAddr, scripted: &Server) -> (Peer, Peer) {
    const OLD: u32 = packets::MARIADB_CAPABILITIES & !(1 << 20 | packets::CLIENT_DEPRECATE_EOF) | 1;
    let mut client = Peer::connect(listener);
    let mut server = scripted.accept();
    forward(&mut server, &mut client, &packets::packet(0, &packets::handshake_v10("5.5.62", OLD)));
    let response = packets::packet(1, &packets::handshake_response(packets::CLIENT_CAPABILITIES));
    forward(&mut client, &mut server, &response);
    forward(&mut server, &mut client, &packets::packet(2, &packets::ok()));
    (client, server)
}

/// Causes each fault once, and cheap ones more often.
fn cause_faults(envoy: &Envoy, server: &MariaDb, silent: &Server, scripted: &Server) {
    cause_errors(envoy, server);
    cause_refusals(envoy, server);
    cause_silence(envoy, silent);
    cause_protocol_faults(envoy, scripted);
    cause_proxy_faults(envoy);
}

/// Errors, writes to a read-only server, and a slow statement.
fn cause_errors(envoy: &Envoy, server: &MariaDb) {
    let address = |listener| envoy.listener_addr(listener);
    let mut client = Client::login(address("mysql"), &login().user("writer", "writer"));
    for _ in 0..60 {
        client.query("SELECT * FROM nosuch").expect_errno(1146);
    }
    client.query("CREATE TABLE IF NOT EXISTS plain (a INT)").expect("a table");
    client.query("INSERT INTO plain VALUES (1), (2)").expect("rows");
    let statement = client.prepare("SELECT a FROM plain WHERE a < ?").statement_id();
    client.execute(statement, 0, &["9"]).expect("rows");
    server.sql("SET GLOBAL read_only = 1");
    client.query("INSERT INTO plain VALUES (3)").expect_errno(1290);
    server.sql("SET GLOBAL read_only = 0");
    client.quit();

    let mut slow = Client::login(address("slow"), &login());
    slow.query("SELECT SLEEP(1.2)").expect("a response");
    slow.quit();
}

/// Refused logins, too many connections, and a login where series overflow.
fn cause_refusals(envoy: &Envoy, server: &MariaDb) {
    let address = |listener| envoy.listener_addr(listener);
    let mysql = address("mysql");
    for listener in [mysql, mysql, mysql, address("refused"), address("refused"), address("refused")] {
        let refused = Client::connect(listener).log_in(&login().user("app", "wrong"));
        assert_eq!(refused.err(), Some(1045));
    }
    Client::login(address("small"), &login()).quit();

    let connections = server.status("Threads_connected").max(10);
    server.sql(&format!("SET GLOBAL max_connections = {}", connections.saturating_sub(1)));
    let held: Vec<_> = (0..3).map(|_| Client::connect(mysql).log_in(&login())).collect();
    server.sql("SET GLOBAL max_connections = 100");
    assert!(held.into_iter().any(|outcome| outcome.err() == Some(1040)));
}

/// Servers without a greeting, and a client of another protocol.
fn cause_silence(envoy: &Envoy, silent: &Server) {
    let address = |listener| envoy.listener_addr(listener);
    // Two clients send HTTP to a server without a response, so that most of its connections are opaque. A third sends
    // nothing. A fourth sends bytes of no protocol to a MySQL server.
    let mut http = [(); 2].map(|()| Peer::connect(address("silent")));
    http.iter_mut().for_each(|client| client.send(b"GET / HTTP/1.1\r\n\r\n"));
    let mute = Peer::connect(address("silent"));
    let mut servers = [silent.accept(), silent.accept(), silent.accept()];
    let mut odd = Peer::connect(address("slow"));
    odd.send(b"\x05\0\0\x07garbage");
    thread::sleep(Duration::from_millis(800));
    servers.iter_mut().for_each(|server| server.send(b""));
    drop((http, mute, odd, servers));
}

/// Unsolicited packets, violations of the protocol, and split or lost ends of responses.
fn cause_protocol_faults(envoy: &Envoy, scripted: &Server) {
    let address = |listener| envoy.listener_addr(listener);
    // A server sends an unsolicited error before it ends an idle session.
    for _ in 0..3 {
        let (mut client, mut server) = logged_in(address("scripted"), scripted);
        forward(&mut server, &mut client, &packets::packet(0, &packets::err(4031)));
    }
    // A command with the sequence id 7, which is a violation of the protocol.
    let (mut client, mut server) = logged_in(address("scripted"), scripted);
    forward(&mut client, &mut server, &packets::packet(7, b"\x03SELECT 1"));
    // A server asks for a file that the statement does not name.
    let (mut client, mut server) = logged_in(address("scripted"), scripted);
    forward(&mut client, &mut server, &packets::packet(0, b"\x03SELECT 1"));
    forward(&mut server, &mut client, &packets::packet(1, &packets::local_infile("/etc/hostname")));
    // The end of a response is late. On the listener that holds it, it never arrives.
    let definitions =
        [packets::prepare_ok(1, 0), packets::column_def("a"), packets::eof(packets::AUTOCOMMIT)];
    let response = packets::answer(definitions);
    let (early, late) = response.split_at(response.len() - 1);
    for listener in ["scripted", "held"] {
        let (mut client, mut server) = logged_in(address(listener), scripted);
        forward(
            &mut client,
            &mut server,
            &packets::command(packets::COM_STMT_PREPARE, b"SELECT a FROM plain"),
        );
        server.send(early);
        if listener == "held" {
            client.expect(&packets::answer([packets::prepare_ok(1, 0)]));
            server.reset();
        } else {
            client.expect(early);
            forward(&mut server, &mut client, late);
        }
    }

    // A response with the sequence id 7, on the listener that blocks requests for files.
    let (mut client, mut server) = logged_in(address("held"), scripted);
    forward(&mut client, &mut server, &packets::packet(0, b"\x03SELECT 1"));
    server.send(&packets::packet(7, b"\x01"));
    drop(client.rest());
    // More commands in flight than the filter remembers.
    let (mut client, mut server) = logged_in(address("scripted"), scripted);
    let commands = [packets::packet(0, b"\x0e"), packets::packet(0, b"\x09")].concat().repeat(600);
    forward(&mut client, &mut server, &commands);
}

/// Refused PROXY headers, clients that leave while a listener filter waits, and one of a listener without its filter.
fn cause_proxy_faults(envoy: &Envoy) {
    let address = |listener| envoy.listener_addr(listener);
    let response = packets::handshake_response(packets::CLIENT_CAPABILITIES);
    for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], b""] {
        let mut proxied = Peer::connect(address("proxied"));
        proxied.send(&[header, &response].concat());
        drop(proxied.rest());
    }
    for _ in 0..3 {
        drop(Peer::connect(address("inspected")));
    }
    // Envoy closes it, because it has no configuration for the filter.
    drop(Peer::connect(address("missing")).rest());
}

/// Removes the waiting times of alerts.
fn without_waiting(mut file: Value) -> Value {
    for group in file["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            if rule["for"].is_string() {
                rule["for"] = json!("0s");
            }
        }
    }
    file
}

/// Values of Grafana's variables.
const VARIABLES: [(&str, &str); 6] = [
    ("$namespace", ".*"),
    ("$workload", ".*"),
    ("$direction", ".*"),
    ("$destination", ".*"),
    ("$__rate_interval", "1m"),
    ("$__range", "10m"),
];

/// Alerts without a fault here, because a test cannot stop the filter, wait for a day or fill its memory. Each has an expression that
/// shows that its series exist. `alerts.test.yaml` fires all of them.
const UNPROVOKED: [(&str, &str); 4] = [
    (
        "FirstwordFilterStopped",
        "rate(firstword_heartbeat_total[2m]) > 0 and on (instance) firstword_connections_active > 0",
    ),
    ("FirstwordFilterGone", "count by (namespace, job) (firstword_build_info)"),
    (
        "FirstwordTwoVersions",
        "count by (namespace) (count by (namespace, version, commit) (firstword_build_info)) == 1",
    ),
    ("FirstwordMemoryHigh", "firstword_vm_memory_bytes > 0"),
];

/// Complaints of `promtool check metrics`, with their reasons in `docs/metrics.md`.
const COMPLAINTS: [&str; 5] = [
    "no help text",
    "non-histogram metrics should not have",
    "non-histogram and non-summary metrics should not have",
    "use base unit \"seconds\" instead of \"microseconds\"",
    "counter metrics should have \"_total\" suffix",
];

fn assert_complaints_are_known(exposition: &str) {
    let mut promtool = Command::new(tool("promtool"));
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    let mut input = promtool.stdin.take().unwrap();
    let exposition = exposition.to_owned();
    // In a thread, because promtool can write before it has read everything.
    let writer = thread::spawn(move || input.write_all(exposition.as_bytes()).unwrap());
    let output = promtool.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let is_known = |line: &&str| COMPLAINTS.iter().any(|known| line.contains(known));
    let unknown: Vec<_> = text.lines().filter(|line| !is_known(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let absent: Vec<_> = COMPLAINTS.iter().filter(|known| !text.contains(**known)).collect();
    assert!(absent.is_empty(), "promtool no longer complains: {absent:#?}");
}

#[test]
fn each_rule_alert_and_panel_has_data_under_faults() {
    let server = MariaDb::start(&[]);
    // An account without all privileges, because one with them can write to a read-only server.
    server.sql("CREATE USER writer IDENTIFIED BY 'writer'");
    server.sql("GRANT ALL ON demo.* TO writer");
    let (silent, scripted) = (Server::start(), Server::start());
    let directory = temp_dir();
    let envoy = envoy(server.addr(), silent.address(), scripted.address(), directory.path());
    let held = hold_open(&envoy);
    let job = yaml(&shipped("prometheus.yaml"))["scrape_configs"][0].clone();
    let files = [yaml(&shipped("rules.yaml")), without_waiting(yaml(&shipped("alerts.yaml")))];
    let prometheus = Prometheus::start(&[(job, envoy.admin_addr())], &files);

    let mut wanted: Vec<(String, String)> = panels();
    for (_, expression) in &mut wanted {
        *expression =
            VARIABLES.iter().fold(expression.clone(), |text, (name, value)| text.replace(name, value));
    }
    assert!(wanted.len() >= 40, "{}", wanted.len());
    for rule in rules("rules.yaml") {
        let name = rule["record"].as_str().unwrap().to_owned();
        wanted.push((format!("rule {name}"), name));
    }
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let unprovoked = UNPROVOKED.iter().find(|(unprovoked, _)| *unprovoked == name);
        let expression = unprovoked.map_or_else(
            || format!(r#"ALERTS{{alertname="{name}",alertstate="firing"}}"#),
            |(_, expression)| (*expression).to_owned(),
        );
        wanted.push((format!("alert {name}"), expression));
    }

    for _ in 0..MAX_ROUNDS {
        let begin = Instant::now();
        cause_faults(&envoy, &server, &silent, &scripted);
        wanted.retain(|(_, expression)| prometheus.query(expression).is_empty());
        if wanted.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(1100).saturating_sub(begin.elapsed()));
    }
    drop(held);
    assert_complaints_are_known(&envoy.admin_get("/stats/prometheus?filter=firstword"));
    assert!(wanted.is_empty(), "without data: {wanted:#?}\n{}", envoy.log());
}
