//! The network namespace of the control plane and of all servers outside the mesh. Pods are linked to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use firstword_testing::mariadb::MariaDb;
use firstword_testing::namespace::Namespace;

/// Address of the node, and of the API server.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Address of the registry.
pub const REGISTRY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Address of the name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// Network of the Services' addresses.
pub const SERVICES: &str = "10.96.0.0/16";

/// Addresses of the database in the manifests: two that they name, and one that they do not.
pub const DATABASE: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 2);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 9);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 10);
/// Address of the database in the overlays.
const SHOP_DATABASE: Ipv4Addr = Ipv4Addr::new(10, 20, 30, 40);
pub const DATABASE_PORT: u16 = 10_000;
pub const SHOP_PORT: u16 = 3307;

/// The namespace outside the pods, and its database.
pub struct World {
    pub database: MariaDb,
    pub namespace: Namespace,
    files: PathBuf,
}

impl World {
    pub fn new(files: &Path) -> Self {
        let namespace = Namespace::new();
        for address in [NODE, REGISTRY, NAME_SERVER, DATABASE, SECOND, NEIGHBOUR, SHOP_DATABASE] {
            namespace.run(&format!("ip address add {address}/32 dev lo"));
        }
        // Programs of the control plane choose the address of the default route as their own.
        namespace.run(&format!("ip route add default dev lo src {NODE}"));
        namespace.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding"));
        namespace.run_with(
            "iptables-restore",
            &format!(
                "*nat\n-A PREROUTING -d {SHOP_DATABASE} -p tcp --dport {SHOP_PORT} -j REDIRECT --to-ports {DATABASE_PORT}\nCOMMIT\n"
            ),
        );
        let database = database(&namespace, files, DATABASE_PORT, &[]);
        Self { database, namespace, files: files.to_owned() }
    }

    /// Folder of the lab. Any user can read it.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Folder below [`World::files`], new or existing, which any user can read.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.files.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a directory for all");
        path
    }
}

/// A MariaDB at this port of each address of a namespace, which believes PROXY headers from pods, with further options.
pub fn database(namespace: &Namespace, files: &Path, port: u16, options: &[&str]) -> MariaDb {
    let launcher = namespace.launcher(files, &firstword_testing::mariadbd(), None);
    let port = format!("--port={port}");
    let own =
        ["--bind-address=0.0.0.0", &port, "--proxy-protocol-networks=10.1.0.0/16", "--max-connections=500"];
    MariaDb::start_by(launcher, &[own.as_slice(), options].concat())
}

/// The address of the world's end, and of the pod's end, of the link of a pod.
pub fn link(pod: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 1, pod, 1), Ipv4Addr::new(10, 1, pod, 2))
}

/// The database outside the mesh.
pub fn outside() -> SocketAddr {
    (DATABASE, DATABASE_PORT).into()
}
