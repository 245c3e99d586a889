//! `firstword doctor` predicts what a silent client of a listener sees, for hundreds of random listeners in one Envoy.
//!
//! The listeners differ in listener filters, time-outs, filter chains and their conditions, network filters and clusters. A
//! seed decides them; the test prints it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::packets::greeting;
use firstword_testing::program::firstword;
use firstword_testing::random::Random;

const LISTENERS: usize = 500;
/// Envoy's time-out for a listener that names none, and some more.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(18);
/// Longer than any other time-out of the listeners.
const SILENCE: Duration = Duration::from_secs(4);

/// A server that greets every client.
fn greeting_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // A client that has gone is no error.
            let _ = stream.write_all(&greeting());
            open.push(stream);
        }
    });
    address
}

fn typed(name: &str, package: &str, more: Value) -> Value {
    let mut config = json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.{package}")});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    json!({"name": name, "typed_config": config})
}

fn listener_filters(random: &mut Random) -> Vec<Value> {
    let mut filters = Vec::new();
    for name in ["proxy_protocol", "tls_inspector", "http_inspector"] {
        if random.below(3) > 0 {
            continue;
        }
        let message = match name {
            "proxy_protocol" => "ProxyProtocol",
            "tls_inspector" => "TlsInspector",
            _ => "HttpInspector",
        };
        let more = match (name, random.below(2)) {
            ("proxy_protocol", 0) => json!({"allow_requests_without_proxy_protocol": true}),
            _ => json!({}),
        };
        let package = format!("listener.{name}.v3.{message}");
        let mut filter = typed(&format!("envoy.filters.listener.{name}"), &package, more);
        let range = |start: u16, end: u16| json!({"destination_port_range": {"start": start, "end": end}});
        match random.below(6) {
            0 => filter["filter_disabled"] = range(1, 65_535),
            1 => filter["filter_disabled"] = range(1, 2),
            2 => filter["filter_disabled"] = json!({"not_match": range(1, 2)}),
            3 => {
                let rules = [range(1, 2), range(3, 65_535)];
                filter["filter_disabled"] = json!({"or_match": {"rules": rules}});
            }
            _ => {}
        }
        filters.push(filter);
    }
    if random.below(2) == 0 {
        filters.reverse();
    }
    filters
}

fn chain_match(random: &mut Random) -> Value {
    let mut conditions = json!({});
    match random.below(4) {
        0 => conditions["transport_protocol"] = json!(["raw_buffer", "tls"][random.below(2)]),
        1 => {
            let protocol = ["http/1.1", "h2", "istio"][random.below(3)];
            conditions["application_protocols"] = json!([protocol]);
        }
        _ => {}
    }
    match random.below(5) {
        0 => conditions["prefix_ranges"] = json!([{"address_prefix": "127.0.0.0", "prefix_len": 8}]),
        1 => conditions["prefix_ranges"] = json!([{"address_prefix": "10.0.0.0", "prefix_len": 8}]),
        2 => conditions["server_names"] = json!(["db.example.com"]),
        _ => {}
    }
    conditions
}

fn network_filter(random: &mut Random) -> Value {
    let proxy = |cluster: &str, more: Value| {
        let mut filter = typed("tcp", "network.tcp_proxy.v3.TcpProxy", more);
        filter["typed_config"]["stat_prefix"] = json!("tcp");
        filter["typed_config"]["cluster"] = json!(cluster);
        filter
    };
    match random.below(10) {
        0 => proxy("empty", json!({})),
        1 => proxy("missing", json!({})),
        2 => typed("echo", "network.echo.v3.Echo", json!({})),
        3 => {
            let router = typed("router", "http.router.v3.Router", json!({}));
            typed(
                "http",
                "network.http_connection_manager.v3.HttpConnectionManager",
                json!({"stat_prefix": "http", "route_config": {"virtual_hosts": []}, "http_filters": [router]}),
            )
        }
        4 => proxy(
            "database",
            json!({"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 1024}),
        ),
        _ => proxy("database", json!({})),
    }
}

fn listener(index: usize, random: &mut Random) -> Value {
    let mut listener = json!({
        "name": format!("random-{index}"),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "listener_filters": listener_filters(random),
    });
    match random.below(10) {
        // Envoy's default.
        0 => {}
        1..4 => listener["listener_filters_timeout"] = json!("0s"),
        4..7 => listener["listener_filters_timeout"] = json!("1s"),
        _ => listener["listener_filters_timeout"] = json!("0.300s"),
    }
    if random.below(2) == 0 {
        listener["continue_on_listener_filters_timeout"] = json!(true);
    }
    let mut chains: Vec<Value> = Vec::new();
    for number in 0..1 + random.below(3) {
        let conditions = chain_match(random);
        // Envoy refuses two chains with the same conditions.
        if chains.iter().all(|chain| chain["filter_chain_match"] != conditions) {
            chains.push(json!({
                "name": format!("chain-{number}"),
                "filter_chain_match": conditions,
                "filters": [network_filter(random)],
            }));
        }
    }
    listener["filter_chains"] = chains.into();
    if random.below(3) == 0 {
        listener["default_filter_chain"] = json!({"name": "default", "filters": [network_filter(random)]});
    }
    listener
}

fn cluster(name: &str, server: Option<SocketAddr>) -> Value {
    let endpoint = |address: SocketAddr| {
        let address = json!({"address": address.ip().to_string(), "port_value": address.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    };
    let endpoints: Vec<_> = server.map(endpoint).into_iter().collect();
    json!({"name": name, "type": "STATIC", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}})
}

/// What a client sees that sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Greeting(Duration),
    Closed(Duration),
    Nothing,
}

fn watch(address: SocketAddr, patience: Duration) -> Seen {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(patience)).expect("a time-out");
    match stream.read(&mut [0]) {
        Ok(0) => Seen::Closed(begin.elapsed()),
        Ok(_) => Seen::Greeting(begin.elapsed()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Seen::Closed(begin.elapsed()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Seen::Nothing,
        Err(error) => panic!("{address}: {error}"),
    }
}

/// Whether the client saw what the doctor predicts. A time is a minimum, because the machine can be busy. Envoy's timers can be
/// some milliseconds early.
fn agrees(verdict: &str, after: Duration, seen: Seen) -> bool {
    let after = after.saturating_sub(Duration::from_millis(20));
    match (verdict, seen) {
        ("greeting", Seen::Greeting(_)) | ("hang", Seen::Nothing) => true,
        ("delayed", Seen::Greeting(elapsed)) | ("closed", Seen::Closed(elapsed)) => elapsed >= after,
        _ => false,
    }
}

#[test]
fn doctor_predicts_what_random_listeners_do() {
    let mut random = Random::from_environment();
    let listeners: Vec<Value> = (0..LISTENERS).map(|index| listener(index, &mut random)).collect();
    let server = greeting_server();
    let bootstrap = json!({"admin": {}, "static_resources": {
        "listeners": listeners,
        "clusters": [cluster("database", Some(server)), cluster("empty", None)],
    }});
    let options = EnvoyOptions::from_value(bootstrap).upstream("database", server).upstream("empty", server);
    let envoy = Envoy::start(options);
    let addresses: Vec<_> =
        (0..LISTENERS).map(|index| envoy.listener_addr(&format!("random-{index}"))).collect();

    let mut doctor = Command::new(firstword());
    doctor.args(["doctor", &envoy.admin_addr().to_string(), "-o", "json"]);
    for address in &addresses {
        doctor.args(["--dest", &address.to_string()]);
    }
    let output = doctor.output().expect("firstword");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));

    let seen: Vec<Seen> = thread::scope(|scope| {
        let clients: Vec<_> = listeners
            .iter()
            .zip(&addresses)
            .map(|(listener, address)| {
                let has_time_out = listener.get("listener_filters_timeout").is_some();
                let patience = if has_time_out { SILENCE } else { DEFAULT_TIMEOUT };
                scope.spawn(move || watch(*address, patience))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });

    let destinations = report["destinations"].as_array().expect("destinations");
    let mut wrong = Vec::new();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for ((listener, address), seen) in listeners.iter().zip(&addresses).zip(seen) {
        let text = address.to_string();
        let found = destinations.iter().find(|one| one["destination"] == text.as_str()).expect("an answer");
        let silent =
            found["clients"].as_array().expect("clients").iter().find(|one| one["client"] == "silent");
        let silent = silent.expect("a silent client");
        let verdict = silent["verdict"].as_str().expect("a verdict");
        let after = Duration::from_millis(silent["after_ms"].as_u64().unwrap_or(0));
        *counts.entry(verdict).or_default() += 1;
        if !agrees(verdict, after, seen) {
            wrong.push(format!("predicted {verdict} {after:?}, seen {seen:?}: {silent}\n{listener:#}"));
        }
    }
    println!("{counts:?}");
    for verdict in ["greeting", "delayed", "closed", "hang"] {
        assert!(
            counts.get(verdict).is_some_and(|count| *count > 10),
            "few predictions of {verdict}: {counts:?}"
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {LISTENERS} are wrong, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(3)].join("\n")
    );
}
