//! The headers that tests send, and the Envoy they send them to.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bootstrap::{configured, listeners, tcp_proxy};
use crate::counter_diff::wait_for_flushes;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::packets::{CLIENT_CAPABILITIES, handshake_response, packet};

/// From 192.0.2.1:1111 to 192.0.2.2:3306.
pub(crate) const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";
/// The same in version 2.
pub(crate) const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x0c\xea";
/// A client's answer to a greeting.
pub(crate) fn response() -> Vec<u8> {
    packet(1, &handshake_response(CLIENT_CAPABILITIES))
}

/// The one who connects in these tests.
pub(crate) fn believed() -> Value {
    json!(["127.0.0.1"])
}

/// Somebody else.
pub(crate) fn stranger() -> Value {
    json!(["10.0.0.0/8", "fd00::/8"])
}

/// `envoy/mysql.yaml` with one rule, of the name `orders`.
pub(crate) fn options(server: SocketAddr, receive: &Value, send: &Value) -> EnvoyOptions {
    let rule = json!({
        "name": "orders", "protocol": "mysql", "proxy_protocol": {"receive": receive, "send": send},
    });
    configured(server, json!({"rules": [rule]}))
}

/// The same, started.
pub(crate) fn envoy(server: SocketAddr, receive: &Value, send: &Value) -> Envoy {
    Envoy::start(options(server, receive, send))
}

/// What `connect: after_header` needs of Envoy 1.37 and newer: to be given bytes before the server is connected to.
pub(crate) fn reads_early(options: EnvoyOptions) -> EnvoyOptions {
    options.edit(|bootstrap| tcp_proxy(&mut listeners(bootstrap)[0])["max_early_data_bytes"] = json!(1024))
}

pub(crate) fn off() -> Value {
    json!({"mode": "off"})
}

/// Waits until exactly these series of `proxy_protocol_*` are counted, as `received v1 stripped 3` and `sent v1 3`, and
/// still are after several ticks.
pub(crate) fn assert_counted(envoy: &Envoy, expected: &[&str]) {
    let counted = || {
        let metrics = envoy.prometheus();
        let mut lines = Vec::new();
        for sample in metrics.select("firstword_proxy_protocol_received_total", &[]) {
            let (format, result) = (&sample.labels["format"], &sample.labels["result"]);
            lines.push(format!("received {format} {result} {}", sample.value));
        }
        for sample in metrics.select("firstword_proxy_protocol_sent_total", &[]) {
            lines.push(format!("sent {} {}", sample.labels["format"], sample.value));
        }
        lines.sort();
        lines
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while counted() != expected {
        assert!(Instant::now() < deadline, "{:?}, not {expected:?}\n{}", counted(), envoy.log());
        sleep(Duration::from_millis(50));
    }
    wait_for_flushes(envoy);
    assert_eq!(counted(), expected);
}

/// A sum over the destination `orders`.
pub(crate) fn metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)]) -> f64 {
    envoy.prometheus().select(&format!("firstword_{name}"), labels).map(|sample| sample.value).sum()
}

/// The lines of Envoy's log about refused headers.
pub(crate) fn refusals(envoy: &Envoy) -> Vec<String> {
    const EVENT: &str = "event=proxy_protocol_refused";
    let of_refusal = |line: &str| line.split_once(EVENT).map(|(_, rest)| format!("{EVENT}{rest}"));
    envoy.log().lines().filter_map(of_refusal).collect()
}
