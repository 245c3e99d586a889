//! The first bytes of a connection, from either side and of any protocol, are forwarded. The filter counts the protocol.

use bytes::Bytes;
use firstword::event::Sender::{self, Client, Server as Upstream};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured};
use crate::counter_diff::CounterDiff;
use crate::session_counts::LOGIN;
use crate::traffic::{Pair, login};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;

type Script = &'static [(Sender, &'static [u8])];

const HTTP: Script = &[
    (Client, b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n"),
    (Upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    (Client, b"GET /more HTTP/1.1\r\nHost: shop\r\n\r\n"),
];
/// The first bytes of a ClientHello, and an alert in response.
const TLS: Script =
    &[(Client, b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"), (Upstream, b"\x15\x03\x03\x00\x02\x02\x28")];
const SMTP: Script = &[
    (Upstream, b"220 mail.example.org ESMTP\r\n"),
    (Client, b"EHLO client\r\n"),
    (Upstream, b"250 mail.example.org\r\n"),
];
const PROXY_V1: Script =
    &[(Client, b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 3306\r\n"), (Upstream, b"\x4a\0\0\0\x0a8.0.36\0")];
const PROXY_V2: Script =
    &[(Client, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), (Client, b"\xc0\0\x02\x01\xc0\0\x02\x02")];
const MYSQL_X: Script = &[(Upstream, b"\x05\0\0\0\x0b\x08\x05\x1a\0"), (Client, b"\x01\0\0\0\x01")];
const MYSQL_X_CLIENT: Script = &[(Client, b"\x01\0\0\0\x01"), (Upstream, b"\x05\0\0\0\x02")];
const REDIS: Script = &[(Client, b"*1\r\n$4\r\nPING\r\n"), (Upstream, b"+PONG\r\n")];

/// Protocols, their first bytes, and the counts of each in addition to the bytes.
const CASES: [(&str, Script, &str); 8] = [
    (
        "HTTP",
        HTTP,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=http} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "TLS",
        TLS,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=tls} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "SMTP",
        SMTP,
        "connections_total{protocol=server_first} 1
         server_first_detected_total{protocol=smtp} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "PROXY protocol, version 1",
        PROXY_V1,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=proxy_v1} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "PROXY protocol, version 2",
        PROXY_V2,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=proxy_v2} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "X Protocol, a notice first",
        MYSQL_X,
        "connections_total{protocol=server_first} 1
         server_first_detected_total{protocol=other} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "X Protocol, the client first",
        MYSQL_X_CLIENT,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=mysqlx} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
    (
        "Redis",
        REDIS,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=other} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    ),
];

fn chunks(script: Script) -> Vec<(Sender, Bytes)> {
    script.iter().map(|(sender, bytes)| (*sender, Bytes::from_static(bytes))).collect()
}

fn bytes(script: Script) -> String {
    let sum = |sender| script.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum();
    let lines: [(&str, usize); 2] = [("client", sum(Client)), ("server", sum(Upstream))];
    let nonzero = lines.iter().filter(|(_, count)| *count > 0);
    nonzero.map(|(sender, count)| format!("bytes_total{{sender={sender}}} {count}\n")).collect()
}

/// The first bytes decide, also if a rule expects another protocol.
#[test]
fn other_protocols_are_forwarded_unchanged_and_recognised() {
    let undeclared = "event=server_first_undeclared direction=unspecified destination=127.0.0.1:";
    for (expected, logged) in [("detect", &[][..]), ("mysql", &[undeclared][..])] {
        let server = Server::start();
        let configuration = json!({"defaults": {"protocol": expected}});
        let envoy = Envoy::start(configured(server.address(), configuration));
        let address = envoy.listener_addr(MYSQL);
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        for (name, script, counts) in CASES {
            println!("{name}, where {expected} is expected");
            let mut pair = Pair::open(address, &server);
            pair.play(&chunks(script));
            pair.close();
            diff.expect(&format!("{}{counts}", bytes(script)));
        }
        diff.finish_with_log_lines(logged);
    }
}

/// A connection without bytes is in the gauge before its protocol is known.
#[test]
fn a_silent_connection_is_counted_while_it_is_open() {
    let server = Server::start();
    for (configuration, protocol) in [
        (json!({}), "unknown"),
        (json!({"defaults": {"protocol": "mysql"}}), "mysql"),
        (json!({"defaults": {"protocol": "server_first"}}), "server_first"),
    ] {
        let envoy = Envoy::start(configured(server.address(), configuration));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        let pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        diff.expect(&format!("connections_active{{protocol={protocol}}} 1"));
        diff.expect_nothing();
        pair.close();
        diff.expect(&format!(
            "connections_active{{protocol={protocol}}} -1
             connections_total{{protocol={protocol}}} 1
             connections_closed_total{{closed_by=client,phase=greeting}} 1"
        ));
        diff.finish();
    }
}

/// The gauge moves the connection to its protocol as soon as that is known.
#[test]
fn a_connection_with_late_first_bytes_is_counted_once() {
    let server = Server::start();
    let configuration = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), configuration));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    diff.expect("connections_active{protocol=mysql} 1");
    pair.play(&chunks(SMTP));
    diff.expect(&format!(
        "connections_active{{protocol=mysql}} -1
         connections_active{{protocol=server_first}} 1
         connections_total{{protocol=server_first}} 1
         server_first_detected_total{{protocol=smtp}} 1
         opaque_total{{reason=not_mysql}} 1
         {}",
        bytes(SMTP)
    ));
    pair.close();
    diff.expect(
        "connections_active{protocol=server_first} -1
         connections_closed_total{closed_by=client,phase=opaque} 1",
    );
    diff.finish_with_log_lines(&["seen=smtp expected=mysql"]);
}

/// A server that sends no greeting in time is counted once and logged once, with possible causes. The connection is not
/// affected.
#[test]
fn a_late_greeting_is_reported_and_its_connection_continues() {
    let server = Server::start();
    let configuration = json!({"defaults": {"protocol": "mysql", "greeting_timeout": "1s"}});
    let envoy = Envoy::start(configured(server.address(), configuration));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    diff.expect(
        "connections_active{protocol=mysql} 1
         greeting_timeouts_total 1",
    );
    diff.expect_nothing();
    pair.play(&login());
    diff.expect(LOGIN);
    pair.close();
    diff.expect(
        "connections_active{protocol=mysql} -1
         connections_closed_total{closed_by=client,phase=command} 1",
    );
    let upstream = server.address();
    let line = format!("cluster=mysql upstream={upstream} causes=\"1: the server resolves the client's name");
    diff.finish_with_log_lines(&[&line]);
}

/// The connection is not inspected, but its bytes are counted for its cluster.
#[test]
fn a_connection_that_is_configured_as_opaque_is_only_counted() {
    let server = Server::start();
    for configuration in [json!({"mode": "off"}), json!({"defaults": {"protocol": "opaque"}})] {
        let envoy = Envoy::start(configured(server.address(), configuration));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        diff.expect(
            "connections_active{protocol=opaque} 1
             connections_total{protocol=opaque} 1
             opaque_total{reason=configured} 1",
        );
        pair.play(&chunks(HTTP));
        diff.expect(&bytes(HTTP));
        pair.close();
        diff.expect(
            "connections_active{protocol=opaque} -1
             connections_closed_total{closed_by=client,phase=opaque} 1",
        );
        diff.finish();
    }
}
