//! A real Prometheus with the shipped files.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use firstword_testing::process::{Process, read_log};
use firstword_testing::{free_port, loopback, root, temp_dir, wait_for};

const START: Duration = Duration::from_secs(30);

/// Path of a program that `make test` fetches.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("target/tools").join(name);
    assert!(path.exists(), "{} is missing; run: make prometheus", path.display());
    path
}

/// Path of a shipped file.
pub fn shipped(name: &str) -> PathBuf {
    root().join("envoy/observability").join(name)
}

pub fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One series of a result: its labels, including its name, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Value,
    pub value: f64,
}

/// A running Prometheus. Dropping it ends it.
pub struct Prometheus {
    address: SocketAddr,
    directory: TempDir,
    _process: Process,
}

impl Prometheus {
    /// Starts it with a scrape every second. `jobs` are scrape configurations and their targets.
    pub fn start(jobs: &[(Value, SocketAddr)], rules: &[Value]) -> Self {
        let directory = temp_dir();
        let write = |name: &str, content: &Value| {
            let path = directory.path().join(name);
            fs::write(&path, serde_norway::to_string(content).expect("YAML")).expect("a file");
            path
        };
        let rule_files: Vec<_> =
            rules.iter().enumerate().map(|(n, rules)| write(&format!("rules-{n}.yaml"), rules)).collect();
        let jobs: Vec<_> = jobs
            .iter()
            .map(|(job, address)| {
                let mut job = job.clone();
                job["static_configs"] = json!([{"targets": [address.to_string()]}]);
                job
            })
            .collect();
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": rule_files,
            "scrape_configs": jobs,
        });
        let configuration = write("prometheus.yaml", &configuration);
        let address = loopback(free_port());
        let arguments = [
            format!("--config.file={}", configuration.display()),
            format!("--storage.tsdb.path={}", directory.path().join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let log = directory.path().join("log");
        let process = Process::start(&tool("prometheus"), &arguments.map(Into::into), &log, &log);
        let prometheus = Self { address, directory, _process: process };
        wait_for("Prometheus", START, || {
            ureq::get(format!("http://{address}/-/ready")).call().is_ok().then_some(())
        });
        prometheus
    }

    /// Current result of an expression.
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let response = ureq::get(format!("http://{}/api/v1/query", self.address))
            .query("query", expression)
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        let text = response.expect("a response").body_mut().read_to_string().expect("text");
        let result: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(result["status"], "success", "{expression}: {result}\n{}", self.log());
        let samples = result["data"]["result"].as_array().expect("a vector");
        let sample = |sample: &Value| Sample {
            labels: sample["metric"].clone(),
            value: sample["value"][1].as_str().and_then(|text| text.parse().ok()).expect("a number"),
        };
        samples.iter().map(sample).collect()
    }

    /// Value of an expression with one series. Waits for it, because rules are evaluated after a scrape.
    pub fn value(&self, expression: &str) -> f64 {
        let some = || Some(self.query(expression)).filter(|samples| !samples.is_empty());
        let samples = wait_for(expression, START, some);
        let [sample] = samples.as_slice() else { panic!("{expression}: {samples:?}") };
        sample.value
    }

    /// Waits until an expression has this value.
    pub fn wait(&self, expression: &str, value: f64) {
        let mut found = Vec::new();
        let deadline = std::time::Instant::now() + START;
        while std::time::Instant::now() < deadline {
            found = self.query(expression);
            if matches!(found.as_slice(), [sample] if sample.value == value) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{expression} is {found:?} and not {value}\n{}", self.log());
    }

    pub fn log(&self) -> String {
        read_log(&self.directory.path().join("log"))
    }
}
