//! The steps of a rollout under load.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::delivery::{Delivery, MYSQL, allow_all};
use crate::pool::{Pool, SIZE};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::process::raise_open_files;
use firstword_testing::{table, wait_for};

/// Value of `--drain-time-s`: the time that Envoy gives connections of a replaced filter chain.
const DRAIN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

struct Rollout {
    envoy: Envoy,
    delivery: Delivery,
    pool: Option<Pool>,
    rows: Vec<Vec<String>>,
}

impl Rollout {
    fn start(server: &MariaDb) -> Self {
        let (delivery, options) = Delivery::new(server.addr());
        let envoy = Envoy::start(options.concurrency(2).drain_time(DRAIN));
        Self { envoy, delivery, pool: None, rows: Vec::new() }
    }

    /// Makes a change while five hundred connections are open, and adds a row with its effects.
    fn step(&mut self, name: &str, by: &str, change: impl FnOnce(&Delivery, &Envoy)) {
        let address = self.envoy.listener_addr(MYSQL);
        let mut pool = self.pool.take().unwrap_or_else(|| Pool::open(address));
        assert_eq!(pool.drop_ended(), 0, "before {name}");
        let begin = Instant::now();
        change(&self.delivery, &self.envoy);
        let (mut cut, mut early, mut quiet_since) = (0, 0, Instant::now());
        // Wait longer than the drain time, and until nothing drains any more.
        loop {
            let now_cut = pool.drop_ended();
            // We see a cut a moment later, so a cut that we see before the drain time ends happened before that.
            if begin.elapsed() < DRAIN {
                early += now_cut;
            }
            cut += now_cut;
            if now_cut > 0 {
                quiet_since = Instant::now();
            }
            let draining = r"^listener_manager\.total_(filter_chains|listeners)_draining$";
            let over = begin.elapsed() > DRAIN + Duration::from_secs(2)
                && quiet_since.elapsed() > Duration::from_secs(1)
                && self.envoy.stat(draining) == 0;
            if over {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{name}: still draining");
            sleep(Duration::from_millis(20));
        }
        let when = match (cut, early) {
            (0, _) => "",
            (_, 0) => "when the drain time ends",
            (_, _) if cut == early => "at once",
            _ => "in the drain time and when it ends",
        };
        let open = if cut == SIZE { "" } else { self.open_connections(&mut pool) };
        let new = self.new_connection();
        self.rows.push([name, by, &cut.to_string(), when, open, new].map(str::to_owned).to_vec());
        println!("{:?}", self.rows.last());
        self.pool = (cut == 0).then_some(pool);
    }

    /// Whether the filter counts commands of open connections. Asserts that they receive responses.
    fn open_connections(&self, pool: &mut Pool) -> &'static str {
        let responses = pool.responses();
        let count = |envoy: &Envoy| envoy.metric("firstword_commands_total", &[("command", "statistics")]);
        wait_for_flushes(&self.envoy);
        let before = count(&self.envoy).unwrap_or_default();
        let sent = pool.query_statistics();
        wait_for_flushes(&self.envoy);
        let now = count(&self.envoy).unwrap_or_default();
        assert!(pool.responses() > responses, "the busy connections have stopped");
        #[allow(clippy::cast_precision_loss)]
        match now - before {
            0.0 => "not seen",
            all if all == sent as f64 => "inspected",
            some => panic!("{some} of {sent} connections are inspected"),
        }
    }

    /// Whether the filter inspects a new connection. Asserts that its client can log in.
    fn new_connection(&self) -> &'static str {
        let count = |protocol| {
            let labels = [("protocol", protocol)];
            self.envoy.metric("firstword_connections_total", &labels).unwrap_or_default()
        };
        wait_for_flushes(&self.envoy);
        let before = (count("mysql"), count("opaque"));
        let client = Client::login(self.envoy.listener_addr(MYSQL), &Login::new(CLASSIC));
        wait_for_flushes(&self.envoy);
        client.quit();
        match (count("mysql") - before.0, count("opaque") - before.1) {
            (0.0, 0.0) => "not seen",
            (1.0, 0.0) => "inspected",
            (0.0, 1.0) => "passed unseen",
            other => panic!("{other:?} connections counted for one"),
        }
    }
}

/// Waits until each VM has flushed several times.
pub fn wait_for_flushes(envoy: &Envoy) {
    let begin = envoy.ticks();
    wait_for("ticks", PATIENCE, || {
        let no_vm = envoy.stat(r"^wasm\.envoy\.wasm\.runtime\.v8\.active$") == 0;
        (no_vm || envoy.ticks() >= begin + 16.0).then_some(())
    });
}

/// A module with other bytes, as of another release: it has an additional custom section.
fn another_module(delivery: &Delivery) -> PathBuf {
    let mut module = std::fs::read(firstword_testing::wasm()).expect("the module");
    module.extend(b"\0\x09\x07another1");
    let path = delivery.path("another");
    std::fs::write(&path, module).expect("a module");
    path
}

fn with_module(mut filter: Value, module: &Path) -> Value {
    filter["config"]["vm_config"]["code"]["local"]["filename"] = json!(module);
    filter
}

fn by_lds(server: &MariaDb) -> Vec<Vec<String>> {
    let mut rollout = Rollout::start(server);
    let inline = |delivery: &Delivery, configuration| Some(Delivery::inline(delivery.filter(configuration)));
    let (empty, full) = (json!({}), json!({"metrics": {"profile": "full"}}));

    rollout.step("put the filter in", "LDS", |delivery, envoy| {
        delivery.listener(envoy, inline(delivery, &empty));
    });
    rollout.step("change the configuration", "LDS", |delivery, envoy| {
        delivery.listener(envoy, inline(delivery, &full));
    });
    let before = vms_created(&rollout.envoy);
    rollout.step("change the module", "LDS", |delivery, envoy| {
        let filter = with_module(delivery.filter(&full), &another_module(delivery));
        delivery.listener(envoy, Some(Delivery::inline(filter)));
    });
    assert!(vms_created(&rollout.envoy) > before, "the module was not loaded");
    rollout.step("take the filter out", "LDS", |delivery, envoy| delivery.listener(envoy, None));
    // A chain without connections.
    let other_chain = |listener: &mut Value| {
        let mut other = listener["filter_chains"][0].clone();
        other["filter_chain_match"] = json!({"destination_port": 1});
        listener["filter_chains"].as_array_mut().expect("filter chains").push(other);
    };
    rollout.step("add another filter chain", "LDS", |delivery, envoy| {
        delivery.changed(envoy, None, other_chain);
    });
    rollout.step("change the listener beside its filter chains", "LDS", |delivery, envoy| {
        delivery.changed(envoy, None, |listener| {
            other_chain(listener);
            listener["listener_filters_timeout"] = json!("1s");
        });
    });
    rollout.rows
}

fn by_ecds(server: &MariaDb) -> Vec<Vec<String>> {
    let mut rollout = Rollout::start(server);
    let ecds = |name: &str, rollout: &mut Rollout, filter: &dyn Fn(&Delivery) -> Value| {
        rollout.step(name, "ECDS", |delivery, envoy| delivery.extension(envoy, Some(filter(delivery))));
    };
    let full = json!({"metrics": {"profile": "full"}});

    rollout.step("put a reference to the filter in, with a `default_config`", "LDS", |delivery, envoy| {
        delivery.listener(envoy, Some(delivery.by_ecds(Some(allow_all()))));
    });
    ecds("deliver the filter", &mut rollout, &|delivery| delivery.filter(&json!({})));
    // Open new connections, so that the filter is in all of them.
    rollout.pool = None;
    ecds("change the configuration", &mut rollout, &|delivery| delivery.filter(&full));
    let before = vms_created(&rollout.envoy);
    ecds("change the module", &mut rollout, &|delivery| {
        with_module(delivery.filter(&full), &another_module(delivery))
    });
    assert!(vms_created(&rollout.envoy) > before, "the module was not loaded");
    for mode in ["observe", "off"] {
        let configuration = json!({"mode": mode});
        ecds(&format!("`mode: {mode}`"), &mut rollout, &|delivery| delivery.filter(&configuration));
    }
    ecds("deliver an allow-all RBAC instead", &mut rollout, &|_| allow_all());
    rollout.rows
}

/// Number of VMs that Envoy has created.
fn vms_created(envoy: &Envoy) -> u64 {
    envoy.stat(r"^wasm\.envoy\.wasm\.runtime\.v8\.created$")
}

#[test]
fn the_readme_has_the_effect_of_each_step() {
    // A thousand connections exceed the default limit.
    raise_open_files();
    // A pool of threads, because both rollouts together have a thousand connections.
    let server = MariaDb::start(&[
        "--max-connections=1200",
        "--thread-handling=pool-of-threads",
        "--thread-pool-max-threads=600",
    ]);
    let (lds, ecds) = thread::scope(|scope| {
        let lds = scope.spawn(|| by_lds(&server));
        let ecds = by_ecds(&server);
        (lds.join().unwrap_or_else(|panic| resume_unwind(panic)), ecds)
    });
    let header = [
        "step",
        "delivered by",
        "connections cut, of 500",
        "when",
        "connections that stay open",
        "new connections",
    ];
    let rows: Vec<_> = [vec![header.map(str::to_owned).to_vec()], lds, ecds].concat();
    table::assert_says("docs/failure-modes.md", &rows);
}
