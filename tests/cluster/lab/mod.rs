//! A Kubernetes cluster with Istio: the real control plane, and one node that runs pods in network namespaces.

pub mod admin;
pub mod container;
pub mod control_plane;
pub mod credentials;
pub mod environment;
pub mod istio;
pub mod kubectl;
pub mod names;
pub mod node;
pub mod pod;
pub mod prometheus;
pub mod registry;
pub mod volumes;
pub mod world;
pub mod ztunnel;

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use control_plane::ControlPlane;
use firstword_testing::{root, temp_dir};
use kubectl::Kubectl;
use names::NameServer;
use node::Node;
use pod::Pod;
use registry::Registry;
use world::World;

/// A program of `make tools-cluster`.
pub fn program(name: &str) -> PathBuf {
    let path = root().join("target/tools/cluster").join(name);
    path.canonicalize().unwrap_or_else(|e| panic!("{}: {e}; run: make tools-cluster", path.display()))
}

/// A running cluster. Dropping it ends its processes, with them its namespaces, and removes its files.
// Fields are dropped in their order: the pods first.
pub struct Lab {
    node: Node,
    pub registry: Registry,
    pub names: NameServer,
    _control_plane: ControlPlane,
    pub kubectl: Arc<Kubectl>,
    pub world: Arc<World>,
    _files: TempDir,
}

impl Lab {
    /// Starts the control plane, the node and the registry, and installs Istio.
    pub fn start(progress: &dyn Fn(&str)) -> Self {
        let files = temp_dir();
        std::fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a directory for all");
        progress("the world outside the pods");
        let world = Arc::new(World::new(files.path()));
        progress("etcd, kube-apiserver, kube-controller-manager, kube-proxy");
        let control_plane = ControlPlane::start(&world);
        let kubectl = Arc::new(control_plane.kubectl(&world));
        progress("the name server and the registry");
        let names = NameServer::start(&world);
        let registry = Registry::start(&world);
        let node = Node::start(&world, &kubectl);
        progress("Istio");
        istio::install(&kubectl, &node);
        Self { node, registry, names, _control_plane: control_plane, kubectl, world, _files: files }
    }

    /// The newest ready pod with this label `app`. Waits for it.
    pub fn pod(&self, namespace: &str, app: &str) -> Arc<Pod> {
        self.node.ready_pod(namespace, app)
    }

    /// The ready pod with this name. Waits for it.
    pub fn pod_named(&self, namespace: &str, name: &str) -> Arc<Pod> {
        self.node.ready_pod_named(namespace, name)
    }

    /// The ready pod with this name that started after another one. Waits for it.
    pub fn replacement(&self, namespace: &str, name: &str, age: u32) -> Arc<Pod> {
        self.node.newer_pod(namespace, name, age)
    }

    /// Sets variables of istiod (`NAME=VALUE`, or `NAME-` to remove one), and waits until another istiod runs with them.
    pub fn set_istiod(&self, variables: &[&str]) {
        let istiod = ["deployment/istiod", "-n", "istio-system"];
        self.kubectl.run(&[["set", "env"].as_slice(), &istiod, variables].concat());
        self.kubectl.run(&[["rollout", "status"].as_slice(), &istiod, &["--timeout=180s"]].concat());
    }
}
