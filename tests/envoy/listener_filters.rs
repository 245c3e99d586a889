//! What Envoy's listener filters do to a client that waits for the greeting: what not to do, as `envoy/README.md` tells it.
//! No network filter sees any of this; the one sign of a hang is a gauge of the listener's.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, filters, listeners, shipped, tcp_proxy};
use crate::inert::tls;
use crate::traffic::login;
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::{table, temp_dir, wait_for};

/// As listeners have it; long enough to be told from none at all.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Of the listener, not the admin interface's.
const WAITING: &str = r"^listener\.\d.*\.downstream_pre_cx_active$";
/// How long anything may take that is not to hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn inspector(name: &str, message: &str) -> Value {
    let package = format!("type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{message}");
    json!({"name": format!("envoy.filters.listener.{name}"), "typed_config": {"@type": package}})
}

fn proxy_protocol(without_header: bool) -> Value {
    let mut filter = inspector("proxy_protocol", "ProxyProtocol");
    filter["typed_config"]["allow_requests_without_proxy_protocol"] = json!(without_header);
    filter
}

/// A client that says nothing, behind this listener filter: what becomes of it.
fn silent_client(filter: &Option<Value>, timeout: Duration, go_on: bool) -> &'static str {
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()).edit(|bootstrap| {
        let listener = &mut listeners(bootstrap)[0];
        listener["listener_filters"] = filter.iter().cloned().collect();
        listener["listener_filters_timeout"] = json!(format!("{}s", timeout.as_secs()));
        listener["continue_on_listener_filters_timeout"] = json!(go_on);
    }));
    let seen = watch(&server, &envoy, timeout);
    assert_diagnosed(&envoy, seen);
    seen
}

/// What `firstword doctor` says of the first kind of client of the running Envoy.
fn diagnosis(envoy: &Envoy) -> Value {
    let (admin, to) = (envoy.admin_addr().to_string(), envoy.listener_addr(MYSQL).to_string());
    let output = std::process::Command::new(firstword_testing::program::firstword())
        .args(["doctor", &admin, "--dest", &to, "-o", "json"])
        .output()
        .expect("firstword");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// `firstword doctor` says the same of the running Envoy.
fn assert_diagnosed(envoy: &Envoy, seen: &str) {
    let said = diagnosis(envoy);
    let expected = match said["destinations"][0]["clients"][0]["verdict"].as_str() {
        Some("greeting") => "greeting at once",
        Some("delayed") => "greeting when the timeout ends",
        Some("closed") => "closed when the timeout ends",
        Some("hang") => "hangs for ever",
        other => panic!("{other:?}: {said:#}"),
    };
    assert_eq!(expected, seen, "{said:#}");
}

fn watch(server: &Server, envoy: &Envoy, timeout: Duration) -> &'static str {
    let begin = Instant::now();
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    let mut seen_waiting = 0;
    let accepted = wait_for("end of the wait", PATIENCE, || {
        let accepted = server.try_accept();
        // Every connection is in the gauge for a moment.
        seen_waiting = if envoy.stat(WAITING) == 1 { seen_waiting + 1 } else { 0 };
        let hangs = timeout.is_zero() && seen_waiting == 10;
        (accepted.is_some() || hangs || client.has_ended()).then_some(accepted)
    });
    let timed_out = envoy.stat(r"^listener\.\d.*\.downstream_pre_cx_timeout$");
    assert!(timed_out == 0 || begin.elapsed() >= timeout);
    if let Some(mut upstream) = accepted {
        let greeting = &login()[0].1;
        upstream.send(greeting);
        client.expect(greeting);
        return if timed_out == 0 { "greeting at once" } else { "greeting when the timeout ends" };
    }
    if client.has_ended() {
        assert_eq!(timed_out, 1);
        server.assert_not_connected();
        return "closed when the timeout ends";
    }
    client.assert_silent();
    server.assert_not_connected();
    // Nothing else tells of it: to Envoy there is no connection yet.
    assert_eq!((envoy.stat(WAITING), envoy.stat(r"^listener\.\d.*\.downstream_cx_total$")), (1, 0));
    "hangs for ever"
}

#[test]
fn the_table_of_what_not_to_do() {
    let tls = || inspector("tls_inspector", "TlsInspector");
    let http = || inspector("http_inspector", "HttpInspector");
    let mut disabled = tls();
    disabled["filter_disabled"] = json!({"destination_port_range": {"start": 1, "end": 65535}});
    let cases = [
        ("none", None),
        ("`tls_inspector`", Some(tls())),
        ("`http_inspector`", Some(http())),
        ("`proxy_protocol`", Some(proxy_protocol(false))),
        ("`proxy_protocol`, `allow_requests_without_proxy_protocol: true`", Some(proxy_protocol(true))),
        ("any, `filter_disabled` for the port", Some(disabled)),
    ];
    let mut rows = vec![
        ["listener filter", "timeout", "timeout, `continue_on_listener_filters_timeout`", "timeout 0s"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, filter) in cases {
        let filter = &filter;
        let results = thread::scope(|scope| {
            [(TIMEOUT, false), (TIMEOUT, true), (Duration::ZERO, false)]
                .map(|(timeout, go_on)| scope.spawn(move || silent_client(filter, timeout, go_on)))
                .map(|result| result.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        rows.push([&[name][..], &results].concat().into_iter().map(str::to_owned).collect());
    }
    table::assert_says("envoy/README.md", &rows);
}

/// `tcp_proxy` does not wait for the client's TLS: where there is no server, the connection ends without it.
#[test]
fn a_chain_that_ends_tls_closes_at_once_where_there_is_no_server() {
    let directory = temp_dir();
    let tls = tls(directory.path());
    for (cluster, mode, closes) in [
        ("none", "IMMEDIATE", true),
        ("empty", "IMMEDIATE", true),
        ("none", "ON_DOWNSTREAM_TLS_HANDSHAKE", false),
        (MYSQL, "IMMEDIATE", false),
    ] {
        let server = Server::start();
        let envoy = Envoy::start(shipped(server.address()).edit(|bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
            clusters.push(json!({"name": "empty", "type": "STATIC"}));
            let listener = &mut listeners(bootstrap)[0];
            listener["filter_chains"][0]["transport_socket"] = tls.clone();
            filters(listener).remove(0);
            let proxy = tcp_proxy(listener);
            proxy["cluster"] = json!(cluster);
            if mode != "IMMEDIATE" {
                proxy["upstream_connect_mode"] = json!(mode);
                proxy["max_early_data_bytes"] = json!(1024);
            }
        }));
        let mut client = Peer::connect(envoy.listener_addr(MYSQL));
        if closes {
            wait_for("end", PATIENCE, || client.has_ended().then_some(()));
        } else {
            client.assert_silent();
        }
        let said = diagnosis(&envoy);
        let found = &said["destinations"][0]["clients"][0];
        let expected = if closes { (json!("closed"), json!(0)) } else { (json!("hang"), Value::Null) };
        assert_eq!(
            (&found["verdict"], &found["after_ms"]),
            (&expected.0, &expected.1),
            "{cluster}: {said:#}"
        );
    }
}
