//! Waypoints: the three cases in which they close connections on which the server speaks first, and the fixes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dumps;
use crate::fixes::HangingClients;
use crate::lab::pod::Pod;
use crate::lab::ztunnel::Ztunnel;
use crate::mesh::{ADMIN, DELIVERY, Mesh, annotated};
use crate::outcome::{Outcome, Probe};
use crate::report::Report;
use crate::traffic;
use firstword_testing::probe::{Http, request};
use firstword_testing::wait_for;

pub const STEP: &str = "waypoint";

const AMBIENT: &str = include_str!("resources/ambient.yaml");
const SERVICES: &str = include_str!("resources/ambient-services.yaml");
/// Doctor's verdict and the outcome: Envoy's own time-out for listener filters.
const HANGS: (&str, Outcome) = ("closed 15000", Outcome::Closed(15));

const TRAFFIC_EXTENSION: &str = "scenarios/waypoint/trafficextension.yaml";
const FOR_WORKLOADS: &str = "waypoint-for-workloads";

/// The waypoint, and a client whose connections to Services go through it.
struct Ambient<'m> {
    mesh: &'m Mesh<'m>,
    waypoint: Arc<Pod>,
    client: Arc<Pod>,
    _ztunnel: Ztunnel,
}

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let kubectl = &mesh.lab.kubectl;
    let definitions = crate::lab::program("gateway-api.yaml");
    let file = definitions.to_str().expect("a path");
    kubectl.run(&["apply", "--server-side", "-f", file]);
    kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", "-f", file]);
    mesh.lab.set_istiod(&["PILOT_ENABLE_AMBIENT=true"]);
    kubectl.apply(&annotated(AMBIENT));
    kubectl.apply(SERVICES);
    let (waypoint, client) = (mesh.lab.pod("amb", "waypoint"), mesh.lab.pod("amb", "client"));
    mesh.lab.pod("amb", "mysql");
    mesh.lab.pod("amb", "web");
    let ztunnel = Ztunnel::start(&mesh.lab.world, kubectl, Arc::clone(&client), waypoint.address);
    let ambient = Ambient { mesh, waypoint, client, _ztunnel: ztunnel };
    mesh.settle(&ambient.waypoint);
    let plain = declared(&ambient, report);
    counted(&ambient, report);
    undeclared(&ambient, plain, report);
    mixed(&ambient, plain, report);
    workloads(&ambient, plain, report);
    kubectl.run(&["delete", "namespace", "amb", "--timeout=120s"]);
    mesh.lab.set_istiod(&["PILOT_ENABLE_AMBIENT-"]);
}

impl Ambient<'_> {
    fn probe(&self, service: &str) -> Probe<'_> {
        Probe { from: &self.client.network, to: self.mesh.service("amb", service), first: b"" }
    }

    /// How the HTTP Service is reached.
    fn http(&self) -> Http {
        let to: SocketAddr = self.mesh.service("amb", "web");
        self.client.network.enter(|| request(to, &format!("web.amb:{}", to.port()), Duration::ZERO))
    }

    fn assert_http(&self) {
        assert_eq!(self.http(), Http::Manager, "the HTTP Service");
    }

    fn clients<'a>(
        &'a self,
        service: &str,
        plain: Duration,
        http: &'a dyn Fn() -> Http,
    ) -> HangingClients<'a> {
        HangingClients {
            mesh: self.mesh,
            pod: &self.waypoint,
            probe: self.probe(service),
            hangs: HANGS,
            plain,
            http,
        }
    }

    /// Gives the HTTP Service another port number.
    fn move_web(&self) {
        let port = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 3310}]"#;
        self.mesh.lab.kubectl.run(&["patch", "service", "web", "-n", "amb", "--type=json", "-p", port]);
    }

    /// Restores the Services, and for what the waypoint is.
    fn restore(&self, serves: &str) {
        self.mesh.lab.kubectl.run_with(&["replace", "-f", "-"], SERVICES);
        self.serve(serves);
    }

    /// Sets for what the waypoint is, and waits until it has that.
    fn serve(&self, serves: &str) {
        self.label(serves);
        self.mesh.settle(&self.waypoint);
    }

    fn label(&self, serves: &str) {
        let label = format!("istio.io/waypoint-for={serves}");
        let gateway = ["gateways.gateway.networking.k8s.io", "waypoint", "-n", "amb"];
        self.mesh.lab.kubectl.run(&[["label"].as_slice(), &gateway, &[&label, "--overwrite"]].concat());
    }
}

/// A declared port is never inspected. Returns its median.
fn declared(ambient: &Ambient<'_>, report: &mut Report) -> Duration {
    let probe = ambient.probe("declared");
    probe.expect(Outcome::Greeting);
    let verdict = ambient.mesh.doctor(&ambient.waypoint, probe.to);
    assert_eq!(verdict.of("silent").as_deref(), Some("greeting"), "{:#}", verdict.0);
    ambient.assert_http();
    dumps::keep_waypoint("service", &ambient.waypoint);
    report.add(STEP, "A waypoint for Services, a port declared `tcp`", "greeting");
    probe.median()
}

/// The filter in the waypoint.
fn counted(ambient: &Ambient<'_>, report: &mut Report) {
    let (mesh, waypoint) = (ambient.mesh, &ambient.waypoint);
    // The waypoint of the lab is in another namespace than that of the manifest.
    let extension = mesh.manifest(TRAFFIC_EXTENSION).replace("namespace: db", "namespace: amb");
    mesh.lab.kubectl.apply(&extension);
    mesh.settle(waypoint);
    mesh.wait_for_module(waypoint);
    let to = mesh.service("amb", "declared");
    let labels = [("direction", "inbound"), ("destination", "mysql")];
    traffic::assert_counted(mesh, waypoint, &ambient.client.network, to, &labels);
    let total = || {
        let metrics = mesh.metrics(waypoint);
        metrics.select("firstword_connections_total", &[]).map(|sample| sample.value).sum::<f64>()
    };
    let before = total();
    assert!(before >= f64::from(traffic::CONNECTIONS), "{before}");
    ambient.assert_http();
    traffic::assert_counted(mesh, waypoint, &ambient.client.network, to, &labels);
    assert_eq!(total(), before + f64::from(traffic::CONNECTIONS), "a connection to the HTTP Service counts");
    mesh.lab.kubectl.delete(&extension);
    mesh.settle(waypoint);
    report.add(
        STEP,
        "`waypoint/trafficextension.yaml`, its module pulled by its digest by the waypoint's agent",
        "exact: connections, queries, rows, errors of the TCP Service; none of the HTTP Service",
    );
}

fn undeclared(ambient: &Ambient<'_>, plain: Duration, report: &mut Report) {
    let http = || ambient.http();
    let clients = ambient.clients("undeclared", plain, &http);
    clients.assert_hangs("waypoint-undeclared-port");
    let outcomes = clients.try_fixes("waypoint-undeclared-port", &|| ambient.restore("service"));
    report.add(
        STEP,
        "**A port that declares no protocol**, and is not 3306",
        format!("{}; with each fix that doctor prints: {outcomes}", HANGS.1),
    );
}

fn mixed(ambient: &Ambient<'_>, plain: Duration, report: &mut Report) {
    let http = || ambient.http();
    let clients = ambient.clients("mixed", plain, &http);
    ambient.assert_http();
    let fixes = clients.assert_hangs("waypoint-mixed-port");
    let outcomes = clients.try_fixes("waypoint-mixed-port", &|| ambient.restore("service"));
    report.add(
        STEP,
        "**One port number**, declared `tcp` in one Service and `http` in another",
        format!("{}; with each manifest that doctor prints: {outcomes}", HANGS.1),
    );
    let first = &fixes.first().expect("a fix").what;
    assert!(first.starts_with("Give Service amb/web another port number"), "{first}");
    ambient.move_web();
    ambient.mesh.settle(&ambient.waypoint);
    let outcome = clients.assert_fixed(Outcome::Greeting);
    report.add(STEP, "The same, doctor's advice: another port number for the HTTP Service", outcome);
    ambient.restore("service");
}

/// A waypoint for all destinations, which one workload uses.
fn workloads(ambient: &Ambient<'_>, plain: Duration, report: &mut Report) {
    let http = || ambient.http();
    ambient.serve("all");
    ambient.assert_http();
    dumps::keep_waypoint("all", &ambient.waypoint);
    for (service, what) in
        [("declared", "a port declared `tcp`"), ("mixed", "one port number for MySQL and HTTP")]
    {
        let clients = ambient.clients(service, plain, &http);
        clients.assert_hangs(FOR_WORKLOADS);
        let outcomes = clients.try_fixes(FOR_WORKLOADS, &|| ambient.restore("all"));
        report.add(
            STEP,
            format!("**A workload uses the waypoint** (`waypoint-for: all`), {what}"),
            format!("{}; with each fix that doctor prints: {outcomes}", HANGS.1),
        );
    }
    // Doctor's advice for the second one.
    ambient.move_web();
    ambient.serve("service");
    let outcome = ambient.clients("mixed", plain, &http).assert_fixed(Outcome::Greeting);
    report.add(STEP, "The same, doctor's advice: `waypoint-for: service` and another port number", outcome);
    ambient.restore("service");
    ambient.label("workload");
    wait_for("waypoint without Services", DELIVERY, || {
        let dump = ambient.waypoint.get(ADMIN, "/config_dump?resource=dynamic_listeners");
        (!dump.contains("inbound-vip|")).then_some(())
    });
    dumps::keep_waypoint("workload", &ambient.waypoint);
    let clients = ambient.clients("declared", plain, &http);
    let fixes = clients.assert_hangs(FOR_WORKLOADS);
    let [fix] = fixes.as_slice() else { panic!("one fix, because no chain is for the Service") };
    fix.carry_out(ambient.mesh);
    ambient.mesh.settle(&ambient.waypoint);
    let outcome = clients.assert_fixed(Outcome::Greeting);
    report.add(
        STEP,
        "**A waypoint for workloads alone** (`waypoint-for: workload`), a Service",
        format!("{}; with the fix that doctor prints: {outcome}", HANGS.1),
    );
}
