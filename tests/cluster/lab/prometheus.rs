//! A Prometheus that scrapes the pods whose annotations ask for it. Debian's cannot ask Kubernetes, so it reads them from a file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::world::World;
use firstword_testing::process::{Process, read_log};
use firstword_testing::{built, loopback, root, wait_for};

const PORT: u16 = 9090;
/// File with the pods to scrape.
const TARGETS: &str = "targets.json";
const START: Duration = Duration::from_secs(30);
/// Maximum time until a scrape has a value.
const SCRAPE: Duration = Duration::from_secs(60);

/// A running Prometheus. Dropping it ends it.
pub struct Prometheus {
    world: Arc<World>,
    _process: Process,
}

impl Prometheus {
    /// Starts it with the intervals of `envoy/observability/prometheus.yaml`.
    pub fn start(world: &Arc<World>) -> Self {
        let program = built("PROMETHEUS", "target/tools/prometheus", "make prometheus").canonicalize();
        let launcher = world.namespace.launcher(world.files(), &program.expect("a path"), None);
        let directory = world.folder("prometheus");
        let shipped = root().join("envoy/observability/prometheus.yaml");
        let shipped = std::fs::read_to_string(shipped).expect("the shipped file");
        let shipped: Value = serde_norway::from_str(&shipped).expect("YAML");
        let targets = directory.join(TARGETS);
        std::fs::write(&targets, "[]").expect("a file");
        let configuration = json!({"global": shipped["global"], "scrape_configs": [
            {"job_name": "pods", "file_sd_configs": [{"files": [targets]}]},
        ]});
        let path = directory.join("prometheus.yaml");
        std::fs::write(&path, serde_norway::to_string(&configuration).expect("YAML")).expect("a file");
        let arguments = [
            format!("--config.file={}", path.display()),
            format!("--storage.tsdb.path={}", directory.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{PORT}"),
        ];
        let log = world.folder("logs").join("prometheus");
        let mut process = Process::start(&launcher, &arguments.map(Into::into), &log, &log);
        wait_for("ready Prometheus", START, || {
            assert!(process.exit_status().is_none(), "Prometheus ended: {}", read_log(&log));
            world.namespace.enter(|| super::admin::get(address(), "/-/ready").ok())
        });
        Self { world: Arc::clone(world), _process: process }
    }

    /// Lets it scrape each pod of a namespace with the annotations that Istio's injector writes.
    pub fn discover(&self, kubectl: &Kubectl, namespace: &str) {
        let pods = kubectl.get(&["pods", "-n", namespace]).expect("pods");
        let target = |pod: &Value| {
            let of = |name: &str| pod["metadata"]["annotations"][format!("prometheus.io/{name}")].as_str();
            (of("scrape")? == "true").then_some(())?;
            let address = format!("{}:{}", pod["status"]["podIP"].as_str()?, of("port")?);
            let labels = json!({
                "__metrics_path__": of("path")?, "namespace": namespace, "pod": pod["metadata"]["name"],
            });
            Some(json!({"targets": [address], "labels": labels}))
        };
        let targets: Vec<_> = pods["items"].as_array().expect("pods").iter().filter_map(target).collect();
        assert!(!targets.is_empty(), "no pod with annotations: {pods:#}");
        let directory = self.world.folder("prometheus");
        // Renamed, so that Prometheus reads all of it.
        std::fs::write(directory.join("new"), json!(targets).to_string()).expect("a file");
        std::fs::rename(directory.join("new"), directory.join(TARGETS)).expect("a file");
    }

    /// Waits until an expression has this value.
    pub fn wait(&self, expression: &str, expected: f64) {
        wait_for(&format!("{expression} == {expected}"), SCRAPE, || {
            let response: Value = self.world.namespace.enter(|| {
                let query =
                    ureq::get(format!("http://{}/api/v1/query", address())).query("query", expression);
                let mut response = query.call().expect("a response");
                serde_json::from_str(&response.body_mut().read_to_string().expect("text")).expect("JSON")
            });
            let value = response["data"]["result"][0]["value"][1].as_str()?.parse::<f64>().ok()?;
            (value == expected).then_some(())
        });
    }
}

fn address() -> SocketAddr {
    loopback(PORT)
}
