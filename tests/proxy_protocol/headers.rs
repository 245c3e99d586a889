//! PROXY headers that tests send, and the Envoy that receives them.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bootstrap::{configured, listeners, tcp_proxy};
use crate::counter_diff::wait_for_flushes;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::packets::{CLIENT_CAPABILITIES, handshake_response, packet};

/// Header of version 1, from 192.0.2.1:1111 to 192.0.2.2:3306.
pub(crate) const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";
/// The same header in version 2.
pub(crate) const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x0c\xea";
/// A handshake response.
pub(crate) fn response() -> Vec<u8> {
    packet(1, &handshake_response(CLIENT_CAPABILITIES))
}

/// A list of networks with the client of these tests.
pub(crate) fn trusted_networks() -> Value {
    json!(["127.0.0.1"])
}

/// A list of networks without the client of these tests.
pub(crate) fn other_networks() -> Value {
    json!(["10.0.0.0/8", "fd00::/8"])
}

/// `envoy/mysql.yaml` with one rule, named `orders`.
pub(crate) fn options(server: SocketAddr, receive: &Value, send: &Value) -> EnvoyOptions {
    let rule = json!({
        "name": "orders", "protocol": "mysql", "proxy_protocol": {"receive": receive, "send": send},
    });
    configured(server, json!({"rules": [rule]}))
}

/// Envoy with [`options`].
pub(crate) fn envoy(server: SocketAddr, receive: &Value, send: &Value) -> Envoy {
    Envoy::start(options(server, receive, send))
}

/// Lets Envoy read before it connects to the server, because `connect_upstream: after_header` needs that since Envoy 1.37.
pub(crate) fn with_early_data(options: EnvoyOptions) -> EnvoyOptions {
    options.edit(|bootstrap| tcp_proxy(&mut listeners(bootstrap)[0])["max_early_data_bytes"] = json!(1024))
}

pub(crate) fn off() -> Value {
    json!({"mode": "off"})
}

/// Waits until exactly these series of `proxy_protocol_*` are counted. Asserts the same after several ticks. The format is
/// `received v1 stripped 3` and `sent v1 3`.
pub(crate) fn assert_counted(envoy: &Envoy, expected: &[&str]) {
    let counts = || {
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
    while counts() != expected {
        assert!(Instant::now() < deadline, "{:?}, not {expected:?}\n{}", counts(), envoy.log());
        sleep(Duration::from_millis(50));
    }
    wait_for_flushes(envoy);
    assert_eq!(counts(), expected);
}

/// Sum of all series of a metric with these labels.
pub(crate) fn metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)]) -> f64 {
    envoy.prometheus().select(&format!("firstword_{name}"), labels).map(|sample| sample.value).sum()
}

/// Log lines about refused headers.
pub(crate) fn refusals(envoy: &Envoy) -> Vec<String> {
    const EVENT: &str = "event=proxy_protocol_refused";
    let refusal = |line: &str| line.split_once(EVENT).map(|(_, rest)| format!("{EVENT}{rest}"));
    envoy.log().lines().filter_map(refusal).collect()
}
