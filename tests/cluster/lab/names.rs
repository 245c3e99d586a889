//! A name server outside the mesh, and programs that ask it: an Envoy with a table of names.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::world::{DATABASE, NAME_SERVER, REGISTRY, World};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::namespace::Namespace;

/// The database's name in the manifests.
pub const DATABASE_HOST: &str = "orders.example.com";

/// The registry's name in the manifests.
const REGISTRY_HOST: &str = "registry.example.com";

/// A running name server. It knows the database and the registry.
pub struct NameServer {
    world: Arc<World>,
    _envoy: Envoy,
}

impl NameServer {
    pub fn start(world: &Arc<World>) -> Self {
        let launcher = world.namespace.launcher(world.files(), &firstword_testing::envoy(), None);
        let options = EnvoyOptions::unchanged(bootstrap()).run_by(&launcher, 0);
        let envoy = world.namespace.enter(|| Envoy::start(options));
        Self { world: Arc::clone(world), _envoy: envoy }
    }

    /// A command that runs its arguments in a network namespace, and asks this server for names.
    pub fn command(&self, namespace: &Namespace) -> Command {
        let file = |name: &str, text: &str| -> PathBuf {
            let path = self.world.folder("names").join(name);
            std::fs::write(&path, text).expect("a file of /etc");
            path
        };
        let mut command = namespace.command();
        let mount = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf && shift 2 && exec \"$@\"";
        command.args(["unshare", "--mount", "--", "sh", "-euc", mount, "sh"]);
        command.arg(file("resolv.conf", &resolv_conf())).arg(file("nsswitch.conf", NSSWITCH));
        command
    }

    /// The address that a client in a network namespace gets for a name.
    pub fn resolve(&self, namespace: &Namespace, host: &str) -> IpAddr {
        let output = self.command(namespace).args(["getent", "ahostsv4", host]).output().expect("getent");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.split_whitespace().next().unwrap_or_else(|| panic!("{host} has no address"));
        first.parse().expect("an address")
    }
}

/// Files of `/etc` by which programs ask the server.
pub fn resolv_conf() -> String {
    format!("nameserver {NAME_SERVER}\n")
}

pub const NSSWITCH: &str = "hosts: files dns\n";

fn bootstrap() -> Value {
    let domain = |name: &str, address: Ipv4Addr| json!({"name": name, "endpoint": {"address_list": {"address": [address.to_string()]}}});
    let socket = |protocol: &str, address: &str, port: u16| json!({"socket_address": {"protocol": protocol, "address": address, "port_value": port}});
    json!({
        "admin": {"address": socket("TCP", "127.0.0.1", 0)},
        "static_resources": {"listeners": [{
            "name": "names", "address": socket("UDP", &NAME_SERVER.to_string(), 53),
            "listener_filters": [{"name": "envoy.filters.udp.dns_filter", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig",
                "stat_prefix": "names",
                "server_config": {"inline_dns_table": {"virtual_domains": [
                    domain(DATABASE_HOST, DATABASE), domain(REGISTRY_HOST, REGISTRY),
                ]}},
            }}],
        }]},
    })
}
