//! A listener that is replaced while connections are open.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::{MYSQL, configured, listeners, plugin, with_fast_flush};
use crate::counter_diff::{CounterDiff, assert_clean, ours};
use crate::session_counts::{COMMANDS, COMMANDS_FULL_PROFILE, LOGIN, LOGIN_FULL_PROFILE};
use crate::traffic::{Pair, commands, session};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::Server;
use firstword_testing::shell::{self, translate_resource};
use firstword_testing::{temp_dir, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// The listener of `envoy/mysql.yaml` in its own file, which Envoy watches.
struct Delivery {
    directory: TempDir,
    listener: Value,
    updates: u64,
}

impl Delivery {
    /// Moves the listener out of the bootstrap.
    fn extract(options: EnvoyOptions) -> (Self, EnvoyOptions) {
        let directory = temp_dir();
        let path = Self::path(directory.path());
        let mut listener = Value::Null;
        let options = options.edit(|bootstrap| {
            listener = listeners(bootstrap).remove(0);
            bootstrap["node"] = json!({"id": "test", "cluster": "test"});
            bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]["path"] = json!(path);
        });
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        let delivery = Self { directory, listener, updates: 0 };
        delivery.write(json!([delivery.listener]));
        (delivery, options)
    }

    fn path(directory: &Path) -> PathBuf {
        directory.join("listeners.json")
    }

    /// Writes the file and moves it, because Envoy reads it only when a file is moved to the path.
    fn write(&self, listeners: Value) {
        let new = self.directory.path().join("new.json");
        let mut resources = json!({"resources": listeners});
        translate_resource(&mut resources);
        fs::write(&new, resources.to_string()).expect("a file of listeners");
        fs::rename(new, Self::path(self.directory.path())).expect("a file of listeners");
    }

    /// Changes the listener and waits until all workers use it.
    fn change(&mut self, envoy: &Envoy, change: impl FnOnce(&mut Value)) {
        change(&mut self.listener);
        self.write(json!([self.listener]));
        self.wait_until_active(envoy, 1);
    }

    fn remove(&mut self, envoy: &Envoy) {
        self.write(json!([]));
        self.wait_until_active(envoy, 0);
    }

    fn wait_until_active(&mut self, envoy: &Envoy, active: u64) {
        self.updates += 1;
        let updates = self.updates;
        wait_for("update of listeners", PATIENCE, || {
            let stats = envoy.stats(r"^listener_manager\.");
            let is = |name: &str, value| stats.get(&format!("listener_manager.{name}")) == Some(&value);
            // Envoy counts the first version of the file as an update.
            let updated = is("lds.update_success", updates + 1) && is("total_listeners_warming", 0);
            (updated && is("total_listeners_active", active)).then_some(())
        });
    }
}

/// A change to another configuration of the filter.
fn reconfigure(configuration: Value) -> impl FnOnce(&mut Value) {
    move |listener| {
        plugin(listener)["configuration"]["value"] = json!(with_fast_flush(configuration).to_string())
    }
}

/// The old configuration remains in force for its connections, and its plugin ticks until they have ended.
#[test]
fn connections_outlive_their_configuration_without_lost_counts() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let (mut delivery, options) = Delivery::extract(configured(server.address(), mysql));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    diff.expect(&format!(
        "{LOGIN}
         connections_active{{protocol=mysql}} 1"
    ));
    let silent = Pair::open(address, &server);
    diff.expect("connections_active{protocol=mysql} 1");

    // First a change that does not concern the filter, then another configuration.
    delivery.change(&envoy, |listener| listener["per_connection_buffer_limit_bytes"] = json!(1 << 20));
    delivery.change(&envoy, reconfigure(json!({"metrics": {"profile": "full"}})));
    diff.expect_nothing();
    assert_eq!(envoy.listener_addr(MYSQL), address);

    let mut new = Pair::logged_in(address, &server);
    diff.expect(&format!(
        "{LOGIN}{LOGIN_FULL_PROFILE}
         connections_active{{protocol=mysql}} 1"
    ));
    old.play(&commands());
    diff.expect(COMMANDS);
    old.close();
    diff.expect(
        "connections_closed_total{closed_by=client,phase=command} 1
         connections_active{protocol=mysql} -1",
    );
    silent.close();
    diff.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{closed_by=client,phase=greeting} 1
         connections_active{protocol=mysql} -1",
    );
    new.play(&commands());
    new.close();
    diff.expect(&format!(
        "{COMMANDS}{COMMANDS_FULL_PROFILE}
         connections_closed_total{{closed_by=client,phase=command}} 1
         connections_active{{protocol=mysql}} -1"
    ));
    diff.finish();
}

/// Envoy ends the connections of the old listener before the listener. They are counted, and the old plugin subtracts its
/// share from the gauges.
#[test]
fn the_end_of_an_old_configuration_counts_its_connections() {
    let server = Server::start();
    let options = configured(server.address(), json!({"defaults": {"protocol": "mysql"}}));
    let (mut delivery, options) = Delivery::extract(options.drain_time(Duration::from_secs(1)));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    let mut waiting = Pair::open(address, &server);
    // A command without a response.
    old.play(&session()[3..4]);
    diff.expect(&format!(
        "{LOGIN}
         bytes_total{{sender=client}} 32
         commands_total{{command=query}} 1
         commands_in_flight 1
         connections_active{{protocol=mysql}} 2"
    ));
    delivery.change(&envoy, reconfigure(json!({"metrics": {"profile": "full"}})));
    old.client.assert_finished();
    old.server.assert_finished();
    waiting.client.assert_finished();
    waiting.server.assert_finished();
    diff.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{closed_by=proxy,phase=command} 1
         connections_closed_total{closed_by=proxy,phase=greeting} 1
         commands_in_flight -1
         connections_active{protocol=mysql} -2",
    );
    diff.expect_nothing();
    // The new plugin has seen no connection, so only the seven series of each filter remain.
    let series = 7 * shell::idle_filters();
    assert_eq!(envoy.metric("firstword_series", &[]), Some(series.into()));

    let pair = Pair::logged_in(address, &server);
    pair.close();
    diff.expect(&format!(
        "{LOGIN}{LOGIN_FULL_PROFILE}
         connections_closed_total{{closed_by=client,phase=command}} 1"
    ));
    diff.finish();

    // Envoy removes the counters of a module without a VM, and keeps those of the native module.
    delivery.remove(&envoy);
    if !shell::is_native() {
        wait_for("end of the last VM", PATIENCE, || (ours(&envoy.prometheus()).count() == 0).then_some(()));
    }
    assert_clean(&envoy.log());
}

/// Another `vm_id` or module means another VM. Both VMs add to the same counters while connections of both are open.
#[test]
fn a_new_vm_continues_the_counters_of_the_old_one() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let (mut delivery, options) = Delivery::extract(configured(server.address(), mysql));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    delivery.change(&envoy, |listener| plugin(listener)["vm_config"]["vm_id"] = json!("another"));
    let mut new = Pair::logged_in(address, &server);
    diff.expect(&format!(
        "{LOGIN}{LOGIN}
         connections_active{{protocol=mysql}} 2"
    ));
    for pair in [&mut old, &mut new] {
        pair.play(&commands());
    }
    old.close();
    new.close();
    diff.expect(&format!(
        "{COMMANDS}{COMMANDS}
         connections_closed_total{{closed_by=client,phase=command}} 2
         connections_active{{protocol=mysql}} -2"
    ));
    diff.finish();
}

/// Envoy does not notify the old configuration of the new one.
#[test]
fn the_mode_of_a_new_configuration_reaches_open_connections() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let (mut delivery, options) = Delivery::extract(configured(server.address(), mysql));
    let envoy = Envoy::start(options);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut open = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    diff.expect(&format!("{LOGIN} connections_active{{protocol=mysql}} 1"));
    delivery.change(&envoy, reconfigure(json!({"mode": "off"})));
    diff.expect("opaque_total{reason=configured} 1");
    open.play(&commands());
    open.close();
    diff.expect(
        "bytes_total{sender=client} 251
         bytes_total{sender=server} 382
         connections_closed_total{closed_by=client,phase=opaque} 1
         connections_active{protocol=mysql} -1",
    );
}

/// The old configuration remains in force if the new one is refused. No connection is closed.
#[test]
fn a_refused_configuration_changes_nothing() {
    const OPEN: usize = 200;
    let server = Server::start();
    let (delivery, options) = Delivery::extract(configured(server.address(), json!({})));
    let envoy = Envoy::start(options);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let address = envoy.listener_addr(MYSQL);
    let mut pairs: Vec<_> = (0..OPEN).map(|_| Pair::logged_in(address, &server)).collect();
    let mut listener = delivery.listener.clone();
    reconfigure(json!({"mode": "of"}))(&mut listener);
    delivery.write(json!([listener]));
    envoy.wait_log(r#"configuration refused: $.mode: expected "active", "observe" or "off", found "of""#);
    wait_for("refusal", PATIENCE, || {
        let rejected = envoy.stats(r"^listener_manager\.lds\.update_rejected$");
        (rejected.values().sum::<u64>() == 1).then_some(())
    });
    for pair in &mut pairs {
        pair.play(&commands());
    }
    pairs.into_iter().for_each(Pair::close);
    Pair::logged_in(envoy.listener_addr(MYSQL), &server).close();
    let closed = "connections_closed_total{closed_by=client,phase=command} 1\n";
    diff.expect(&[format!("{LOGIN}{COMMANDS}{closed}").repeat(OPEN), format!("{LOGIN}{closed}")].concat());
    // The expected counts show that the filter has exported its metrics since the refusal.
    assert_eq!(envoy.metric("firstword_config_rejected", &[]), Some(0.0));
}

/// The filter of the main thread and that of the worker run with the defaults. Envoy keeps them for an open connection after
/// the configuration was corrected.
#[test]
fn the_gauge_of_rejected_configurations_follows_the_newest_configuration() {
    let server = Server::start();
    let (mut delivery, options) = Delivery::extract(configured(server.address(), json!({"mode": "of"})));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let rejected = |number| envoy.wait_metric("firstword_config_rejected", &[], number);
    rejected(shell::idle_filters().into());
    let mut open = Pair::logged_in(address, &server);

    delivery.change(&envoy, reconfigure(json!({"mode": "observe"})));
    rejected(0.0);
    open.play(&commands());

    // Envoy does not ask again about the text that it still runs.
    delivery.change(&envoy, reconfigure(json!({"mode": "of"})));
    let new = Pair::logged_in(address, &server);
    rejected(1.0);
    delivery.change(&envoy, reconfigure(json!({"mode": "active"})));
    rejected(0.0);
    open.close();
    new.close();
    assert_eq!(envoy.stat(r"^wasm\.envoy\.wasm\.runtime\.v8\.fail"), 0);
    let log = envoy.log();
    assert!(!log.contains("configuration refused"), "{log}");
}

/// Commands without a response while their configuration is replaced, on two workers. The old plugin exports them, and
/// subtracts them when a response arrives, the client resets, or Envoy ends the old listener.
#[test]
fn stalled_commands_outlive_their_configuration_and_leave_no_count() {
    const EACH: usize = 10;
    let server = Server::start();
    let stall_early = json!({"defaults": {"protocol": "mysql"}, "metrics": {"stall": "1ms"}});
    let options =
        configured(server.address(), stall_early.clone()).concurrency(2).drain_time(Duration::from_secs(8));
    let (mut delivery, options) = Delivery::extract(options);
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let stalled = || {
        let mut pair = Pair::logged_in(address, &server);
        pair.play(&session()[3..4]);
        pair
    };
    let counts = "
        bytes_total{sender=client} 32
        commands_total{command=query} 1
        commands_in_flight 1
        commands_stalled 1
        connections_active{protocol=mysql} 1
    ";
    let mut pairs: Vec<_> = (0..3 * EACH).map(|_| stalled()).collect();
    diff.expect(&format!("{LOGIN}{counts}").repeat(3 * EACH));
    let mut full = stall_early;
    full["metrics"]["profile"] = json!("full");
    delivery.change(&envoy, reconfigure(full));
    let new = stalled();
    diff.expect(&format!("{LOGIN}{LOGIN_FULL_PROFILE}{counts}packets_total{{sender=client}} 1\n"));

    for mut answered in pairs.drain(..EACH) {
        answered.play(&session()[4..5]);
        answered.close();
    }
    for left in pairs.drain(..EACH) {
        left.client.reset();
    }
    // Envoy ends the others.
    for drained in &mut pairs {
        drained.client.assert_finished();
    }
    let (_, response) = &session()[4];
    let ended = "commands_in_flight -1\n commands_stalled -1\n connections_active{protocol=mysql} -1\n";
    let answered = format!(
        "bytes_total{{sender=server}} {}
         command_duration_seconds_count{{command=query}} 1
         statements_total{{verb=select}} 1
         rows_total 1
         connections_closed_total{{closed_by=client,phase=command}} 1
         {ended}",
        response.len()
    );
    let left = format!("connections_closed_total{{closed_by=client,phase=command}} 1\n{ended}");
    let drained = format!("connections_closed_total{{closed_by=proxy,phase=command}} 1\n{ended}");
    diff.expect(&[answered, left, drained].map(|lines| lines.repeat(EACH)).concat());
    new.close();
    diff.expect(&format!("connections_closed_total{{closed_by=client,phase=command}} 1\n{ended}"));
    diff.finish();
}
