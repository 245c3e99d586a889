//! The native module in a sidecar.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::world::outside;
use crate::mesh::Mesh;
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::shell::native;
use firstword_testing::{root, temp_dir};

pub const STEP: &str = "native";

const PAGE: &str = "native.md";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const OUTBOUND: &str = "native/outbound.yaml";
const DEPLOYMENT: &str = "native/deployment.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    from_the_image(mesh, report);
    mesh.reset();
    from_other_volumes(mesh, report);
    mesh.lab.kubectl.run(&["delete", "configmap", "firstword-native-bootstrap", "-n", "default"]);
    mesh.reset();
}

/// Waits for the pod with the patch, and for its configuration.
pub fn restarted(mesh: &Mesh<'_>) {
    mesh.wait_for_pods("default", "app");
    mesh.settle(&mesh.app());
}

/// Asserts that the module counts connections of the application to both databases.
fn assert_counts(mesh: &Mesh<'_>) {
    assert_counts_to(mesh, &[outside(), mesh.service("db", "mysql")]);
}

/// Asserts that the module counts connections of the application to these databases as `orders`.
pub fn assert_counts_to(mesh: &Mesh<'_>, databases: &[SocketAddr]) {
    let app = mesh.app();
    assert_eq!(app.labels["firstword"], "native");
    for to in databases {
        traffic::assert_counted(mesh, &app, &app.network, *to, &LABELS);
    }
    let without = mesh.metrics(&app).get("firstword_connections_without_extension_total", &[]);
    assert_eq!(without.unwrap_or_default(), 0.0, "connections without the bootstrap extension");
}

/// The commands of the manifests. The image is a volume.
fn from_the_image(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let directory = copied(mesh);
    for command in [printed::of_manifest(OUTBOUND), printed::of_manifest(DEPLOYMENT)].concat() {
        printed::run(mesh, directory.path(), &command);
    }
    restarted(mesh);
    assert_counts(mesh);
    report.add(
        STEP,
        "`native/bootstrap.yaml`, `outbound.yaml`, `deployment.yaml`, by their commands; the image is a volume, pulled by its digest",
        "exact on port 15020: connections, queries, rows, errors; each label in its place",
    );
}

/// A copy of `istio/` with the digest of the image that exists.
pub fn copied(mesh: &Mesh<'_>) -> TempDir {
    let directory = temp_dir();
    let status = Command::new("cp").arg("-r").arg(root().join("istio")).arg(directory.path()).status();
    assert!(status.expect("cp").success());
    for scenario in ["native", "scenarios/tls-origination", "scenarios/tls-bridge"] {
        let path = format!("{scenario}/deployment.yaml");
        std::fs::write(directory.path().join("istio").join(&path), mesh.manifest(&path)).expect("a manifest");
    }
    directory
}

/// The parts of a Pod in the page that bring the file without a volume of an image.
fn other_volumes() -> [Value; 2] {
    let page = std::fs::read_to_string(root().join("docs").join(PAGE)).expect("the page");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let blocks: Vec<Value> = blocks.map(|block| serde_norway::from_str(block).expect("YAML")).collect();
    blocks.try_into().expect("a ConfigMap, and an init container")
}

/// The patch with other volumes, as the page says.
fn from_another_volume(mesh: &Mesh<'_>, pod: &Value) {
    mesh.apply(&[SERVICE_ENTRY, "native/bootstrap.yaml", OUTBOUND]);
    let text = mesh.manifest(DEPLOYMENT);
    let mut patch = Value::deserialize(serde_norway::Deserializer::from_str(&text)).expect("a patch");
    patch["spec"]["template"]["spec"] = pod.clone();
    let patch = patch.to_string();
    mesh.lab.kubectl.run(&["patch", "deployment", "app", "-n", "default", "-p", &patch]);
    restarted(mesh);
    assert_counts(mesh);
}

fn from_other_volumes(mesh: &Mesh<'_>, report: &mut Report) {
    let directory = temp_dir();
    std::fs::create_dir(directory.path().join("target")).expect("a folder");
    symlink(native(), directory.path().join("target/libfirstword.so")).expect("a link");
    printed::run(
        mesh,
        directory.path(),
        &printed::of_page(PAGE, "kubectl create configmap firstword-native"),
    );
    let [config_map, init_container] = other_volumes();
    from_another_volume(mesh, &config_map);
    report.add(STEP, "`native.md`: the same, with the file in a ConfigMap", "the same");
    mesh.reset();
    from_another_volume(mesh, &init_container);
    report.add(STEP, "`native.md`: the same, with the file copied by an init container", "the same");
    mesh.reset();
    mesh.lab.kubectl.run(&["delete", "configmap", "firstword-native", "-n", "default"]);
}
