//! TLS that the native module starts to a database outside the mesh, and ends for its clients, by the manifests of
//! `istio/scenarios/tls-origination` and `tls-bridge`.

use std::net::SocketAddr;

use crate::lab::world::{DATABASE, DATABASE_PORT, database, outside};
use crate::mesh::Mesh;
use crate::report::Report;
use crate::traffic;
use crate::{native, printed};
use firstword_testing::client::{CLASSIC, Client, Hello, Login, Tls};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::namespace::Namespace;

pub const STEP: &str = "tls";

const ORIGINATION: &str = "scenarios/tls-origination/filter.yaml";
const BRIDGE: &str = "scenarios/tls-bridge/filter.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];
/// Port of the database that requires TLS, to which connections to the database outside are redirected.
const TLS_PORT: u16 = 10_001;
/// Error numbers of a server for a client without TLS, and of the filter for it.
const ACCESS_DENIED: u16 = 1045;
const SECURE_TRANSPORT_REQUIRED: u16 = 3159;

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let world = &mesh.lab.world;
    let credentials = world.folder("credentials");
    let file = |option: &str, name: &str| format!("--{option}={}", credentials.join(name).display());
    let (certificate, key) = (file("ssl-cert", "orders.pem"), file("ssl-key", "orders-key.pem"));
    let options = [certificate.as_str(), &key, "--require-secure-transport=ON"];
    let server = database(&world.namespace, world.files(), TLS_PORT, &options);
    let _redirection = Redirection::start(&world.namespace);
    let refused = world.namespace.enter(|| without_tls((DATABASE, TLS_PORT).into()));
    assert_eq!(refused, Some(ACCESS_DENIED), "the server refuses clients without TLS");
    originated(mesh, &server, report);
    bridged(mesh, &server, report);
}

/// Connections to the database outside lead to the one that requires TLS, until this is dropped.
struct Redirection<'n>(&'n Namespace);

impl<'n> Redirection<'n> {
    fn start(namespace: &'n Namespace) -> Self {
        Self::change(namespace, "-I");
        Self(namespace)
    }

    fn change(namespace: &Namespace, command: &str) {
        namespace.run(&format!(
            "iptables -t nat {command} PREROUTING -d {DATABASE} -p tcp --dport {DATABASE_PORT} -j REDIRECT --to-ports {TLS_PORT}"
        ));
    }
}

impl Drop for Redirection<'_> {
    fn drop(&mut self) {
        Self::change(self.0, "-D");
    }
}

/// Error number with which a login without TLS is refused.
fn without_tls(to: SocketAddr) -> Option<u16> {
    Client::connect(to).log_in(&Login::new(CLASSIC)).err()
}

/// Runs the commands of a manifest as a user does, beside files with these names and credentials. Waits until a pod has it.
fn install(mesh: &Mesh<'_>, manifest: &str, files: &[(&str, &str)]) {
    let directory = native::copied(mesh);
    let credentials = mesh.lab.world.folder("credentials");
    for (name, credential) in files {
        std::fs::copy(credentials.join(credential), directory.path().join(name)).expect("a credential");
    }
    for command in printed::of_manifest(manifest) {
        printed::run(mesh, directory.path(), &command);
    }
    native::restarted(mesh);
}

/// Deletes what is not of a kind that [`Mesh::reset`] deletes.
fn remove(mesh: &Mesh<'_>, objects: &[[&str; 2]]) {
    for [kind, name] in objects {
        mesh.lab.kubectl.run(&["delete", kind, name, "-n", "default"]);
    }
    mesh.reset();
}

/// Runs the traffic, and asserts that everything counts each connection once, in TLS on these sides.
fn assert_counted(mesh: &Mesh<'_>, server: &MariaDb, log_in: traffic::LogIn<'_>, sides: &[&str]) {
    let app = mesh.app();
    let in_tls = |side: &str| {
        let labels = [LABELS.as_slice(), &[("side", side), ("result", "established")]].concat();
        mesh.metrics(&app).get("firstword_tls_sessions_total", &labels).unwrap_or_default()
    };
    let all = || {
        let metrics = mesh.metrics(&app);
        metrics.select("firstword_connections_total", &[]).map(|sample| sample.value).sum::<f64>()
    };
    let count = || sides.iter().map(|side| in_tls(side)).chain([all()]).collect::<Vec<_>>();
    let before = (count(), server.status("Ssl_accepts"));
    traffic::assert_counted_by(mesh, &app, &app.network, log_in, &LABELS);
    let now = count();
    let connections = f64::from(traffic::CONNECTIONS);
    let found: Vec<_> = now.iter().zip(&before.0).map(|(now, before)| now - before).collect();
    assert_eq!(found, vec![connections; found.len()], "TLS sessions on {sides:?}, and all connections");
    let accepted = server.status("Ssl_accepts") - before.1;
    assert_eq!(accepted, u64::from(traffic::CONNECTIONS), "the server's own count");
    let cipher = app.network.enter(|| {
        let mut client = log_in();
        let response = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
        client.quit();
        String::from_utf8_lossy(&response).into_owned()
    });
    assert!(cipher.contains("TLS_"), "{cipher}");
    let findings = mesh.doctor(&app, outside()).codes();
    assert!(findings.iter().all(|finding| finding.starts_with("info ")), "{findings:?}");
    let without = mesh.metrics(&app).get("firstword_connections_without_extension_total", &[]);
    assert_eq!(without.unwrap_or_default(), 0.0, "connections without the bootstrap extension");
}

/// A database that requires TLS, and an application without TLS.
fn originated(mesh: &Mesh<'_>, server: &MariaDb, report: &mut Report) {
    install(mesh, ORIGINATION, &[("ca.pem", "ca.pem")]);
    let log_in = || Client::login(outside(), &Login::new(CLASSIC));
    assert_counted(mesh, server, &log_in, &["upstream"]);
    remove(mesh, &[["configmap", "orders-ca"], ["configmap", "firstword-native-bootstrap"]]);
    report.add(
        STEP,
        "`tls-origination/filter.yaml`, `deployment.yaml`, by their commands; the server has `require_secure_transport`",
        "clients without TLS log in, by TLS 1.3 at the server; exact: TLS sessions, connections, queries, rows, errors",
    );
}

/// The same database, and an application whose driver uses TLS and trusts the sidecar's certificate only.
fn bridged(mesh: &Mesh<'_>, server: &MariaDb, report: &mut Report) {
    let files = [("ca.pem", "ca.pem"), ("cert.pem", "sidecar.pem"), ("key.pem", "sidecar-key.pem")];
    install(mesh, BRIDGE, &files);
    let trust = mesh.lab.world.folder("credentials").join("sidecar-ca.pem");
    let trust = Tls::new(&trust, "orders.example.com");
    let log_in = || {
        let client = Client::connect(outside());
        let client = client.log_in_with_tls(&Login::new(CLASSIC), &trust, Hello::Together);
        client.unwrap_or_else(|errno| panic!("login refused: {errno}"))
    };
    assert_counted(mesh, server, &log_in, &["downstream", "upstream"]);
    let refused = mesh.app().network.enter(|| without_tls(outside()));
    assert_eq!(refused, Some(SECURE_TRANSPORT_REQUIRED), "a client without TLS");
    let (map, secret) = ("configmap", "secret");
    remove(mesh, &[[map, "orders-ca"], [secret, "orders-tls"], [map, "firstword-native-bootstrap"]]);
    report.add(
        STEP,
        "`tls-bridge/filter.yaml`, `deployment.yaml`, by their commands; the same server",
        "clients with TLS, which trust the sidecar's certificate only, log in, by TLS 1.3 at the server; exact: TLS sessions on both \
         sides, connections, queries, rows, errors; a client without TLS: error 3159",
    );
}
