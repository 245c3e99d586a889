//! A pod: a namespace with one link, and a sidecar through which all its connections go, or a gateway.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{World, link};
use crate::pilot::mesh::{Mesh, Proxy};
use crate::pilot::resource::Resource;
use crate::pilot::{Xds, agent, bootstrap, xds};
use firstword_testing::envoy::Envoy;
use firstword_testing::namespace::Namespace;

const REDIRECT: &str = include_str!("redirect.rules");

pub struct Pod {
    pub number: u8,
    pub namespace: Namespace,
}

impl Pod {
    pub fn new(world: &World, number: u8) -> Self {
        let namespace = Namespace::new();
        let (outside, inside) = link(number);
        let holder = namespace.id();
        world.namespace.run(&format!("ip link add pod{number} type veth peer name eth0 netns {holder}"));
        world.namespace.run(&format!("ip address add {outside}/24 dev pod{number}"));
        world.namespace.run(&format!("ip link set pod{number} up"));
        namespace.run(&format!("ip address add {inside}/24 dev eth0"));
        namespace.run("ip link set eth0 up");
        namespace.run(&format!("ip route add default via {outside}"));
        Self { number, namespace }
    }

    /// Redirects the pod's connections through its proxy, except those to `excluded`, the annotation
    /// `traffic.sidecar.istio.io/excludeOutboundIPRanges`.
    pub fn redirect(&self, excluded: &[Ipv4Addr]) {
        let rules: String =
            excluded.iter().map(|to| format!("-A ISTIO_OUTPUT -d {to}/32 -j RETURN\n")).collect();
        let last = "-A ISTIO_OUTPUT -j ISTIO_REDIRECT";
        assert!(REDIRECT.contains(last), "redirect.rules");
        self.namespace.run_with("iptables-restore", &REDIRECT.replace(last, &format!("{rules}{last}")));
    }

    /// Removes the redirection.
    pub fn no_redirect(&self) {
        self.namespace.run_with("iptables-restore", "*nat\nCOMMIT\n");
    }
}

/// A running proxy with the configuration from istiod and the agent.
pub struct Running {
    pub envoy: Envoy,
    // Files from the agent.
    _files: TempDir,
}

/// Listener on the pod's loopback with only `tcp_proxy` before a database, as the baseline.
pub const PLAIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 15_999));

/// Starts the pod's proxy, and in it [`PLAIN`] for `database`.
pub fn start(
    world: &World,
    pod: &Pod,
    (mesh, proxy): (&Mesh, &Proxy),
    resources: &[Resource],
    annotations: &Value,
    database: SocketAddr,
) -> Running {
    start_with(world, pod, proxy, xds(mesh, proxy, resources), annotations, database)
}

/// Starts the pod's proxy with this configuration, and in it [`PLAIN`] for `database`.
pub fn start_with(
    world: &World,
    pod: &Pod,
    proxy: &Proxy,
    mut xds: Xds,
    annotations: &Value,
    database: SocketAddr,
) -> Running {
    let files = tempfile::Builder::new().prefix("pod-").tempdir_in(world.files()).expect("a directory");
    std::fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a directory");
    agent::deliver(&mut xds, files.path(), &world.module());
    resolve(&mut xds, database);
    let address = |of: SocketAddr| json!({"socket_address": {"address": of.ip(), "port_value": of.port()}});
    xds.listeners.push(json!({
        "name": "plain", "address": address(PLAIN),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "plain", "cluster": "plain",
        }}]}],
    }));
    let endpoint = json!({"endpoint": {"address": address(database)}});
    xds.clusters.push(json!({
        "name": "plain", "type": "STATIC",
        "load_assignment": {"cluster_name": "plain", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }));
    let envoy = world.start_envoy(&pod.namespace, bootstrap::bootstrap(&xds, proxy, annotations));
    Running { envoy, _files: files }
}

/// Replaces hosts that Envoy would resolve by the address of the database, because the namespaces have no name server.
fn resolve(xds: &mut Xds, database: SocketAddr) {
    for cluster in xds.clusters.iter_mut().filter(|cluster| cluster["type"] == "STRICT_DNS") {
        cluster["type"] = json!("STATIC");
        let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        endpoint["address"] =
            json!({"socket_address": {"address": database.ip(), "port_value": database.port()}});
    }
}
