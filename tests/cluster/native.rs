//! The native module in a sidecar, and TLS that it starts to a database outside the mesh.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::world::{DATABASE, DATABASE_PORT, database, outside};
use crate::mesh::Mesh;
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::shell::native;
use firstword_testing::{root, temp_dir};

pub const STEP: &str = "native";

const PAGE: &str = "native.md";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const OUTBOUND: &str = "native/outbound.yaml";
const DEPLOYMENT: &str = "native/deployment.yaml";
const ORIGINATION: &str = "scenarios/tls-origination/filter.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];
/// Port of the database that requires TLS, to which connections to the database outside are redirected.
const TLS_PORT: u16 = 10_001;

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    from_the_image(mesh, report);
    mesh.reset();
    from_other_volumes(mesh, report);
    tls(mesh, report);
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
fn copied(mesh: &Mesh<'_>) -> TempDir {
    let directory = temp_dir();
    let status = Command::new("cp").arg("-r").arg(root().join("istio")).arg(directory.path()).status();
    assert!(status.expect("cp").success());
    for path in [DEPLOYMENT, "scenarios/tls-origination/deployment.yaml"] {
        std::fs::write(directory.path().join("istio").join(path), mesh.manifest(path)).expect("a manifest");
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

/// A database that requires TLS, and an application without TLS.
fn tls(mesh: &Mesh<'_>, report: &mut Report) {
    let world = &mesh.lab.world;
    let credentials = world.folder("credentials");
    let file = |option: &str, name: &str| format!("--{option}={}", credentials.join(name).display());
    let (certificate, key) = (file("ssl-cert", "orders.pem"), file("ssl-key", "orders-key.pem"));
    let options = [certificate.as_str(), &key, "--require-secure-transport=ON"];
    let server = database(&world.namespace, world.files(), TLS_PORT, &options);
    let rule =
        format!("PREROUTING -d {DATABASE} -p tcp --dport {DATABASE_PORT} -j REDIRECT --to-ports {TLS_PORT}");
    world.namespace.run(&format!("iptables -t nat -I {rule}"));
    originated(mesh, &credentials, report, &|| server.status("Ssl_accepts"));
    world.namespace.run(&format!("iptables -t nat -D {rule}"));
}

fn originated(mesh: &Mesh<'_>, credentials: &Path, report: &mut Report, accepted: &dyn Fn() -> u64) {
    let directory = copied(mesh);
    std::fs::copy(credentials.join("ca.pem"), directory.path().join("ca.pem")).expect("the authority");
    let refused = mesh
        .lab
        .world
        .namespace
        .enter(|| Client::connect((DATABASE, TLS_PORT).into()).log_in(&Login::new(CLASSIC)).err());
    assert_eq!(refused, Some(1045), "the server refuses clients without TLS");
    for command in printed::of_manifest(ORIGINATION) {
        printed::run(mesh, directory.path(), &command);
    }
    restarted(mesh);
    let app = mesh.app();
    let established = || {
        let labels = [LABELS.as_slice(), &[("side", "upstream"), ("result", "established")]].concat();
        mesh.metrics(&app).get("firstword_tls_sessions_total", &labels).unwrap_or_default()
    };
    let before = (established(), accepted());
    traffic::assert_counted(mesh, &app, &app.network, outside(), &LABELS);
    let sessions = traffic::CONNECTIONS;
    assert_eq!(established() - before.0, f64::from(sessions), "sessions with TLS to the server");
    assert_eq!(accepted() - before.1, u64::from(sessions), "the server's own count");
    let cipher = app.network.enter(|| {
        let mut client = Client::login(outside(), &Login::new(CLASSIC));
        let response = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
        client.quit();
        String::from_utf8_lossy(&response).into_owned()
    });
    assert!(cipher.contains("TLS_"), "{cipher}");
    mesh.lab.kubectl.run(&["delete", "configmap", "orders-ca", "-n", "default"]);
    report.add(
        STEP,
        "`tls-origination/filter.yaml`, `deployment.yaml`, by their commands; the server has `require_secure_transport`",
        "clients without TLS log in, by TLS 1.3 at the server; exact: TLS sessions, connections, queries, rows, errors",
    );
}
