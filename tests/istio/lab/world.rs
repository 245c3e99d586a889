//! Servers and clients outside the pods: a MariaDB at several addresses, the HTTP Service with the same port number, and a
//! client with a sidecar.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates;
use crate::case::{
    DATABASE, HTTP_POD, HTTP_POD_PORT, HTTP_SERVICE, MYSQL_POD, MYSQL_PORT, MYSQL_SERVICE, NEIGHBOUR, PORT,
    SECOND,
};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::http_backend;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::namespace::Namespace;
use firstword_testing::temp_dir;

/// First port of the client's sidecar, on the world's loopback. Each port connects to port 3306 of one pod with mTLS.
pub const FIRST_CLIENT_PORT: u16 = 20_000;

/// The namespace outside the pods, and its servers.
pub struct World {
    // Before the namespace, so that it ends first.
    client_sidecar: Option<Envoy>,
    _database: MariaDb,
    pub namespace: Namespace,
    /// Folder that any user can read.
    files: TempDir,
}

/// The addresses of the link between the world and a pod.
pub fn link(pod: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 1, pod, 1), Ipv4Addr::new(10, 1, pod, 2))
}

impl World {
    /// A world with links for this number of pods.
    pub fn new(pods: u8) -> Self {
        let files = temp_dir();
        std::fs::set_permissions(files.path(), PermissionsExt::from_mode(0o755))
            .expect("a directory for all");
        // Copy, because other users than root may have no access to the repository.
        for (name, original) in
            [("envoy", firstword_testing::envoy()), ("firstword.wasm", firstword_testing::wasm())]
        {
            std::fs::copy(original, files.path().join(name)).expect("a copy");
        }
        certificates::write(files.path());

        let namespace = Namespace::new();
        for address in [DATABASE, SECOND, NEIGHBOUR, HTTP_POD, MYSQL_POD] {
            namespace.run(&format!("ip address add {address}/32 dev lo"));
        }
        // These rules replace kube-proxy. One MariaDB is the server of all databases.
        let redirect = format!(
            "*nat\n\
             -A PREROUTING -d {HTTP_SERVICE} -p tcp --dport {PORT} -j DNAT --to-destination {HTTP_POD}:{HTTP_POD_PORT}\n\
             -A PREROUTING -d {MYSQL_SERVICE} -p tcp --dport {MYSQL_PORT} -j DNAT --to-destination {MYSQL_POD}:{PORT}\n\
             -A PREROUTING -d {MYSQL_POD} -p tcp --dport {MYSQL_PORT} -j REDIRECT --to-ports {PORT}\n\
             COMMIT\n"
        );
        namespace.run_with("iptables-restore", &redirect);
        let listener = namespace
            .enter(|| TcpListener::bind((HTTP_POD, HTTP_POD_PORT)).expect("the HTTP Service's port"));
        thread::spawn(move || http_backend::serve(&listener));
        let database = database(&namespace, files.path(), PORT);
        let mut world = Self { client_sidecar: None, _database: database, namespace, files };
        let listeners: Vec<_> = (0..pods).map(|pod| world.client_listener(pod)).collect();
        let clusters: Vec<_> = (0..pods).map(|pod| world.mtls_cluster(pod)).collect();
        let bootstrap = json!({
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        });
        world.client_sidecar = Some(world.start_envoy(&world.namespace, bootstrap));
        world
    }

    pub fn files(&self) -> &Path {
        self.files.path()
    }

    pub fn module(&self) -> PathBuf {
        self.files().join("firstword.wasm")
    }

    /// Starts an Envoy in this namespace, as the user whose connections Istio does not redirect.
    pub fn start_envoy(&self, namespace: &Namespace, bootstrap: Value) -> Envoy {
        const ISTIO_PROXY: u32 = 1337;
        let launcher = namespace.launcher(self.files(), &self.files().join("envoy"), Some(ISTIO_PROXY));
        let options = EnvoyOptions::unchanged(bootstrap).run_by(&launcher, ISTIO_PROXY);
        namespace.enter(|| Envoy::start(options))
    }

    fn client_listener(&self, pod: u8) -> Value {
        let port = FIRST_CLIENT_PORT + u16::from(pod);
        json!({
            "name": port.to_string(),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "client", "cluster": pod.to_string(),
                },
            }]}],
        })
    }

    fn mtls_cluster(&self, pod: u8) -> Value {
        let file = |name: &str| json!({"filename": self.files().join(name)});
        let address = json!({"socket_address": {"address": link(pod).1, "port_value": MYSQL_PORT}});
        json!({
            "name": pod.to_string(), "type": "STATIC",
            "load_assignment": {
                "cluster_name": pod.to_string(),
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "outbound_.3306_._.mysql.db.svc.cluster.local",
                    "common_tls_context": {
                        "alpn_protocols": ["istio-peer-exchange", "istio"],
                        "tls_certificates":
                            [{"certificate_chain": file("cert-chain.pem"), "private_key": file("key.pem")}],
                        "validation_context": {"trusted_ca": file("root-cert.pem")},
                    },
                },
            },
        })
    }
}

/// The pod's own address.
pub fn pod_address(pod: u8) -> IpAddr {
    link(pod).1.into()
}

/// A MariaDB at this port of each address of a namespace, which trusts PROXY headers from pods.
pub fn database(namespace: &Namespace, files: &Path, port: u16) -> MariaDb {
    let launcher = namespace.launcher(files, &firstword_testing::mariadbd(), None);
    MariaDb::start_by(
        launcher,
        &["--bind-address=0.0.0.0", &format!("--port={port}"), "--proxy-protocol-networks=10.1.0.0/16"],
    )
}
