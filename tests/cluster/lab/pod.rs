//! One pod: a network namespace with a link to the world's, and what runs in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::admin;
use super::container::{Container, Parent, image_name};
use super::kubectl::Kubectl;
use super::volumes;
use super::world::{NODE, World, database, link};
use firstword_testing::http_backend;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::namespace::Namespace;
use firstword_testing::wait_for;

/// Maximum time to readiness on a busy machine.
const READY: Duration = Duration::from_secs(90);
/// Ports of the databases and of the HTTP Services in pods.
pub const MYSQL_PORT: u16 = 3306;
pub const HTTP_PORT: u16 = 8080;

/// A pod that is ready.
pub struct Pod {
    pub name: String,
    /// The pod's namespace in Kubernetes.
    pub of: String,
    pub labels: Value,
    pub address: IpAddr,
    /// Number of pods that started before this one.
    pub age: u32,
    // Before the network namespace, so that they end first.
    containers: Mutex<BTreeMap<String, Container>>,
    pub database: Option<MariaDb>,
    pub network: Namespace,
    _files: TempDir,
}

impl Pod {
    /// Starts what the Pod has, and waits until it is ready. `number` chooses its address.
    pub fn start(world: &World, kubectl: &Kubectl, pod: &Value, number: u8, age: u32) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {pod:#}")).to_owned();
        let (of, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let network = Namespace::new();
        let (outside, inside) = link(number);
        let holder = network.id();
        world.namespace.run(&format!("ip link add pod{number} type veth peer name eth0 netns {holder}"));
        world.namespace.run(&format!("ip address add {outside}/24 dev pod{number}"));
        world.namespace.run(&format!("ip link set pod{number} up"));
        network.run(&format!("ip address add {inside}/24 dev eth0"));
        network.run("ip link set eth0 up");
        network.run(&format!("ip route add default via {outside}"));

        let files = tempfile::Builder::new().prefix("pod-").tempdir_in(world.files()).expect("a directory");
        std::fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a directory for all");
        let mut this = Self {
            name,
            of,
            labels: pod["metadata"]["labels"].clone(),
            address: inside.into(),
            age,
            containers: Mutex::default(),
            database: None,
            network,
            _files: files,
        };
        this.report(kubectl, pod, false);
        // The containers see the address in the status.
        let pod = kubectl.get(&["pod", &this.name, "-n", &this.of]).expect("the Pod");
        let directory = this._files.path().to_owned();
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten().map(|volume| {
            let folder = volumes::create(world, kubectl, &pod, volume, &directory.join("volumes"));
            (text(&volume["name"]), folder)
        });
        let volumes: BTreeMap<_, _> = volumes.collect();
        this.run(world, &pod, &volumes, &directory);
        this.report(kubectl, &pod, true);
        this
    }

    fn run(&mut self, world: &World, pod: &Value, volumes: &BTreeMap<String, std::path::PathBuf>, at: &Path) {
        let list = |key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
        for container in list("initContainers") {
            let parent = Parent { pod, namespace: &self.network, directory: at, volumes };
            let Some(started) = Container::start(world, &parent, &container) else { continue };
            if container["restartPolicy"] == "Always" {
                self.keep(world, &container, started, "startupProbe");
            } else {
                started.finish();
            }
        }
        for container in list("containers") {
            let parent = Parent { pod, namespace: &self.network, directory: at, volumes };
            if let Some(started) = Container::start(world, &parent, &container) {
                self.keep(world, &container, started, "readinessProbe");
                continue;
            }
            match image_name(container["image"].as_str().expect("an image")) {
                // Tests run their clients in the namespace.
                "client" => {}
                "mariadb" => self.database = Some(database(&self.network, at, MYSQL_PORT, &[])),
                "http" => {
                    let listener =
                        self.network.enter(|| TcpListener::bind(("0.0.0.0", HTTP_PORT)).expect("a port"));
                    thread::spawn(move || http_backend::serve(&listener));
                }
                other => panic!("the node has no image {other}"),
            }
        }
    }

    /// Keeps a container, and waits until its probe succeeds.
    fn keep(&self, world: &World, container: &Value, mut started: Container, probe: &str) {
        let get = &container[probe]["httpGet"];
        if let (Some(path), Some(port)) = (get["path"].as_str(), port(container, &get["port"])) {
            let to = SocketAddr::from((self.address, port));
            wait_for(&format!("readiness of {} {}", self.name, container["name"]), READY, || {
                started.assert_runs();
                world.namespace.enter(|| admin::get(to, path).ok())
            });
        }
        let name = container["name"].as_str().expect("a name").to_owned();
        self.containers.lock().expect("the containers").insert(name, started);
    }

    /// Writes the Pod's status, as a kubelet does.
    fn report(&self, kubectl: &Kubectl, pod: &Value, ready: bool) {
        let condition =
            |kind: &str, is: bool| json!({"type": kind, "status": if is { "True" } else { "False" }});
        let statuses = pod["spec"]["containers"].as_array().into_iter().flatten().map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "lab", "ready": ready,
                "started": ready, "restartCount": 0, "state": {"running": {}},
            })
        });
        let status = json!({"status": {
            "phase": if ready { "Running" } else { "Pending" },
            "hostIP": NODE, "podIP": self.address, "podIPs": [{"ip": self.address}],
            "conditions": [
                condition("PodScheduled", true), condition("Initialized", ready),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
            "containerStatuses": statuses.collect::<Vec<_>>(),
        }});
        let patch = status.to_string();
        kubectl.run(&[
            "patch",
            "pod",
            &self.name,
            "-n",
            &self.of,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// Kills the containers and the database.
    pub fn stop(&self) {
        self.containers.lock().expect("the containers").clear();
    }

    /// Response of a loopback port of the pod.
    pub fn get(&self, port: u16, path: &str) -> String {
        self.network
            .enter(|| admin::get(firstword_testing::loopback(port), path))
            .unwrap_or_else(|why| panic!("{}: port {port}{path}: {why}", self.name))
    }
}

/// A port of a probe: a number, or the name of one of the container's ports.
fn port(container: &Value, of: &Value) -> Option<u16> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    number(of).or_else(|| {
        let ports = container["ports"].as_array()?;
        number(&ports.iter().find(|port| port["name"] == *of)?["containerPort"])
    })
}
