//! The story of the documents, from the hang to exact metrics.

use std::time::Duration;

use crate::lab::pod::Pod;
use crate::lab::world::outside;
use crate::mesh::{MERGED, Mesh};
use crate::outcome::http;
use crate::report::Report;
use crate::traffic;
use firstword_testing::probe::{Http, Seen, client, listen};
use firstword_testing::wait_for;

pub const STEP: &str = "story";

const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const WASM_PLUGIN: &str = "base/wasmplugin.yaml";
const METRICS: Duration = Duration::from_secs(20);

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    // The pods have the annotations already, so the command of the file changes nothing.
    let file = "istio/components/pod-annotations/annotations.yaml";
    let patched = mesh.lab.kubectl.run(&["patch", "deployment", "app", "--patch-file", file]);
    assert!(patched.contains("(no change)"), "{patched}");
    let app = mesh.app();
    mesh.settle(&app);
    hang(mesh, &app, report);
    diagnosis(mesh, &app, report);
    fix(mesh, &app, report);
    metrics(mesh, &app, report);
    mesh.reset();
}

fn assert_http(mesh: &Mesh<'_>, app: &Pod) {
    assert_eq!(http(mesh, app), Http::Manager);
}

fn hang(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) {
    assert_http(mesh, app);
    assert_eq!(app.network.enter(|| listen(outside(), b"", false)), Seen::Nothing);
    let error = client(&app.network, outside()).expect_err("MariaDB's client received a response");
    let expected = "reading initial communication packet";
    assert!(error.contains("ERROR 2013") && error.contains(expected), "MariaDB's client: {error}");
    report.add(STEP, "An HTTP Service has the database's port: clients hang", "silence, error 2013");

    let waiting = || {
        let labels = [("listener_address", "0.0.0.0_10000")];
        mesh.metrics(app).get("envoy_listener_downstream_pre_cx_active", &labels)
    };
    assert_eq!(waiting(), Some(0.0));
    let connection = app.network.enter(|| std::net::TcpStream::connect(outside()).expect("a connection"));
    wait_for("connection in downstream_pre_cx_active", METRICS, || (waiting() == Some(1.0)).then_some(()));
    drop(connection);
    wait_for("end of the connection", METRICS, || (waiting() == Some(0.0)).then_some(()));
    report.add(STEP, "`downstream_pre_cx_active` shows the client that hangs", "0, 1, 0 on port 15020");
}

fn diagnosis(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) {
    let verdict = mesh.doctor(app, outside());
    assert_eq!(verdict.of("silent").as_deref(), Some("hang"), "{:#}", verdict.0);
    let findings = verdict.0["findings"].as_array().expect("findings");
    let found = findings.iter().find(|one| one["code"] == "port-conflict").expect("the finding");
    assert_eq!(found["where"]["listener"], "0.0.0.0_10000", "{found:#}");
    assert_eq!(found["where"]["filter"], "envoy.filters.listener.http_inspector", "{found:#}");
    let why = found["why"].as_str().expect("a reason");
    assert!(why.contains("Service other/irrelevant-svc"), "{why}");
    report.add(STEP, "`firstword doctor` names the Service", "port-conflict, Service other/irrelevant-svc");
}

fn fix(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) {
    mesh.lab.kubectl.run(&["apply", "-f", &format!("istio/{SERVICE_ENTRY}")]);
    mesh.settle(app);
    let seen = app.network.enter(|| listen(outside(), b"", false));
    assert!(matches!(seen, Seen::Greeting(_)), "{seen:?}");
    assert_eq!(client(&app.network, outside()).as_deref(), Ok("42"));
    assert_http(mesh, app);
    let verdict = mesh.doctor(app, outside());
    assert_eq!(verdict.of("silent").as_deref(), Some("greeting"), "{:#}", verdict.0);
    report.add(
        STEP,
        "`kubectl apply -f serviceentry.yaml` ends the hang",
        "greeting; the HTTP Service stays HTTP",
    );
}

/// The counts that Prometheus gets.
fn metrics(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) {
    mesh.apply(&[WASM_PLUGIN]);
    mesh.settle(app);
    mesh.wait_for_module(app);
    let labels = [("direction", "outbound"), ("destination", "orders")];
    let connections = || mesh.metrics(app).get("firstword_connections_total", &labels);
    assert_eq!(connections(), None, "no connection yet");
    traffic::assert_counted(mesh, app, &app.network, outside(), &labels);
    assert_eq!(connections(), Some(f64::from(traffic::CONNECTIONS)), "with other labels");
    let text = app.get(MERGED, "/stats/prometheus");
    let untagged: Vec<_> = text.lines().filter(|line| line.contains("___")).collect();
    assert_eq!(untagged, [""; 0], "labels in names");
    report.add(
        STEP,
        "`base/wasmplugin.yaml`, pulled by its digest, counts on the agent's merged port",
        "exact: connections, queries, rows, errors; each label in its place",
    );
    let verdict = mesh.doctor(app, outside());
    assert_eq!(verdict.of("silent").as_deref(), Some("greeting"), "{:#}", verdict.0);
}
