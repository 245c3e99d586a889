//! A registry behind TLS with the name that the manifests have: `registry.example.com`.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::world::{REGISTRY, World};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::process::Process;
use firstword_testing::{built, wait_for};

/// Port of the registry without TLS, on the world's loopback.
const PORT: u16 = 5000;
const START: Duration = Duration::from_secs(20);

/// Puts the files of an image for this machine into a folder, as a container runtime does for a volume.
pub fn unpack(world: &World, reference: &str, folder: &Path) {
    let image = reference.strip_prefix("registry.example.com/").expect("an image of the registry");
    let processor = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let archive = folder.with_extension("tar");
    let mut command = world.namespace.command();
    command.arg(built("CRANE", "target/tools/crane", "make tools-istio"));
    command.args(["export", "--platform", &format!("linux/{processor}")]);
    let output = command.arg(format!("127.0.0.1:{PORT}/{image}")).arg(&archive).output().expect("crane");
    assert!(output.status.success(), "{reference}: {}", String::from_utf8_lossy(&output.stderr));
    let tar = std::process::Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder).status();
    assert!(tar.expect("tar").success(), "{reference}");
}

/// A running registry.
pub struct Registry {
    world: Arc<World>,
    tls: Mutex<Option<Envoy>>,
    _registry: Process,
}

impl Registry {
    pub fn start(world: &Arc<World>) -> Self {
        let crane = built("CRANE", "target/tools/crane", "make tools-istio").canonicalize().expect("a path");
        let launcher = world.namespace.launcher(world.files(), &crane, None);
        let log = world.folder("logs").join("registry");
        let address = format!("127.0.0.1:{PORT}");
        let arguments = ["registry", "serve", "--address", &address].map(OsString::from);
        let registry = Process::start(&launcher, &arguments, &log, &log);
        wait_for("registry", START, || {
            world.namespace.enter(|| std::net::TcpStream::connect(("127.0.0.1", PORT)).ok())
        });
        let this = Self { world: Arc::clone(world), tls: Mutex::default(), _registry: registry };
        this.open();
        this
    }

    /// Pushes an image in OCI's layout. Returns the digest of its manifest or index.
    pub fn push(&self, image: &Path, repository: &str, tag: &str) -> String {
        let mut command = self.world.namespace.command();
        command.arg(built("CRANE", "target/tools/crane", "make tools-istio"));
        command.arg("push").arg(image).arg(format!("127.0.0.1:{PORT}/{repository}:{tag}"));
        let output = command.output().expect("crane");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "crane push {}: {error}", image.display());
        let reference = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let (_, digest) = reference.split_once("@sha256:").expect("a digest");
        digest.to_owned()
    }

    /// Makes the registry reachable.
    pub fn open(&self) {
        let launcher = self.world.namespace.launcher(self.world.files(), &firstword_testing::envoy(), None);
        let options = EnvoyOptions::unchanged(self.bootstrap()).run_by(&launcher, 0);
        let envoy = self.world.namespace.enter(|| Envoy::start(options));
        *self.tls.lock().expect("the proxy") = Some(envoy);
    }

    /// Makes the registry unreachable: each connection is refused.
    pub fn close(&self) {
        *self.tls.lock().expect("the proxy") = None;
    }

    /// A proxy that ends TLS, because crane serves without it.
    fn bootstrap(&self) -> Value {
        let credentials = self.world.folder("credentials");
        let file = |name: &str| json!({"filename": credentials.join(name)});
        let address =
            |host: String, port: u16| json!({"socket_address": {"address": host, "port_value": port}});
        json!({
            "admin": {"address": address("127.0.0.1".into(), 0)},
            "static_resources": {
                "listeners": [{
                    "name": "registry", "address": address(REGISTRY.to_string(), 443),
                    "filter_chains": [{
                        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "registry", "cluster": "registry",
                        }}],
                        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                            "common_tls_context": {"tls_certificates": [{
                                "certificate_chain": file("registry.pem"), "private_key": file("registry-key.pem"),
                            }]},
                        }},
                    }],
                }],
                "clusters": [{
                    "name": "registry", "type": "STATIC",
                    "load_assignment": {"cluster_name": "registry", "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": address("127.0.0.1".into(), PORT)}},
                    ]}]},
                }],
            },
        })
    }
}
