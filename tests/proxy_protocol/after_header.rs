//! `connect_upstream: after_header`: no client reaches the server without a header.

use std::thread;

use serde_json::{Value, json};

use crate::bootstrap::MYSQL;
use crate::counter_diff::wait_for_flushes;
use crate::headers::{
    V1, V2, assert_counted, envoy, metric, off, options, refusals, trusted_networks, with_early_data,
};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Ending, Peer, Server};

fn after_header(timeout: &str) -> Value {
    json!({"mode": "required", "connect_upstream": "after_header", "trusted_networks": trusted_networks(), "timeout": timeout})
}

#[test]
fn envoy_connects_to_the_server_after_the_header() {
    for (header, format) in [(V1, "v1"), (V2, "v2")] {
        let server = Server::start();
        let envoy = Envoy::start(with_early_data(options(server.address(), &after_header("60s"), &off())));
        // Whole, cut, and in one piece with the bytes after it.
        for (cut, after) in [(0, b"".as_slice()), (9, b""), (3, b"\x03\0\0\x01abc")] {
            let mut client = Peer::connect(envoy.listener_addr(MYSQL));
            client.send(&header[..cut]);
            wait_for_flushes(&envoy);
            client.send(&[&header[cut..], after].concat());
            let mut peer = server.accept();
            peer.send(&greeting());
            client.expect(&greeting());
            client.send(b"\0\0\0\x03");
            peer.expect(&[after, b"\0\0\0\x03"].concat());
            client.finish();
            peer.assert_finished();
            peer.finish();
            client.assert_finished();
        }
        assert_counted(&envoy, &[&format!("received {format} stripped 3")]);
        // No third greeting, because bytes of another protocol came before it.
        assert_eq!(metric(&envoy, "greetings_total", &[]), 2.0);
        assert_eq!(refusals(&envoy), [""; 0]);
    }
}

/// Health probes of load balancers connect and close, in several ways.
#[test]
fn health_probes_never_reach_the_server() {
    // A single probe that reached the server would block the host.
    let server = MariaDb::start(&["--max-connect-errors=1"]);
    let envoy = Envoy::start(with_early_data(options(server.addr(), &after_header("60s"), &off())));
    let address = envoy.listener_addr(MYSQL);
    let before = server.statuses(&["Connections", "Aborted_connects", "Aborted_clients"]);
    let login = Login::new(CLASSIC).user(USER, PASSWORD);
    thread::scope(|scope| {
        for kind in 0..4 {
            scope.spawn(move || {
                for _ in 0..50 {
                    let mut probe = Peer::connect(address);
                    match kind {
                        0 => drop(probe),
                        1 => probe.reset(),
                        2 => {
                            probe.finish();
                            assert!(probe.rest().0.is_empty());
                        }
                        _ => {
                            // Stay open for several ticks.
                            thread::sleep(std::time::Duration::from_millis(30));
                            drop(probe);
                        }
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut client = Client::connect(address);
                    client.send(V1);
                    let mut client = client.log_in(&login).expect("a login during the probes");
                    client.query("SELECT 1").expect("a result");
                    client.quit();
                }
            });
        }
    });
    assert_counted(&envoy, &["received v1 stripped 20"]);
    let after = server.statuses(&["Connections", "Aborted_connects", "Aborted_clients"]);
    assert_eq!(after["Connections"] - before["Connections"], 20, "none of the 200 probes");
    for name in ["Aborted_connects", "Aborted_clients"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    let of_phase = |phase| metric(&envoy, "connections_closed_total", &[("phase", phase)]);
    assert_eq!((of_phase("greeting"), of_phase("command")), (200.0, 20.0));
    assert_eq!(refusals(&envoy), [""; 0]);
}

#[test]
fn a_client_without_a_header_is_closed_and_never_reaches_the_server() {
    let server = Server::start();
    let envoy = Envoy::start(with_early_data(options(server.address(), &after_header("300ms"), &off())));
    let mut silent = Peer::connect(envoy.listener_addr(MYSQL));
    let mut partial = Peer::connect(envoy.listener_addr(MYSQL));
    partial.send(&V1[..20]);
    let mut other = Peer::connect(envoy.listener_addr(MYSQL));
    other.send(b"GET / HTTP/1.1\r\n\r\n");
    for peer in [&mut silent, &mut partial, &mut other] {
        assert!(peer.rest().0.is_empty());
    }
    assert_counted(&envoy, &["received none missing 1", "received none timeout 2"]);
    assert_eq!(envoy.stats("cluster.mysql.upstream_cx_total")["cluster.mysql.upstream_cx_total"], 0);
    let log = refusals(&envoy).join("\n");
    assert_eq!(log.lines().count(), 3, "{log}");
    for part in [
        "result=timeout format=none why=\"0 bytes of a header within receive.timeout; with connect_upstream after_header \
         Envoy reads none unless tcp_proxy has max_early_data_bytes",
        "result=timeout format=v1 why=\"20 bytes of a header within receive.timeout;",
        "result=missing format=none why=\"the first bytes are no header\" peer=127.0.0.1:",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
}

/// Without `max_early_data_bytes`, Envoy never reads, not even the client's FIN, so the filter must close the connection.
#[test]
fn connections_end_also_without_early_data() {
    let server = Server::start();
    let envoy = envoy(server.address(), &after_header("300ms"), &off());
    let address = envoy.listener_addr(MYSQL);
    let mut with_header = Peer::connect(address);
    with_header.send(V1);
    let mut silent = Peer::connect(address);
    drop(Peer::connect(address));
    for peer in [&mut with_header, &mut silent] {
        let (bytes, ending) = peer.rest();
        assert!(bytes.is_empty() && matches!(ending, Ending::Finished | Ending::Reset));
    }
    assert_counted(&envoy, &["received none timeout 3"]);
    assert!(refusals(&envoy)[0].contains("max_early_data_bytes"));
    let left = envoy.stats("^listener\\.127.*downstream_cx_active|^tcp\\..*downstream_cx_active");
    assert_eq!(left.values().sum::<u64>(), 0, "{left:?}");
    assert_eq!(metric(&envoy, "connections_active", &[]), 0.0);
}
