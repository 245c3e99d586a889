//! A real Envoy, with a bootstrap of `envoy/` on other ports.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, read_log};
use super::prometheus::Metrics;
use super::{temp_dir, wait_for};

/// Maximum time in which Envoy starts or refuses to start. On two busy cores compiling the module takes a second or two.
const START: Duration = Duration::from_secs(30);
/// Maximum time of everything else that is polled for.
const PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT: &str = "firstword_heartbeat_total";
/// Ticks in one flush of the main thread's filter and one of a worker's: two each, with the default flush interval.
const FLUSH_OF_ALL: f64 = 4.0;

/// A bootstrap, and changes to it.
#[derive(Clone)]
pub struct EnvoyOptions {
    bootstrap: Value,
    /// Clusters with replaced endpoints.
    upstreams: BTreeSet<String>,
    concurrency: u32,
    log_level: String,
    drain_time: Duration,
    program: PathBuf,
    /// Further arguments for Envoy.
    arguments: Vec<OsString>,
    /// Variables for Envoy, as `NAME=VALUE`.
    environment: Vec<OsString>,
    /// Program that starts Envoy in another namespace or as another user, and the user that then owns Envoy's files.
    launcher: Option<(PathBuf, u32)>,
}

impl EnvoyOptions {
    /// Reads a bootstrap (a path in the repository, `envoy/mysql.yaml`). Moves its listeners and the admin interface to
    /// ephemeral loopback ports, and replaces `*.wasm` by the module under test. Nothing else changes.
    pub fn new(bootstrap: impl AsRef<Path>) -> Self {
        Self::from_value(read(bootstrap.as_ref()))
    }

    /// Does the same as [`EnvoyOptions::new`] to a bootstrap that is not in a file. Listeners that are not bound keep their
    /// addresses.
    pub fn from_value(mut bootstrap: Value) -> Self {
        let ephemeral = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        for listener in elements(&mut bootstrap["static_resources"]["listeners"]) {
            let bound = listener.get("bind_to_port") != Some(&json!(false));
            if bound && listener.get("address").is_some_and(|address| address.get("socket_address").is_some())
            {
                listener["address"] = ephemeral.clone();
            }
            for address in listener.get_mut("additional_addresses").into_iter().flat_map(elements) {
                address["address"] = ephemeral.clone();
            }
        }
        Self::with_addresses(bootstrap)
    }

    /// Reads a bootstrap as [`EnvoyOptions::new`] does, but keeps the order of its ports: ports, port ranges and matches of
    /// ports move by the same distance, to free ports. Also returns the distance.
    pub fn with_moved_ports(bootstrap: impl AsRef<Path>) -> (Self, u16) {
        let mut bootstrap = read(bootstrap.as_ref());
        let listeners = &mut bootstrap["static_resources"]["listeners"];
        let mut ports = Vec::new();
        set_each(listeners, "port_value", &mut |port| {
            ports.push(port_number(port));
            port.clone()
        });
        let is_free = |port: &u16, by: u16| TcpListener::bind(super::loopback(port + by)).is_ok();
        // Below the kernel's ephemeral ports. Two Envoys can share a port without an error, so processes and threads that search
        // at the same time begin at different ports.
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = std::process::id().wrapping_mul(31).wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed));
        let first = u16::try_from(call % 800 * 10).expect("less than 8000");
        let distance = (first..9_000).step_by(10).find(|by| ports.iter().all(|port| is_free(port, *by)));
        let distance = distance.expect("free ports");
        for key in ["port_value", "destination_port", "start", "end"] {
            set_each(listeners, key, &mut |port| json!(port_number(port) + distance));
        }
        (Self::with_addresses(bootstrap), distance)
    }

    fn with_addresses(mut bootstrap: Value) -> Self {
        bootstrap["admin"]["address"] = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        if bootstrap.to_string().contains("libfirstword.so") {
            return Self::unchanged(bootstrap).native(&super::shell::native());
        }
        Self::unchanged(bootstrap).wasm(&super::wasm())
    }

    /// Takes a bootstrap in which nothing needs to be replaced.
    pub fn unchanged(bootstrap: Value) -> Self {
        Self {
            bootstrap,
            upstreams: BTreeSet::new(),
            concurrency: 1,
            log_level: "info".into(),
            drain_time: Duration::from_secs(600),
            program: super::envoy(),
            arguments: Vec::new(),
            environment: Vec::new(),
            launcher: None,
        }
    }

    /// Adds the labels at the end of `envoy/mysql.yaml`, with the option that the first lines of the other files name.
    pub fn labels(mut self) -> Self {
        let text = text(Path::new("envoy/mysql.yaml"));
        let (_, labels) = text.split_once("\nstats_config:\n").expect("stats_config in envoy/mysql.yaml");
        self.arguments.extend(["--config-yaml".into(), format!("stats_config:\n{labels}").into()]);
        self
    }

    /// Replaces the endpoints of a cluster. Each cluster needs this, because a real database may listen on the addresses of the
    /// file.
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

    /// Sets the JSON configuration of every plugin of the bootstrap.
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
            set_each(bootstrap, "filter_config", &mut |_| value.clone());
        })
    }

    /// Sets another module than the one under test.
    pub fn wasm(self, module: &Path) -> Self {
        self.edit(|bootstrap| {
            set_each(bootstrap, "filename", &mut |filename| match filename.as_str() {
                Some(name) if name.ends_with(".wasm") => json!(module),
                _ => filename.clone(),
            });
        })
    }

    /// Sets another native module than the one under test.
    pub fn native(self, module: &Path) -> Self {
        self.edit(|bootstrap| {
            set_each(bootstrap, "filename", &mut |filename| match filename.as_str() {
                Some(name) if name.ends_with(".so") => json!(module),
                _ => filename.clone(),
            });
        })
    }

    /// Sets the number of worker threads, each with its own VM. The default is 1.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets the log level. The default is `info`.
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Sets the time, in whole seconds, after which connections of a replaced listener are closed. The default is ten minutes.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = time;
        self
    }

    /// Sets another Envoy than the one under test.
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Sets an environment variable of Envoy.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}").into());
        self
    }

    /// Sets a program that becomes the Envoy under test, as this user. Such a bootstrap needs no [`EnvoyOptions::upstream`].
    pub fn run_by(mut self, launcher: &Path, user: u32) -> Self {
        self.launcher = Some((launcher.to_owned(), user));
        self
    }

    /// Makes any other change. Indexing creates missing objects.
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

fn text(path: &Path) -> String {
    let path = super::root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Value {
    serde_norway::from_str(&text(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn port_number(value: &Value) -> u16 {
    value.as_u64().and_then(|port| port.try_into().ok()).unwrap_or_else(|| panic!("{value} is no port"))
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

/// The files that one Envoy writes.
struct Files {
    dir: TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The log, without the pages of indented lines that list the extensions.
    fn log(&self) -> String {
        let log = read_log(&self.path("envoy.log"));
        let noise =
            |line: &&str| line.contains("[info][main] [source/server/server.cc:") && line.contains("]   ");
        log.lines().filter(|line| !noise(line)).flat_map(|line| [line, "\n"]).collect()
    }
}

/// A running Envoy. When it is dropped, it ends.
pub struct Envoy {
    process: Process,
    files: Files,
    admin: SocketAddr,
    agent: ureq::Agent,
}

impl Envoy {
    /// Starts an Envoy, and waits until it is ready.
    pub fn start(options: EnvoyOptions) -> Self {
        let mut envoy = Self::launch(options);
        wait_for("ready Envoy", START, || {
            envoy.assert_alive("listeners");
            (envoy.readiness() == "LIVE").then_some(())
        });
        envoy
    }

    /// Starts an Envoy, and waits for its admin interface only.
    pub fn launch(options: EnvoyOptions) -> Self {
        let (process, files) = launch(&options);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            // The HTTP proxy of the environment is not for loopback.
            .proxy(None);
        let unknown = super::loopback(0);
        let mut envoy = Self { process, files, admin: unknown, agent: config.build().into() };
        envoy.admin = wait_for("address of Envoy's admin interface", START, || {
            envoy.assert_alive("admin interface");
            std::fs::read_to_string(envoy.files.path("admin.address")).ok()?.trim().parse().ok()
        });
        envoy
    }

    fn assert_alive(&mut self, what: &str) {
        if let Some(status) = self.process.exit_status() {
            panic!("Envoy ended ({status}) before its {what}:\n{}", self.files.log());
        }
    }

    /// The response to a readiness probe: `LIVE` or a state before it. Empty if there is no response.
    pub fn readiness(&self) -> String {
        let response = self.agent.get(self.url("/ready")).call();
        let text = response.ok().and_then(|mut response| response.body_mut().read_to_string().ok());
        text.unwrap_or_default().trim().to_owned()
    }

    /// Starts an Envoy that must refuse its configuration. Returns its exit status and its log.
    pub fn start_refused(options: EnvoyOptions) -> (ExitStatus, String) {
        let (mut process, files) = launch(&options);
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = process.exit_status() {
                return (status, files.log());
            }
            assert!(
                !files.log().contains("starting main dispatch loop"),
                "Envoy accepted a configuration that it must refuse:\n{}",
                files.log()
            );
            sleep(Duration::from_millis(20));
        }
        panic!("Envoy neither started nor ended within {START:?}:\n{}", files.log());
    }

    /// The real address of the listener with this name.
    pub fn listener_addr(&self, name: &str) -> SocketAddr {
        self.try_listener_addr(name).unwrap_or_else(|| panic!("no listener {name:?}:\n{}", self.log()))
    }

    /// The real address of the listener with this name. `None` if there is no such listener.
    pub fn try_listener_addr(&self, name: &str) -> Option<SocketAddr> {
        let listeners: Value =
            serde_json::from_str(&self.admin_get("/listeners?format=json")).expect("JSON of /listeners");
        let listener =
            listeners["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == name)?;
        let address = &listener["local_address"]["socket_address"];
        let ip = address["address"].as_str()?.parse();
        let ip: IpAddr = ip.unwrap_or_else(|_| panic!("no address of listener {name:?} in {listener}"));
        Some((ip, port_number(&address["port_value"])).into())
    }

    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// The body of the response to a GET. Panics if its status is not 200. `path` may hold an encoded query.
    pub fn admin_get(&self, path: &str) -> String {
        self.body(path, self.agent.get(self.url(path)).call())
    }

    /// The body of the response to a POST without a body. Envoy's admin interface requires POST for changes.
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

    /// Counters and gauges by Envoy's own names, if the regular expression matches the name.
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        let response = self.agent.get(self.url("/stats")).query("filter", filter).call();
        let text = self.body("/stats", response);
        text.lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// The sum of [`Envoy::stats`].
    pub fn stat(&self, filter: &str) -> u64 {
        self.stats(filter).values().sum()
    }

    /// Waits until [`Envoy::stat`] has this value.
    pub fn wait_stat(&self, filter: &str, value: u64) {
        wait_for(&format!("{filter} of {value}"), PATIENCE, || (self.stat(filter) == value).then_some(()));
    }

    /// Scrapes Envoy once.
    pub fn prometheus(&self) -> Metrics {
        let text = self.admin_get("/stats/prometheus");
        Metrics::parse(&text).unwrap_or_else(|line| panic!("not a sample: {line}"))
    }

    /// Scrapes Envoy, and returns the result of [`Metrics::get`].
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.prometheus().get(name, labels)
    }

    /// Ticks of all filters so far. It is 0 before their first flush, and without the filter.
    pub fn ticks(&self) -> f64 {
        ticks(&self.prometheus())
    }

    /// Scrapes until the metric has this value. Panics with its value after a time limit.
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

    /// Scrapes until no metric of the filter has changed for `quiet`, and returns the last scrape. The heartbeat and the VM's
    /// memory are ignored. If `quiet` is longer than two ticks of the filter, the scrape includes everything that has happened:
    /// on a machine that is too busy for a tick in that time, the wait is up to three times as long.
    pub fn stable(&self, quiet: Duration) -> Metrics {
        let longest = 3 * quiet;
        let deadline = Instant::now() + PATIENCE + longest;
        let mut last = self.prometheus();
        let mut since = Instant::now();
        let mut begin = ticks(&last);
        loop {
            let elapsed = since.elapsed();
            let has_flushed = ticks(&last) >= begin + FLUSH_OF_ALL;
            if elapsed >= longest || elapsed >= quiet && has_flushed {
                return last;
            }
            assert!(Instant::now() < deadline, "the filter's metrics still change:\n{}", self.log());
            sleep(Duration::from_millis(50));
            let now = self.prometheus();
            if of_traffic(&now) != of_traffic(&last) {
                since = Instant::now();
                begin = ticks(&now);
            }
            last = now;
        }
    }

    /// The log of Envoy and the filter so far.
    pub fn log(&self) -> String {
        self.files.log()
    }

    /// The standard output: access logs of a bootstrap that writes them to `/dev/stdout`.
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

    /// Sends SIGTERM. Returns the exit status and the whole log.
    pub fn shutdown(mut self) -> (ExitStatus, String) {
        (self.process.stop(), self.log())
    }
}

/// See [`Envoy::ticks`].
fn ticks(metrics: &Metrics) -> f64 {
    metrics.get(HEARTBEAT, &[]).unwrap_or_default()
}

fn of_traffic(metrics: &Metrics) -> Vec<&super::prometheus::Sample> {
    let ignored = [HEARTBEAT, "firstword_vm_memory_bytes"];
    let ours = |name: &str| name.starts_with("firstword_") && !ignored.contains(&name);
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
            options.program.clone()
        }
    };
    let mut bootstrap = options.bootstrap.clone();
    super::shell::translate_bootstrap(&mut bootstrap);
    // Envoy reads JSON as well as YAML.
    std::fs::write(files.path("bootstrap.json"), bootstrap.to_string()).expect("a bootstrap file");
    let mut arguments: Vec<OsString> = vec![
        "--config-path".into(),
        files.path("bootstrap.json").into(),
        "--admin-address-path".into(),
        files.path("admin.address").into(),
        // Several Envoys run at once, and must not share memory.
        "--disable-hot-restart".into(),
        "--concurrency".into(),
        options.concurrency.to_string().into(),
        "--log-level".into(),
        options.log_level.clone().into(),
        "--drain-time-s".into(),
        options.drain_time.as_secs().to_string().into(),
        // By default access logs reach their file after ten seconds.
        "--file-flush-interval-msec".into(),
        "50".into(),
    ];
    arguments.extend(options.arguments.iter().cloned());
    // `env` becomes Envoy.
    let (program, arguments) = match options.environment.as_slice() {
        [] => (program, arguments),
        variables => {
            let all = variables.iter().cloned().chain([program.into()]).chain(arguments);
            ("/usr/bin/env".into(), all.collect())
        }
    };
    let process = Process::start(&program, &arguments, &files.path("envoy.out"), &files.path("envoy.log"));
    (process, files)
}
