//! A real Envoy, started with one of the files users start, other ports put in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, read_log};
use super::prometheus::Metrics;
use super::{temp_dir, wait_for};

/// How long Envoy may take to start, or to refuse to. On two busy cores compiling the module takes a second or two.
const START: Duration = Duration::from_secs(30);
/// How long anything else may take that is polled for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to start: a bootstrap, and what differs from it.
#[derive(Clone)]
pub struct EnvoyOptions {
    bootstrap: Value,
    /// The clusters whose endpoints were replaced.
    upstreams: BTreeSet<String>,
    concurrency: u32,
    log_level: String,
    drain_time: Duration,
    /// Starts it in another namespace or as another user, to whom its files then belong.
    launcher: Option<(PathBuf, u32)>,
}

impl EnvoyOptions {
    /// Reads a bootstrap (a path in the repository, `envoy/mysql.yaml`) and moves its listeners and the admin interface to
    /// ephemeral loopback ports, and `*.wasm` to the module under test. All else stays as users have it.
    pub fn new(bootstrap: impl AsRef<Path>) -> Self {
        let path = super::root().join(bootstrap);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let bootstrap = serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::from_value(bootstrap)
    }

    /// The same for a bootstrap that is in no file.
    pub fn from_value(mut bootstrap: Value) -> Self {
        let anywhere = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        bootstrap["admin"]["address"] = anywhere.clone();
        for listener in elements(&mut bootstrap["static_resources"]["listeners"]) {
            if listener.get("address").is_some_and(|address| address.get("socket_address").is_some()) {
                listener["address"] = anywhere.clone();
            }
            for address in listener.get_mut("additional_addresses").into_iter().flat_map(elements) {
                address["address"] = anywhere.clone();
            }
        }
        Self::exactly(bootstrap).wasm(&super::wasm())
    }

    /// A bootstrap in which everything is where it should be.
    pub fn exactly(bootstrap: Value) -> Self {
        Self {
            bootstrap,
            upstreams: BTreeSet::new(),
            concurrency: 1,
            log_level: "info".into(),
            drain_time: Duration::from_secs(600),
            launcher: None,
        }
    }

    /// Where the cluster's endpoints really are. Each cluster needs one: no test may reach the file's own addresses, where
    /// somebody's database may listen.
    pub fn upstream(mut self, cluster: &str, address: SocketAddr) -> Self {
        let mut clusters = elements(&mut self.bootstrap["static_resources"]["clusters"]);
        let Some(found) = clusters.find(|candidate| candidate["name"] == cluster) else {
            panic!("the bootstrap has no cluster {cluster:?}");
        };
        set_each(
            &mut found["load_assignment"],
            "socket_address",
            &mut |_| json!({"address": address.ip().to_string(), "port_value": address.port()}),
        );
        drop(clusters);
        self.upstreams.insert(cluster.to_owned());
        self
    }

    /// The filter's own configuration, JSON, for every plugin of the bootstrap.
    pub fn configuration(self, configuration: impl ToString) -> Self {
        let value = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": configuration.to_string(),
        });
        self.edit(|bootstrap| {
            set_each(bootstrap, "config", &mut |config| {
                let mut config = config.clone();
                if config.get("vm_config").is_some() {
                    config["configuration"] = value.clone();
                }
                config
            });
        })
    }

    /// Another module than the one under test.
    pub fn wasm(self, module: &Path) -> Self {
        self.edit(|bootstrap| {
            set_each(bootstrap, "filename", &mut |filename| match filename.as_str() {
                Some(name) if name.ends_with(".wasm") => json!(module),
                _ => filename.clone(),
            });
        })
    }

    /// Worker threads; each has a VM of its own. One, if nothing is said.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// `info`, if nothing is said.
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// For how long connections of a listener that was replaced may go on, in whole seconds. Ten minutes, if nothing is said.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = time;
        self
    }

    /// Started by a program that becomes the Envoy under test and that user. Its bootstrap is its own affair: no upstreams
    /// are asked for.
    pub fn run_by(mut self, launcher: &Path, user: u32) -> Self {
        self.launcher = Some((launcher.to_owned(), user));
        self
    }

    /// Any other change; indexing creates what is not there.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.bootstrap);
        self
    }

    fn assert_upstreams(&self) {
        for cluster in self.bootstrap["static_resources"]["clusters"].as_array().into_iter().flatten() {
            let addressed = cluster["load_assignment"].to_string().contains("socket_address");
            let given = cluster["name"].as_str().is_some_and(|name| self.upstreams.contains(name));
            assert!(!addressed || given, "no upstream() given for cluster {}", cluster["name"]);
        }
    }
}

fn elements(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}

/// Replaces the value of `key` wherever it occurs.
fn set_each(value: &mut Value, key: &str, replacement: &mut dyn FnMut(&Value) -> Value) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if name == key {
                    *value = replacement(value);
                }
                set_each(value, key, replacement);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| set_each(value, key, replacement)),
        _ => {}
    }
}

/// The files one Envoy writes.
struct Files {
    dir: TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Without the pages of indented lines that list what is linked in.
    fn log(&self) -> String {
        let log = read_log(&self.path("envoy.log"));
        let noise =
            |line: &&str| line.contains("[info][main] [source/server/server.cc:") && line.contains("]   ");
        log.lines().filter(|line| !noise(line)).flat_map(|line| [line, "\n"]).collect()
    }
}

/// A running Envoy; dropped, it ends.
pub struct Envoy {
    process: Process,
    files: Files,
    admin: SocketAddr,
    agent: ureq::Agent,
}

impl Envoy {
    /// Starts it and waits until it serves.
    pub fn start(options: EnvoyOptions) -> Self {
        let (mut process, files) = launch(&options);
        let mut alive = |what: &str| {
            if let Some(status) = process.exited() {
                panic!("Envoy ended ({status}) before its {what}:\n{}", files.log());
            }
        };
        let admin: SocketAddr = wait_for("address of Envoy's admin interface", START, || {
            alive("admin interface");
            std::fs::read_to_string(files.path("admin.address")).ok()?.trim().parse().ok()
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            // An environment's HTTP proxy is not for loopback.
            .proxy(None);
        let agent: ureq::Agent = config.build().into();
        wait_for("ready Envoy", START, || {
            alive("listeners");
            let response = agent.get(format!("http://{admin}/ready")).call().ok()?;
            (response.status() == 200).then_some(())
        });
        Self { process, files, admin, agent }
    }

    /// Starts one that must refuse its configuration: how it ended and what it logged.
    pub fn fails_to_start(options: EnvoyOptions) -> (ExitStatus, String) {
        let (mut process, files) = launch(&options);
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = process.exited() {
                return (status, files.log());
            }
            assert!(
                !files.log().contains("starting main dispatch loop"),
                "Envoy accepted what it should refuse:\n{}",
                files.log()
            );
            sleep(Duration::from_millis(20));
        }
        panic!("Envoy neither started nor ended within {START:?}:\n{}", files.log());
    }

    /// Where the listener of this name really listens.
    pub fn listener_addr(&self, name: &str) -> SocketAddr {
        let listeners: Value =
            serde_json::from_str(&self.admin_get("/listeners?format=json")).expect("JSON of /listeners");
        let listener = listeners["listener_statuses"]
            .as_array()
            .and_then(|list| list.iter().find(|listener| listener["name"] == name))
            .unwrap_or_else(|| panic!("no listener {name:?} in {listeners}"));
        let address = &listener["local_address"]["socket_address"];
        let text = format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"]);
        text.parse().unwrap_or_else(|_| panic!("no address of listener {name:?} in {listener}"))
    }

    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// The body of a GET; anything but 200 panics. `path` may hold a query, encoded.
    pub fn admin_get(&self, path: &str) -> String {
        self.body(path, self.agent.get(self.url(path)).call())
    }

    /// The body of a POST without one, as Envoy's admin interface wants for what changes something.
    pub fn admin_post(&self, path: &str) -> String {
        self.body(path, self.agent.post(self.url(path)).send_empty())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    fn body(&self, path: &str, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> String {
        let mut response = response.unwrap_or_else(|e| panic!("admin {path}: {e}\n{}", self.log()));
        let body =
            response.body_mut().with_config().limit(1 << 30).read_to_string().expect("text of an admin page");
        assert_eq!(response.status(), 200, "admin {path}: {body}");
        body
    }

    /// Counters and gauges by Envoy's own names, those that the regular expression matches.
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        let response = self.agent.get(self.url("/stats")).query("filter", filter).call();
        let text = self.body("/stats", response);
        text.lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// One scrape.
    pub fn prometheus(&self) -> Metrics {
        let text = self.admin_get("/stats/prometheus");
        Metrics::parse(&text).unwrap_or_else(|line| panic!("not a sample: {line}"))
    }

    /// As [`Metrics::get`], of a scrape made now.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.prometheus().get(name, labels)
    }

    /// Scrapes until the metric has this value, and panics with the one it has when that takes too long.
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.prometheus();
            let found = metrics.get(name, labels);
            if found == Some(value) {
                return;
            }
            if Instant::now() > deadline {
                let all: Vec<_> = metrics.select(name, &[]).collect();
                panic!("{name} {labels:?}: {found:?}, not {value}; all of {name}: {all:#?}\n{}", self.log());
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Scrapes until nothing of the filter's has changed for `quiet`, and returns that scrape. With `quiet` longer than two
    /// ticks of the filter, everything that had happened is counted. What runs by itself (the heart beat, the VM's
    /// memory) does not count as change.
    pub fn stable(&self, quiet: Duration) -> Metrics {
        let deadline = Instant::now() + PATIENCE + quiet;
        let mut last = self.prometheus();
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            assert!(Instant::now() < deadline, "the filter's metrics still change:\n{}", self.log());
            sleep(Duration::from_millis(50));
            let now = self.prometheus();
            if of_traffic(&now) != of_traffic(&last) {
                since = Instant::now();
            }
            last = now;
        }
        last
    }

    /// What Envoy and the filter have logged so far.
    pub fn log(&self) -> String {
        self.files.log()
    }

    /// What went to standard output: access logs of a bootstrap that writes them to `/dev/stdout`.
    pub fn stdout(&self) -> String {
        read_log(&self.files.path("envoy.out"))
    }

    /// Waits until the log holds `text`.
    pub fn wait_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in Envoy's log:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGTERM: how it ended and everything it logged.
    pub fn shutdown(mut self) -> (ExitStatus, String) {
        (self.process.stop(), self.log())
    }
}

fn of_traffic(metrics: &Metrics) -> Vec<&super::prometheus::Sample> {
    let by_itself = ["firstword_heartbeat_total", "firstword_vm_memory_bytes"];
    let ours = |name: &str| name.starts_with("firstword_") && !by_itself.contains(&name);
    metrics.samples.iter().filter(|sample| ours(&sample.name)).collect()
}

fn launch(options: &EnvoyOptions) -> (Process, Files) {
    let files = Files { dir: temp_dir() };
    let program = match &options.launcher {
        Some((launcher, user)) => {
            std::os::unix::fs::chown(files.dir.path(), Some(*user), None).expect("a directory for that user");
            launcher.clone()
        }
        None => {
            options.assert_upstreams();
            super::envoy()
        }
    };
    // YAML is read, JSON written: Envoy takes both.
    std::fs::write(files.path("bootstrap.json"), options.bootstrap.to_string()).expect("a bootstrap file");
    let arguments: Vec<OsString> = vec![
        "--config-path".into(),
        files.path("bootstrap.json").into(),
        "--admin-address-path".into(),
        files.path("admin.address").into(),
        // Several Envoys run at once: no shared memory between them.
        "--disable-hot-restart".into(),
        "--concurrency".into(),
        options.concurrency.to_string().into(),
        "--log-level".into(),
        options.log_level.clone().into(),
        "--drain-time-s".into(),
        options.drain_time.as_secs().to_string().into(),
        // Access logs would reach their file after ten seconds.
        "--file-flush-interval-msec".into(),
        "50".into(),
    ];
    let process = Process::start(&program, &arguments, &files.path("envoy.out"), &files.path("envoy.log"));
    (process, files)
}
