//! Receiving headers from clients, between scripted peers.

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, PLAIN, add_plain_listener};
use crate::headers::{
    V1, V2, assert_counted, envoy, metric, off, options, other_networks, refusals, response, trusted_networks,
};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};

fn receive(mode: &str, trusted: &Value, untrusted: &str) -> Value {
    json!({"mode": mode, "trusted_networks": trusted, "on_untrusted_header": untrusted, "timeout": "60s"})
}

/// Each header is cut at several bytes. The server receives only the handshake response, or no byte if the filter closes.
#[test]
fn each_mode_strips_or_refuses_headers_as_documented() {
    let none: &[u8] = b"";
    let bad = b"PROXY TCP4 192.0.2.1 192.0.2.2 01 3306\r\n".as_slice();
    for (mode, trusted, untrusted, cases) in [
        ("optional", trusted_networks(), "close", [(V1, true), (V2, true), (none, true), (bad, false)]),
        ("required", trusted_networks(), "close", [(V1, true), (V2, true), (none, false), (bad, false)]),
        ("optional", other_networks(), "close", [(V1, false), (V2, false), (none, true), (bad, false)]),
        ("required", other_networks(), "close", [(V1, false), (V2, false), (none, false), (bad, false)]),
        ("optional", other_networks(), "strip", [(V1, true), (V2, true), (none, true), (bad, false)]),
        ("required", other_networks(), "strip", [(V1, true), (V2, true), (none, false), (bad, false)]),
    ] {
        let server = Server::start();
        let envoy = envoy(server.address(), &receive(mode, &trusted, untrusted), &off());
        let is_trusted = trusted == trusted_networks();
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for (header, is_forwarded) in cases {
            for cut in [0, 1, 5, header.len(), header.len() + 1] {
                assert_forwarded(&envoy, &server, header, cut, is_forwarded);
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
            if !(header.is_empty() && is_forwarded) {
                *counts.entry(format!("received {format} {result}")).or_default() += 5;
            }
        }
        let lines: Vec<_> = counts.iter().map(|(line, count)| format!("{line} {count}")).collect();
        assert_counted(&envoy, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let forwarded = cases.iter().filter(|(_, is_forwarded)| *is_forwarded).count() as f64 * 5.0;
        let client_bytes = metric(&envoy, "bytes_total", &[("sender", "client")]);
        assert_eq!(client_bytes, forwarded * response().len() as f64, "bytes without headers");
        assert_eq!(
            refusals(&envoy).len(),
            cases.iter().filter(|(_, is_forwarded)| !is_forwarded).count() * 5
        );
    }
}

/// Sends a header and a handshake response, cut at this byte. Asserts that only the response reaches the server, or that no
/// byte reaches either side.
fn assert_forwarded(envoy: &Envoy, server: &Server, header: &[u8], cut: usize, is_forwarded: bool) {
    let response = response();
    let all = [header, &response].concat();
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    let mut peer = server.accept();
    peer.send(&greeting());
    client.expect(&greeting());
    client.send(&all[..cut]);
    client.send(&all[cut..]);
    if is_forwarded {
        peer.expect(&response);
        client.finish();
        peer.assert_finished();
        peer.finish();
        client.assert_finished();
    } else {
        let (to_client, _) = client.rest();
        assert!(to_client.is_empty());
        let (to_server, _) = peer.rest();
        assert!(to_server.is_empty(), "{} cut at {cut}: {to_server:02x?}", header.escape_ascii());
    }
}

/// The log line names the error, the peer and the destination, and contains no other byte from the peer.
#[test]
fn a_refused_header_is_logged_in_one_line() {
    let server = Server::start();
    let envoy = envoy(server.address(), &receive("optional", &trusted_networks(), "close"), &off());
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

/// A header that arrives alone before the greeting is stripped completely, and the session is inspected.
#[test]
fn a_header_before_the_greeting_is_stripped() {
    let server = firstword_testing::mariadb::MariaDb::start(&[]);
    let envoy = envoy(server.addr(), &receive("required", &trusted_networks(), "close"), &off());
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

/// Without a header, a connection to an optional port does not wait, because any wait would last a minute. The test prints
/// the time to the greeting, compared with `tcp_proxy`.
#[test]
fn a_client_without_a_header_does_not_wait_on_an_optional_port() {
    let server = Server::start();
    let options = options(server.address(), &receive("optional", &trusted_networks(), "close"), &off());
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
