//! Runs the rows of the decision table, each delivered to real proxies, and doctor's verdict on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dumps;
use crate::fixes;
use crate::lab::pod::{MYSQL_PORT, Pod};
use crate::lab::world::{DATABASE_PORT, NEIGHBOUR, SECOND, outside};
use crate::mesh::Mesh;
use crate::outcome::{Outcome, Probe, http, in_words};
use crate::report::Report;
use crate::rows::{Client, ROWS, Row};
use firstword_testing::probe::addresses;
use firstword_testing::wait_for;

pub const STEP: &str = "table";

/// Maximum time until a metric has its value.
const METRICS: Duration = Duration::from_secs(20);
/// Rows in which the fixes that doctor prints for the first client are applied.
const FIXED: [&str; 4] = ["A1", "D0", "I0", "G0"];
/// The header of a load balancer.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let only = std::env::var("ROWS").unwrap_or_default();
    let only: Vec<_> = only.split(',').filter(|name| !name.is_empty()).collect();
    let mut failures = Vec::new();
    for row in ROWS.iter().filter(|row| only.is_empty() || only.contains(&row.name)) {
        let run = std::panic::AssertUnwindSafe(|| run_row(mesh, row));
        match std::panic::catch_unwind(run) {
            Ok(observed) => report.add(STEP, format!("{}: {}", row.name, row.what), observed),
            Err(panic) => failures.push(format!("{}: {}", row.name, crate::message(&*panic))),
        }
        mesh.reset();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run_row(mesh: &Mesh<'_>, row: &Row) -> String {
    eprintln!("  {}", row.name);
    mesh.configure(row.mesh_config);
    if !row.workloads.is_empty() {
        mesh.replace(row.workloads);
    }
    if !row.resources.is_empty() {
        mesh.lab.kubectl.apply(&mesh.with_digest(row.resources));
    }
    mesh.apply(row.apply);
    let pods = Pods::of(mesh, row);
    for pod in pods.all() {
        mesh.settle(pod);
    }
    let counted = row.counted.map(|(pod, destination)| (pods.by_name(pod), destination));
    let count = |(pod, destination): (&Pod, &str)| {
        let labels = [("protocol", "mysql"), ("destination", destination)];
        mesh.metrics(pod).get("firstword_connections_total", &labels).unwrap_or(0.0)
    };
    let before = counted.map(|of| {
        mesh.wait_for_module(of.0);
        count(of)
    });
    if let Some(expected) = row.http {
        assert_eq!(http(mesh, &pods.app), expected, "the HTTP Service");
    }
    let mut greeted = 0;
    let mut observed = Vec::new();
    for (client, expected) in row.clients {
        greeted += pods.probe(mesh, *client).expect(*expected);
        observed.push(format!("{}: {expected}", client.in_words()));
    }
    if row.sends_header {
        let (known, own) = addresses(&pods.app.network, outside());
        assert_eq!(known, own, "the address that the server knows");
        observed.push("the server sees the client's own address and port".into());
    }
    if let (Some(of), Some(before)) = (counted, before) {
        let expected = before + f64::from(greeted);
        wait_for("count of each connection", METRICS, || (count(of) == expected).then_some(()));
        observed.push("each connection counted".into());
    }
    pods.assert_diagnosed(mesh, row);
    dumps::keep(row.name, &pods.app);
    if FIXED.contains(&row.name) {
        let (client, _) = row.clients[0];
        let (pod, _) = pods.destination(mesh, client);
        let outcomes = fixes::try_each(mesh, pod, &pods.all().collect::<Vec<_>>(), pods.probe(mesh, client));
        assert!(!outcomes.is_empty(), "doctor printed no fix");
        let outcomes: Vec<_> = outcomes.iter().map(ToString::to_string).collect();
        observed.push(format!("with each fix that doctor prints: {}", outcomes.join(", ")));
    }
    if let Some(http) = row.http {
        observed.push(format!("HTTP Service: {}", in_words(http)));
    }
    observed.join("; ")
}

/// The pods of a row.
struct Pods {
    app: Arc<Pod>,
    mysql: Arc<Pod>,
    gateway: Option<Arc<Pod>>,
}

impl Pods {
    fn of(mesh: &Mesh<'_>, row: &Row) -> Self {
        let has_gateway =
            |(client, _): &(Client, Outcome)| matches!(client, Client::Gateway | Client::GatewayHeader);
        Self {
            app: mesh.app(),
            mysql: mesh.lab.pod("db", "mysql"),
            gateway: row.clients.iter().any(has_gateway).then(|| mesh.lab.pod("istio-system", "gateway")),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pod> {
        [Some(&self.app), Some(&self.mysql), self.gateway.as_ref()].into_iter().flatten().map(|pod| &**pod)
    }

    fn by_name(&self, name: &str) -> &Pod {
        match name {
            "app" => &self.app,
            "mysql" => &self.mysql,
            _ => self.gateway.as_deref().expect("the gateway"),
        }
    }

    /// The proxy under test, and the destination of the client's connections.
    fn destination(&self, mesh: &Mesh<'_>, client: Client) -> (&Pod, SocketAddr) {
        let gateway = || self.gateway.as_deref().expect("the gateway");
        match client {
            Client::Outside => (&self.app, outside()),
            Client::Second => (&self.app, (SECOND, DATABASE_PORT).into()),
            Client::Neighbour => (&self.app, (NEIGHBOUR, DATABASE_PORT).into()),
            Client::Service => (&self.app, mesh.service("db", "mysql")),
            Client::Plain | Client::Header => (&self.mysql, (self.mysql.address, MYSQL_PORT).into()),
            Client::Gateway | Client::GatewayHeader => (gateway(), (gateway().address, MYSQL_PORT).into()),
        }
    }

    fn probe<'p>(&'p self, mesh: &'p Mesh<'_>, client: Client) -> Probe<'p> {
        let (pod, to) = self.destination(mesh, client);
        let is_inside =
            matches!(client, Client::Outside | Client::Second | Client::Neighbour | Client::Service);
        let from = if is_inside { &pod.network } else { &mesh.lab.world.namespace };
        let first = if matches!(client, Client::Header | Client::GatewayHeader) { HEADER } else { b"" };
        Probe { from, to, first }
    }

    /// Asserts that doctor predicts the outcome of each kind of client from the proxy's dump.
    fn assert_diagnosed(&self, mesh: &Mesh<'_>, row: &Row) {
        for (client, expected) in row.clients {
            let (pod, to) = self.destination(mesh, *client);
            // A client with a sidecar is the database's, not its own proxy's.
            let kind = if matches!(client, Client::Header | Client::GatewayHeader) {
                "proxy_header"
            } else {
                "silent"
            };
            let verdict = mesh.doctor(pod, to);
            let expected = match expected {
                Outcome::Greeting if row.name == "X1" => "bypass".to_owned(),
                Outcome::Greeting => "greeting".into(),
                Outcome::After(millis) => format!("delayed {millis}"),
                Outcome::Silence => "hang".into(),
                Outcome::Closed(seconds) => format!("closed {}", seconds * 1000),
            };
            assert_eq!(verdict.of(kind), Some(expected), "doctor: {}: {:#}", client.in_words(), verdict.0);
        }
    }
}
