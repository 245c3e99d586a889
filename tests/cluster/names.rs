//! A database outside the mesh that clients know by its DNS name.

use std::net::SocketAddr;
use std::time::Duration;

use crate::documents::OTHER_PORT;
use crate::fixes::Fix;
use crate::lab::names::DATABASE_HOST;
use crate::lab::pod::Pod;
use crate::lab::world::{DATABASE_PORT, outside};
use crate::mesh::Mesh;
use crate::outcome::{Outcome, Probe, http, in_words};
use crate::report::Report;
use firstword_testing::doctor::{Verdict, doctor};
use firstword_testing::probe::{Http, client_by};
use firstword_testing::program::firstword;

pub const STEP: &str = "names";

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let app = mesh.app();
    mesh.replace(OTHER_PORT);
    mesh.settle(&app);
    let plain = Probe { from: &app.network, to: outside(), first: b"" }.median();
    mesh.reset();
    mesh.settle(&app);
    let printed = hang(mesh, &app, report);
    fix(mesh, &printed, plain, report);
    mesh.reset();
}

/// What a client in the pod connects to.
fn address(mesh: &Mesh<'_>, pod: &Pod) -> SocketAddr {
    (mesh.lab.names.resolve(&pod.network, DATABASE_HOST), DATABASE_PORT).into()
}

/// MariaDB's client in the pod, by the name.
fn client(mesh: &Mesh<'_>, pod: &Pod) -> Result<String, String> {
    client_by(mesh.lab.names.command(&pod.network), DATABASE_HOST, DATABASE_PORT)
}

/// Doctor about the name. Like its user, it asks the name server for what the dump does not have.
fn diagnosis(mesh: &Mesh<'_>, pod: &Pod) -> Verdict {
    let mut command = mesh.lab.names.command(&mesh.lab.world.namespace);
    command.arg(firstword());
    doctor(command, "-", format!("{DATABASE_HOST}:{DATABASE_PORT}"), &mesh.dump(pod))
}

/// Returns doctor's first fix.
fn hang(mesh: &Mesh<'_>, app: &Pod, report: &mut Report) -> Fix {
    assert_eq!(address(mesh, app), outside());
    assert_eq!(http(mesh, app), Http::Manager);
    Probe { from: &app.network, to: outside(), first: b"" }.expect(Outcome::Silence);
    let error = client(mesh, app).expect_err("MariaDB's client received a response");
    assert!(error.contains("ERROR 2013"), "{error}");
    let verdict = diagnosis(mesh, app);
    assert_eq!(verdict.of("silent").as_deref(), Some("hang"), "{:#}", verdict.0);
    assert!(verdict.codes().contains(&"error port-conflict".to_owned()), "{:#}", verdict.0);
    report.add(
        STEP,
        format!("**An HTTP Service has the port** of `{DATABASE_HOST}`, which a name server outside the mesh knows"),
        format!("client that connects by the name: {}", Outcome::Silence),
    );
    let fix = Fix::printed(&verdict).into_iter().next().expect("a fix");
    assert!(fix.from.contains("dns-name.yaml"), "{}", fix.from);
    fix
}

fn fix(mesh: &Mesh<'_>, printed: &Fix, plain: Duration, report: &mut Report) {
    printed.carry_out(mesh);
    // The pods that run have no DNS proxying, so they resolve the name as before.
    let old = mesh.app();
    mesh.settle(&old);
    assert_eq!(address(mesh, &old), outside());
    let deployment = ["deployment", "app", "-n", "default"];
    mesh.lab.kubectl.run(&[["rollout", "restart"].as_slice(), &deployment].concat());
    mesh.lab.kubectl.run(&[["rollout", "status"].as_slice(), &deployment, &["--timeout=120s"]].concat());
    let app = mesh.app();
    mesh.settle(&app);
    let to = address(mesh, &app);
    assert_ne!(to, outside(), "Istio's own address for the name");
    let probe = Probe { from: &app.network, to, first: b"" };
    probe.expect(Outcome::Greeting);
    probe.assert_at_most_twice(plain);
    assert_eq!(client(mesh, &app).as_deref(), Ok("42"), "MariaDB's client by the name");
    let verdict = diagnosis(mesh, &app);
    assert_eq!(verdict.of("silent").as_deref(), Some("greeting"), "{:#}", verdict.0);
    assert_eq!(http(mesh, &app), Http::Manager, "the HTTP Service");
    let outcome = format!("{}, HTTP Service: {}", Outcome::Greeting, in_words(Http::Manager));
    let what = "doctor's first fix, `dns-name.yaml`, as printed, and `kubectl rollout restart`";
    report.add(STEP, what, format!("client that connects by the name: {outcome}"));
    // Its address still hangs.
    Probe { to: outside(), ..probe }.expect(Outcome::Silence);
    report.add(
        STEP,
        "the same, client that connects by the database's address",
        Outcome::Silence.to_string(),
    );
}
