//! Effects of Envoy's listener filters on a client that waits for the greeting, compared with the table in `docs/listener-filters.md`.
//! No network filter sees such a connection. The only sign of a hang is a gauge of the listener.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, filters, listeners, shipped, tcp_proxy};
use crate::other_protocols::tls;
use crate::traffic::login;
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::{table, temp_dir, wait_for};

/// Listener filter timeout: long enough to distinguish it from no wait.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Gauge of waiting connections, of the listener and not of the admin interface.
const WAITING: &str = r"^listener\.\d.*\.downstream_pre_cx_active$";
/// Maximum duration of anything that must not hang.
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

/// Outcome of a silent client of a listener with this listener filter.
fn outcome_of_silent_client(filter: &Option<Value>, timeout: Duration, continues: bool) -> &'static str {
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()).edit(|bootstrap| {
        let listener = &mut listeners(bootstrap)[0];
        listener["listener_filters"] = filter.iter().cloned().collect();
        listener["listener_filters_timeout"] = json!(format!("{}s", timeout.as_secs()));
        listener["continue_on_listener_filters_timeout"] = json!(continues);
    }));
    let outcome = watch(&server, &envoy, timeout);
    assert_diagnosed(&envoy, outcome);
    outcome
}

/// Report of `firstword doctor` about the running Envoy.
fn diagnosis(envoy: &Envoy) -> Value {
    let (admin, to) = (envoy.admin_addr().to_string(), envoy.listener_addr(MYSQL).to_string());
    let output = std::process::Command::new(firstword_testing::program::firstword())
        .args(["doctor", &admin, "--dest", &to, "-o", "json"])
        .output()
        .expect("firstword");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Asserts that `firstword doctor` predicts this outcome for the running Envoy.
fn assert_diagnosed(envoy: &Envoy, outcome: &str) {
    let report = diagnosis(envoy);
    let predicted = match report["destinations"][0]["clients"][0]["verdict"].as_str() {
        Some("greeting") => "greeting at once",
        Some("delayed") => "greeting when the timeout ends",
        Some("closed") => "closed when the timeout ends",
        Some("hang") => "hangs for ever",
        other => panic!("{other:?}: {report:#}"),
    };
    assert_eq!(predicted, outcome, "{report:#}");
}

/// Opens a connection, sends nothing, and returns the outcome.
fn watch(server: &Server, envoy: &Envoy, timeout: Duration) -> &'static str {
    let begin = Instant::now();
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    let mut seen_waiting = 0;
    let accepted = wait_for("end of the wait", PATIENCE, || {
        let accepted = server.try_accept();
        // Each connection is in the gauge for a moment, so one sample is not enough.
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
    // There is no other sign, because Envoy does not count the connection yet.
    assert_eq!((envoy.stat(WAITING), envoy.stat(r"^listener\.\d.*\.downstream_cx_total$")), (1, 0));
    "hangs for ever"
}

#[test]
fn the_readme_has_the_outcome_of_each_listener_filter() {
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
                .map(|(timeout, continues)| {
                    scope.spawn(move || outcome_of_silent_client(filter, timeout, continues))
                })
                .map(|result| result.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        rows.push([&[name][..], &results].concat().into_iter().map(str::to_owned).collect());
    }
    table::assert_says("docs/listener-filters.md", &rows);
}

/// `tcp_proxy` does not wait for the client's TLS handshake: without a server, the connection ends before it.
#[test]
fn a_chain_that_terminates_tls_closes_at_once_without_a_server() {
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
        let report = diagnosis(&envoy);
        let found = &report["destinations"][0]["clients"][0];
        let expected = if closes { (json!("closed"), json!(0)) } else { (json!("hang"), Value::Null) };
        assert_eq!(
            (&found["verdict"], &found["after_ms"]),
            (&expected.0, &expected.1),
            "{cluster}: {report:#}"
        );
    }
}
