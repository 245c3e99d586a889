//! The pods of a headless Service, and an HTTP Service with their port number. Istiod of this lab does not have
//! `PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER`, so each pod has a listener of its own.

use crate::lab::pod::{MYSQL_PORT, Pod};
use crate::mesh::Mesh;
use crate::outcome::{Outcome, Probe, http, in_words};
use crate::report::Report;
use firstword_testing::probe::Http;

pub const STEP: &str = "headless";

const REPLICAS: &str = include_str!("resources/headless.yaml");
const CONFLICT: &str = include_str!("resources/headless-conflict.yaml");
const NAMES: [&str; 2] = ["mysql-0", "mysql-1"];

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.lab.kubectl.apply(REPLICAS);
    mesh.lab.kubectl.run_with(&["replace", "-f", "-"], CONFLICT);
    let app = mesh.app();
    let pods = NAMES.map(|name| mesh.lab.pod_named("sts", name));
    mesh.settle(&app);
    assert_eq!(http(mesh, &app), Http::Manager, "the HTTP Service");
    for pod in &pods {
        assert_greeted(
            mesh,
            &app,
            Probe { from: &app.network, to: (pod.address, MYSQL_PORT).into(), first: b"" },
        );
    }
    let observed = format!("both pods: {}, HTTP Service: {}", Outcome::Greeting, in_words(http(mesh, &app)));
    report.add(
        STEP,
        "The pods of a StatefulSet, and an HTTP Service has the port; Istio's default",
        observed,
    );
    own_service(mesh, &app, report);
    mesh.lab.kubectl.run(&["delete", "namespace", "sts", "--timeout=120s"]);
    mesh.reset();
}

fn assert_greeted(mesh: &Mesh<'_>, app: &Pod, probe: Probe<'_>) {
    probe.expect(Outcome::Greeting);
    let verdict = mesh.doctor(app, probe.to);
    assert_eq!(verdict.of("silent").as_deref(), Some("greeting"), "{:#}", verdict.0);
}

/// A Service for one pod, which follows its restart.
fn own_service(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) {
    let file = mesh.manifest("scenarios/headless/service.yaml").replace("namespace: db", "namespace: sts");
    mesh.lab.kubectl.apply(&file);
    mesh.settle(app);
    let probe = Probe { from: &app.network, to: mesh.service("sts", NAMES[0]), first: b"" };
    assert_greeted(mesh, app, probe);
    let before = mesh.lab.pod_named("sts", NAMES[0]);
    mesh.lab.kubectl.run(&["delete", "pod", NAMES[0], "-n", "sts", "--wait=false"]);
    let after = mesh.lab.replacement("sts", NAMES[0], before.age);
    assert_ne!(after.address, before.address);
    mesh.settle(app);
    assert_greeted(mesh, app, probe);
    let observed = format!("by its address: {}; after a restart of the pod: {0}", Outcome::Greeting);
    report.add(STEP, "`headless/service.yaml`: a Service for one pod", observed);
}
