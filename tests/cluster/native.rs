//! The native module in a sidecar, and TLS that it starts to a database outside the mesh.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::world::{DATABASE, DATABASE_PORT, database, outside};
use crate::mesh::Mesh;
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::shell::native;
use firstword_testing::{root, temp_dir};

pub const STEP: &str = "native";

const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const OUTBOUND: &str = "native/outbound.yaml";
const DEPLOYMENT: &str = "native/deployment.yaml";
const ORIGINATION: &str = "scenarios/tls-origination/filter.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];
/// Port of the database that requires TLS, to which connections to the database outside are redirected.
const TLS_PORT: u16 = 10_001;

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    copied_by_an_init_container(mesh, report);
    mesh.reset();
    from_a_config_map(mesh, report);
    mesh.reset();
    tls(mesh, report);
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
    let directory = temp_dir();
    symlink(root().join("istio"), directory.path().join("istio")).expect("a link");
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
