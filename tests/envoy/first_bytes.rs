//! Whoever speaks first, and whatever it says, passes; what the filter made of it is counted.

use bytes::Bytes;
use firstword::event::Sender::{self, Client, Server as Upstream};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured};
use crate::counted::LOGIN;
use crate::ledger::Ledger;
use crate::traffic::{Pair, login};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;

type Said = &'static [(Sender, &'static [u8])];

const HTTP: Said = &[
    (Client, b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n"),
    (Upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    (Client, b"GET /more HTTP/1.1\r\nHost: shop\r\n\r\n"),
];
/// A ClientHello's first bytes, and an alert in answer.
const TLS: Said =
    &[(Client, b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"), (Upstream, b"\x15\x03\x03\x00\x02\x02\x28")];
const SMTP: Said = &[
    (Upstream, b"220 mail.example.org ESMTP\r\n"),
    (Client, b"EHLO client\r\n"),
    (Upstream, b"250 mail.example.org\r\n"),
];
const PROXY_V1: Said =
    &[(Client, b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 3306\r\n"), (Upstream, b"\x4a\0\0\0\x0a8.0.36\0")];
const PROXY_V2: Said =
    &[(Client, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), (Client, b"\xc0\0\x02\x01\xc0\0\x02\x02")];
const MYSQL_X: Said = &[(Upstream, b"\x05\0\0\0\x0b\x08\x05\x1a\0"), (Client, b"\x01\0\0\0\x01")];
const MYSQL_X_CLIENT: Said = &[(Client, b"\x01\0\0\0\x01"), (Upstream, b"\x05\0\0\0\x02")];
const REDIS: Said = &[(Client, b"*1\r\n$4\r\nPING\r\n"), (Upstream, b"+PONG\r\n")];

/// What is said, and what it counts besides the bytes.
const CASES: [(&str, Said, &str); 8] = [
    (
        "HTTP",
        HTTP,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=http} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "TLS",
        TLS,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=tls} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "SMTP",
        SMTP,
        "connections_total{protocol=server_first} 1
         server_first_detected_total{protocol=smtp} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "PROXY protocol, version 1",
        PROXY_V1,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=proxy_v1} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "PROXY protocol, version 2",
        PROXY_V2,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=proxy_v2} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "X Protocol, a notice first",
        MYSQL_X,
        "connections_total{protocol=server_first} 1
         server_first_detected_total{protocol=other} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "X Protocol, the client first",
        MYSQL_X_CLIENT,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=mysqlx} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
    (
        "Redis",
        REDIS,
        "connections_total{protocol=client_first} 1
         client_first_total{seen=other} 1
         opaque_total{reason=not_mysql} 1
         connections_closed_total{by=client,phase=opaque} 1",
    ),
];

fn chunks(said: Said) -> Vec<(Sender, Bytes)> {
    said.iter().map(|(sender, bytes)| (*sender, Bytes::from_static(bytes))).collect()
}

fn bytes(said: Said) -> String {
    let sum = |sender| said.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum();
    let lines: [(&str, usize); 2] = [("client", sum(Client)), ("server", sum(Upstream))];
    let counted = lines.iter().filter(|(_, count)| *count > 0);
    counted.map(|(sender, count)| format!("bytes_total{{sender={sender}}} {count}\n")).collect()
}

/// Whatever a rule expects, the first bytes decide.
#[test]
fn other_protocols_pass_untouched_and_are_told_apart() {
    let undeclared = "event=server_first_undeclared direction=unspecified destination=127.0.0.1:";
    for (expected, logged) in [("detect", &[][..]), ("mysql", &[undeclared][..])] {
        let server = Server::start();
        let configuration = json!({"defaults": {"protocol": expected}});
        let envoy = Envoy::start(configured(server.address(), configuration));
        let address = envoy.listener_addr(MYSQL);
        let mut ledger = Ledger::new(&envoy, MYSQL);
        for (name, said, counted) in CASES {
            println!("{name}, where {expected} is expected");
            let mut pair = Pair::open(address, &server);
            pair.play(&chunks(said));
            pair.close();
            ledger.expect(&format!("{}{counted}", bytes(said)));
        }
        ledger.finish_having_logged(logged);
    }
}

/// A connection on which nobody speaks is there before it is known what it carries.
#[test]
fn silence_is_counted_while_it_lasts() {
    let server = Server::start();
    for (configuration, protocol) in [
        (json!({}), "unknown"),
        (json!({"defaults": {"protocol": "mysql"}}), "mysql"),
        (json!({"defaults": {"protocol": "server_first"}}), "server_first"),
    ] {
        let envoy = Envoy::start(configured(server.address(), configuration));
        let mut ledger = Ledger::new(&envoy, MYSQL);
        let pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        ledger.expect(&format!("connections_active{{protocol={protocol}}} 1"));
        ledger.rest();
        pair.close();
        ledger.expect(&format!(
            "connections_active{{protocol={protocol}}} -1
             connections_total{{protocol={protocol}}} 1
             connections_closed_total{{by=client,phase=greeting}} 1"
        ));
        ledger.finish();
    }
}

/// Silence that ends: the connection moves to what it turned out to be.
#[test]
fn silence_that_ends_is_counted_once() {
    let server = Server::start();
    let configuration = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), configuration));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    ledger.expect("connections_active{protocol=mysql} 1");
    pair.play(&chunks(SMTP));
    ledger.expect(&format!(
        "connections_active{{protocol=mysql}} -1
         connections_active{{protocol=server_first}} 1
         connections_total{{protocol=server_first}} 1
         server_first_detected_total{{protocol=smtp}} 1
         opaque_total{{reason=not_mysql}} 1
         {}",
        bytes(SMTP)
    ));
    pair.close();
    ledger.expect(
        "connections_active{protocol=server_first} -1
         connections_closed_total{by=client,phase=opaque} 1",
    );
    ledger.finish_having_logged(&["seen=smtp expected=mysql"]);
}

/// A server that says nothing for too long is counted once and logged once with the causes, and the connection is none
/// the worse for it.
#[test]
fn a_silent_server_is_told_of_and_its_connection_goes_on() {
    let server = Server::start();
    let configuration = json!({"defaults": {"protocol": "mysql", "greeting_timeout_ms": 1000}});
    let envoy = Envoy::start(configured(server.address(), configuration));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    ledger.expect(
        "connections_active{protocol=mysql} 1
         greeting_timeouts_total 1",
    );
    ledger.rest();
    pair.play(&login());
    ledger.expect(LOGIN);
    pair.close();
    ledger.expect(
        "connections_active{protocol=mysql} -1
         connections_closed_total{by=client,phase=command} 1",
    );
    let upstream = server.address();
    let line = format!("cluster=mysql upstream={upstream} causes=\"1: the server resolves the client's name");
    ledger.finish_having_logged(&[&line]);
}

/// Not looked at, but counted, under its cluster.
#[test]
fn what_configuration_says_not_to_look_at() {
    let server = Server::start();
    for configuration in [json!({"mode": "off"}), json!({"defaults": {"protocol": "opaque"}})] {
        let envoy = Envoy::start(configured(server.address(), configuration));
        let mut ledger = Ledger::new(&envoy, MYSQL);
        let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        ledger.expect(
            "connections_active{protocol=opaque} 1
             connections_total{protocol=opaque} 1
             opaque_total{reason=configured} 1",
        );
        pair.play(&chunks(HTTP));
        ledger.expect(&bytes(HTTP));
        pair.close();
        ledger.expect(
            "connections_active{protocol=opaque} -1
             connections_closed_total{by=client,phase=opaque} 1",
        );
        ledger.finish();
    }
}
