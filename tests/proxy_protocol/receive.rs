//! Headers from clients, between scripted peers.

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, PLAIN, add_plain_listener};
use crate::headers::{
    V1, V2, assert_counted, believed, envoy, metric, off, options, refusals, response, stranger,
};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};

fn receive(mode: &str, trusted: &Value, untrusted: &str) -> Value {
    json!({"mode": mode, "trusted_networks": trusted, "untrusted": untrusted, "timeout_ms": 60_000})
}

/// What the server gets of first bytes, after it has greeted; none: the connection is closed and it gets nothing.
#[test]
fn every_case_as_the_server_sees_it() {
    let none: &[u8] = b"";
    let bad = b"PROXY TCP4 192.0.2.1 192.0.2.2 01 3306\r\n".as_slice();
    for (mode, trusted, untrusted, cases) in [
        ("optional", believed(), "close", [(V1, true), (V2, true), (none, true), (bad, false)]),
        ("required", believed(), "close", [(V1, true), (V2, true), (none, false), (bad, false)]),
        ("optional", stranger(), "close", [(V1, false), (V2, false), (none, true), (bad, false)]),
        ("required", stranger(), "close", [(V1, false), (V2, false), (none, false), (bad, false)]),
        ("optional", stranger(), "strip", [(V1, true), (V2, true), (none, true), (bad, false)]),
        ("required", stranger(), "strip", [(V1, true), (V2, true), (none, false), (bad, false)]),
    ] {
        let server = Server::start();
        let envoy = envoy(server.address(), &receive(mode, &trusted, untrusted), &off());
        let is_trusted = trusted == believed();
        let mut counted = std::collections::BTreeMap::<String, u32>::new();
        for (header, passes) in cases {
            let response = response();
            let all = [header, &response].concat();
            for cut in [0, 1, 5, header.len(), header.len() + 1] {
                let mut client = Peer::connect(envoy.listener_addr(MYSQL));
                let mut peer = server.accept();
                peer.send(&greeting());
                client.expect(&greeting());
                client.send(&all[..cut]);
                client.send(&all[cut..]);
                if passes {
                    peer.expect(&response);
                    client.finish();
                    peer.assert_finished();
                    peer.finish();
                    client.assert_finished();
                } else {
                    let (got, _) = client.rest();
                    assert!(got.is_empty());
                    let (got, _) = peer.rest();
                    assert!(got.is_empty(), "{mode} {}: the server got {got:02x?}", header.escape_ascii());
                }
            }
            let format = if header.is_empty() {
                "none"
            } else if header == V2 {
                "v2"
            } else {
                "v1"
            };
            let result = match (header.is_empty(), is_trusted) {
                (true, _) => "missing",
                (false, true) if header == bad => "malformed",
                (false, true) => "stripped",
                (false, false) if header == bad && untrusted == "strip" => "malformed",
                (false, false) => "untrusted",
            };
            if !(header.is_empty() && passes) {
                *counted.entry(format!("received {format} {result}")).or_default() += 5;
            }
        }
        let lines: Vec<_> = counted.iter().map(|(line, count)| format!("{line} {count}")).collect();
        assert_counted(&envoy, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let passed = cases.iter().filter(|(_, passes)| *passes).count() as f64 * 5.0;
        let bytes = response().len() as f64;
        assert_eq!(
            metric(&envoy, "bytes_total", &[("sender", "client")]),
            passed * bytes,
            "headers left out"
        );
        assert_eq!(refusals(&envoy).len(), cases.iter().filter(|(_, passes)| !passes).count() * 5);
    }
}

/// What is refused is named, with the peer and where it went, and nothing else that the peer sent.
#[test]
fn a_refusal_is_named_in_one_line() {
    let server = Server::start();
    let envoy = envoy(server.address(), &receive("optional", &believed(), "close"), &off());
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\nxyzzy");
    client.rest();
    assert_counted(&envoy, &["received v1 malformed 1"]);
    let log = refusals(&envoy);
    let [line] = log.as_slice() else { panic!("{log:?}") };
    let start = "event=proxy_protocol_refused result=malformed format=v1 why=\"v1 header, byte 21: expected the \
                 destination address, found a field of 11 bytes\" peer=127.0.0.1:";
    assert!(line.starts_with(start), "{line}");
    assert!(line.contains(" direction=unspecified destination=127.0.0.1:"), "{line}");
    assert!(!envoy.log().contains("xyzzy") && !envoy.log().contains("192.0.2.256"));
}

/// A header in front of the greeting, alone: nothing is left of it, and the session behind it is followed.
#[test]
fn a_header_at_once() {
    let server = firstword_testing::mariadb::MariaDb::start(&[]);
    let envoy = envoy(server.addr(), &receive("required", &believed(), "close"), &off());
    use firstword_testing::mariadb::{PASSWORD, USER};
    let login = Login::new(CLASSIC).user(USER, PASSWORD);
    for header in [V1, V2] {
        let mut client = Client::connect(envoy.listener_addr(MYSQL));
        client.send(header);
        let mut client = client.log_in(&login).expect("a login");
        client.query("SELECT 1").expect("a result");
        client.quit();
    }
    assert_counted(&envoy, &["received v1 stripped 1", "received v2 stripped 1"]);
    assert_eq!(metric(&envoy, "commands_total", &[("command", "query")]), 2.0);
    assert_eq!(metric(&envoy, "handshakes_total", &[("result", "ok")]), 2.0);
    assert_eq!(metric(&envoy, "opaque_total", &[]), 0.0);
}

/// A connection without a header pays no wait on an optional port. Whatever waited would wait for a minute, and nobody
/// here does; how long the greeting takes beside plain tcp_proxy is printed.
#[test]
fn an_optional_port_waits_for_nobody() {
    let server = Server::start();
    let options = options(server.address(), &receive("optional", &believed(), "close"), &off());
    let envoy = Envoy::start(options.edit(add_plain_listener));
    let mut medians = Vec::new();
    for listener in [PLAIN, MYSQL] {
        let address = envoy.listener_addr(listener);
        let mut times: Vec<_> = (0..40)
            .map(|_| {
                let begin = std::time::Instant::now();
                let mut client = Peer::connect(address);
                let mut peer = server.accept();
                peer.send(&greeting());
                client.expect(&greeting());
                begin.elapsed()
            })
            .collect();
        times.sort();
        medians.push(times[times.len() / 2]);
    }
    println!("greeting, median: plain {:?}, optional {:?}", medians[0], medians[1]);
    assert_counted(&envoy, &[]);
}
