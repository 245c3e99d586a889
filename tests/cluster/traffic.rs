//! Commands whose number is known, and the counts that Prometheus gets from a proxy.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use crate::lab::pod::Pod;
use crate::mesh::Mesh;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::namespace::Namespace;
use firstword_testing::wait_for;

pub const CONNECTIONS: u32 = 7;
const QUERIES: u32 = 3;
/// Maximum time until the counts are exported.
const METRICS: Duration = Duration::from_secs(20);
/// More than the interval in which a module exports its counts.
const EXPORT: Duration = Duration::from_secs(2);

/// Opens a connection to a database, and logs in.
pub type LogIn<'l> = &'l (dyn Fn() -> Client + Sync);

/// Logs in to a database from a namespace, runs queries, of which one fails, and quits.
pub fn run(from: &Namespace, to: SocketAddr) {
    run_by(from, &|| Client::login(to, &Login::new(CLASSIC)));
}

fn run_by(from: &Namespace, log_in: LogIn<'_>) {
    from.enter(|| {
        for connection in 0..CONNECTIONS {
            let mut client = log_in();
            for _ in 0..QUERIES {
                client.query("SELECT 20+22").expect("a result");
            }
            if connection == 0 {
                client.query("SELECT * FROM demo.none").expect_errno(1146);
            }
            client.quit();
        }
    });
}

/// Runs the traffic, and asserts that the proxy of a pod counts exactly it, with these labels.
pub fn assert_counted(
    mesh: &Mesh<'_>,
    proxy: &Pod,
    from: &Namespace,
    to: SocketAddr,
    labels: &[(&str, &str)],
) {
    assert_counted_by(mesh, proxy, from, &|| Client::login(to, &Login::new(CLASSIC)), labels);
}

/// As [`assert_counted`], for clients that log in so.
pub fn assert_counted_by(
    mesh: &Mesh<'_>,
    proxy: &Pod,
    from: &Namespace,
    log_in: LogIn<'_>,
    labels: &[(&str, &str)],
) {
    let queries = f64::from(CONNECTIONS * QUERIES + 1);
    let connections = f64::from(CONNECTIONS);
    let expected: [(&str, &[_], f64); 6] = [
        ("connections_total", &[("protocol", "mysql")], connections),
        ("handshakes_total", &[("result", "ok")], connections),
        ("commands_total", &[("command", "query")], queries),
        ("errors_total", &[("errno", "1146")], 1.0),
        ("rows_total", &[], queries - 1.0),
        ("commands_total", &[("command", "quit")], connections),
    ];
    let counts = || {
        let metrics = mesh.metrics(proxy);
        expected.map(|(name, more, _)| {
            metrics.get(&format!("firstword_{name}"), &[labels, more].concat()).unwrap_or_default()
        })
    };
    // Connections that ended just before may not be exported yet.
    let before = wait_for("counts that no longer change", METRICS, || {
        let before = counts();
        sleep(EXPORT);
        (counts() == before).then_some(before)
    });
    run_by(from, log_in);
    let counted = || -> [f64; 6] {
        let now = counts();
        std::array::from_fn(|index| now[index] - before[index])
    };
    wait_for("the last connection in the metrics", METRICS, || (counted()[5] == connections).then_some(()));
    assert_eq!(counted(), expected.map(|(_, _, count)| count), "{}: {expected:?}", proxy.name);
}
