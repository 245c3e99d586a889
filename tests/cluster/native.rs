//! The native module in a sidecar.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::world::outside;
use crate::mesh::Mesh;
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::root;
use firstword_testing::shell::native;

pub const STEP: &str = "native";

const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const OUTBOUND: &str = "native/outbound.yaml";
const DEPLOYMENT: &str = "native/deployment.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    copied_by_an_init_container(mesh, report);
    mesh.reset();
    from_a_config_map(mesh, report);
    mesh.lab.kubectl.run(&["delete", "configmap", "firstword-native-bootstrap", "-n", "default"]);
    mesh.reset();
}

/// Waits for the pod with the patch, and for its configuration.
fn restarted(mesh: &Mesh<'_>) {
    mesh.wait_for_pods("default", "app");
    mesh.settle(&mesh.app());
}

/// Asserts that the module counts connections of the application to both databases.
fn assert_counts(mesh: &Mesh<'_>) {
    let app = mesh.app();
    assert_eq!(app.labels["firstword"], "native");
    for to in [outside(), mesh.service("db", "mysql")] {
        traffic::assert_counted(mesh, &app, &app.network, to, &LABELS);
    }
    let without = mesh.metrics(&app).get("firstword_connections_without_extension_total", &[]);
    assert_eq!(without.unwrap_or_default(), 0.0, "connections without the bootstrap extension");
}

/// The commands of the manifests.
fn copied_by_an_init_container(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    for command in [printed::of_manifest(OUTBOUND), printed::of_manifest(DEPLOYMENT)].concat() {
        printed::run(mesh, root(), &command);
    }
    restarted(mesh);
    assert_counts(mesh);
    report.add(
        STEP,
        "`native/bootstrap.yaml`, `outbound.yaml`, `deployment.yaml`, by their commands",
        "exact on port 15020: connections, queries, rows, errors; each label in its place",
    );
}

/// The file in a ConfigMap, as the comment in the patch says.
fn from_a_config_map(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY, OUTBOUND]);
    let text = mesh.manifest(DEPLOYMENT);
    let volume = text.lines().find_map(|line| line.strip_prefix("#   configMap  ")?.split(", while").next());
    let volume: Value = serde_norway::from_str(volume.expect("the volume")).expect("YAML");
    let name = volume["configMap"]["name"].as_str().expect("a name");
    let file = native();
    let file = format!("--from-file=libfirstword.so={}", file.display());
    mesh.lab.kubectl.run(&["create", "configmap", name, "-n", "default", &file]);
    let mut patch = Value::deserialize(serde_norway::Deserializer::from_str(&text)).expect("a patch");
    patch["spec"]["template"]["spec"] = json!({"volumes": [volume]});
    let patch = patch.to_string();
    mesh.lab.kubectl.run(&["patch", "deployment", "app", "-n", "default", "-p", &patch]);
    restarted(mesh);
    assert_counts(mesh);
    mesh.lab.kubectl.run(&["delete", "configmap", name, "-n", "default"]);
    report.add(STEP, "The same, with the file in a ConfigMap, without the init container", "the same");
}
