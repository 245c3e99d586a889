//! Sending headers to servers, between scripted peers.

use serde_json::{Value, json};

use crate::bootstrap::MYSQL;
use crate::headers::{
    V1, V2, assert_counted, envoy, off, options, other_networks, response, trusted_networks, with_early_data,
};
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};

fn send(version: u8, when: &str) -> Value {
    json!({"mode": "with_first_client_bytes", "version": version, "when": when})
}

fn optional(trusted: &Value) -> Value {
    json!({"mode": "optional", "trusted_networks": trusted, "on_untrusted_header": "strip"})
}

/// The header before the client's first bytes: none, with the received addresses, or with the connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Received,
    Connection,
}

#[test]
fn the_server_receives_the_addresses_as_documented() {
    let none: &[u8] = b"";
    let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (receive, when, header, sent) in [
        (off(), "always", none, Sent::Connection),
        (optional(&trusted_networks()), "always", none, Sent::Connection),
        (optional(&trusted_networks()), "always", V1, Sent::Received),
        (optional(&trusted_networks()), "always", V2, Sent::Received),
        (optional(&trusted_networks()), "always", local, Sent::Connection),
        (optional(&trusted_networks()), "not_received", V1, Sent::Nothing),
        (optional(&trusted_networks()), "not_received", none, Sent::Connection),
        (optional(&other_networks()), "always", V1, Sent::Connection),
        (optional(&other_networks()), "not_received", V1, Sent::Connection),
    ] {
        // Test both versions once with received addresses and once with the connection's. For the others, one is enough.
        let both = receive == off() || header == V2;
        for version in if both { vec![1, 2] } else { vec![1] } {
            let server = Server::start();
            let envoy = envoy(server.address(), &receive, &send(version, when));
            let address = envoy.listener_addr(MYSQL);
            for at_once in [true, false] {
                let mut client = Peer::connect(address);
                let from = client.local_addr();
                let mut peer = server.accept();
                if at_once {
                    client.send(header);
                }
                peer.send(&greeting());
                client.expect(&greeting());
                let response = response();
                client.send(&if at_once { response.clone() } else { [header, &response].concat() });
                let connection =
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), address.port());
                let binary = [
                    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".as_slice(),
                    &from.port().to_be_bytes(),
                    &address.port().to_be_bytes(),
                ]
                .concat();
                let expected = match (sent, version) {
                    (Sent::Nothing, _) => Vec::new(),
                    (Sent::Received, 1) => V1.to_vec(),
                    (Sent::Received, _) => V2.to_vec(),
                    (Sent::Connection, 1) => connection.into_bytes(),
                    (Sent::Connection, _) => binary,
                };
                peer.expect_in_one_read(&[expected, response].concat());
                client.send(b"\0\0\0\x03");
                peer.expect(b"\0\0\0\x03");
            }
            let received_line = match header {
                b"" => None,
                _ if receive == optional(&trusted_networks()) => {
                    Some(format!("received {} stripped 2", if header == V1 { "v1" } else { "v2" }))
                }
                _ => Some("received v1 untrusted 2".to_owned()),
            };
            let sent_line = (sent != Sent::Nothing).then(|| format!("sent v{version} 2"));
            let lines: Vec<_> = received_line.into_iter().chain(sent_line).collect();
            assert_counted(&envoy, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}

/// With `after_header` and `send`, the filter sends the received address with the client's first bytes.
#[test]
fn after_header_and_send_work_together() {
    let server = Server::start();
    let receive = json!({"mode": "required", "connect_upstream": "after_header", "trusted_networks": trusted_networks()});
    let envoy = Envoy::start(with_early_data(options(server.address(), &receive, &send(1, "always"))));
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    client.send(V2);
    let mut peer = server.accept();
    peer.send(&greeting());
    client.expect(&greeting());
    client.send(b"\x03\0\0\x01abc");
    peer.expect_in_one_read(&[V1, b"\x03\0\0\x01abc"].concat());
    assert_counted(&envoy, &["received v2 stripped 1", "sent v1 1"]);
}

/// A server that waits for the header before its greeting: the filter cannot send to it yet, and logs this as a cause.
#[test]
fn a_server_that_waits_for_the_header_is_logged_as_the_cause() {
    let server = Server::start();
    let rule = json!({
        "name": "orders", "protocol": "mysql", "greeting_timeout": "500ms",
        "proxy_protocol": {"send": {"mode": "with_first_client_bytes"}},
    });
    let envoy = Envoy::start(crate::bootstrap::configured(server.address(), json!({"rules": [rule]})));
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    let peer = server.accept();
    envoy.wait_metric("firstword_greeting_timeouts_total", &[("destination", "orders")], 1.0);
    envoy.wait_log("causes=\"1: the server waits for the PROXY header");
    assert_counted(&envoy, &[]);
    client.finish();
    drop(peer);
}
