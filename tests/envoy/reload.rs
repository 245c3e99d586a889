//! A listener that is replaced while connections live.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::{MYSQL, configured, listeners, plugin, soon};
use crate::counted::{COMMANDS, COMMANDS_IN_FULL, LOGIN, LOGIN_IN_FULL};
use crate::ledger::{Ledger, assert_clean, ours};
use crate::traffic::{Pair, commands, session};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::Server;
use firstword_testing::{temp_dir, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// The listener of `envoy/mysql.yaml` in a file of its own, which Envoy follows.
struct Delivery {
    directory: TempDir,
    listener: Value,
    updates: u64,
}

impl Delivery {
    /// Takes the listener out of the bootstrap.
    fn of(options: EnvoyOptions) -> (Self, EnvoyOptions) {
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

    /// Envoy looks when a file is moved to where it watches.
    fn write(&self, listeners: Value) {
        let new = self.directory.path().join("new.json");
        fs::write(&new, json!({"resources": listeners}).to_string()).expect("a file of listeners");
        fs::rename(new, Self::path(self.directory.path())).expect("a file of listeners");
    }

    /// Changes the listener and waits until all workers have taken it.
    fn change(&mut self, envoy: &Envoy, change: impl FnOnce(&mut Value)) {
        change(&mut self.listener);
        self.write(json!([self.listener]));
        self.taken(envoy, 1);
    }

    fn remove(&mut self, envoy: &Envoy) {
        self.write(json!([]));
        self.taken(envoy, 0);
    }

    fn taken(&mut self, envoy: &Envoy, active: u64) {
        self.updates += 1;
        let updates = self.updates;
        wait_for("update of listeners", PATIENCE, || {
            let stats = envoy.stats(r"^listener_manager\.");
            let is = |name: &str, value| stats.get(&format!("listener_manager.{name}")) == Some(&value);
            // The first version of the file is an update too.
            let taken = is("lds.update_success", updates + 1) && is("total_listeners_warming", 0);
            (taken && is("total_listeners_active", active)).then_some(())
        });
    }
}

/// Another configuration of the filter.
fn reconfigure(configuration: Value) -> impl FnOnce(&mut Value) {
    move |listener| plugin(listener)["configuration"]["value"] = json!(soon(configuration).to_string())
}

/// The old configuration goes on for its connections, and ticks as long as Envoy lets them live.
#[test]
fn connections_outlive_their_configuration_and_lose_nothing() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let (mut delivery, options) = Delivery::of(configured(server.address(), mysql));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    ledger.expect(&format!(
        "{LOGIN}
         connections_active{{protocol=mysql}} 1"
    ));
    let silent = Pair::open(address, &server);
    ledger.expect("connections_active{protocol=mysql} 1");

    // First a change that is none of the filter's, then another configuration.
    delivery.change(&envoy, |listener| listener["per_connection_buffer_limit_bytes"] = json!(1 << 20));
    delivery.change(&envoy, reconfigure(json!({"metrics": {"profile": "full"}})));
    ledger.rest();
    assert_eq!(envoy.listener_addr(MYSQL), address);

    let mut new = Pair::logged_in(address, &server);
    ledger.expect(&format!(
        "{LOGIN}{LOGIN_IN_FULL}
         connections_active{{protocol=mysql}} 1"
    ));
    old.play(&commands());
    ledger.expect(COMMANDS);
    old.close();
    ledger.expect(
        "connections_closed_total{by=client,phase=command} 1
         connections_active{protocol=mysql} -1",
    );
    silent.close();
    ledger.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{by=client,phase=greeting} 1
         connections_active{protocol=mysql} -1",
    );
    new.play(&commands());
    new.close();
    ledger.expect(&format!(
        "{COMMANDS}{COMMANDS_IN_FULL}
         connections_closed_total{{by=client,phase=command}} 1
         connections_active{{protocol=mysql}} -1"
    ));
    ledger.finish();
}

/// When Envoy ends the old listener it ends its connections first: they are counted, and what the old plugin held of the
/// gauges is given back.
#[test]
fn an_old_configuration_ends_with_its_last_word() {
    let server = Server::start();
    let options = configured(server.address(), json!({"defaults": {"protocol": "mysql"}}));
    let (mut delivery, options) = Delivery::of(options.drain_time(Duration::from_secs(1)));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    let mut waiting = Pair::open(address, &server);
    // A command without an answer.
    old.play(&session()[3..4]);
    ledger.expect(&format!(
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
    ledger.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{by=proxy,phase=command} 1
         connections_closed_total{by=proxy,phase=greeting} 1
         commands_in_flight -1
         connections_active{protocol=mysql} -2",
    );
    ledger.rest();
    // The new plugin has seen no connection: what is left are the six series of each of the two VMs.
    assert_eq!(envoy.metric("firstword_series", &[]), Some(12.0));

    let pair = Pair::logged_in(address, &server);
    pair.close();
    ledger.expect(&format!(
        "{LOGIN}{LOGIN_IN_FULL}
         connections_closed_total{{by=client,phase=command}} 1"
    ));
    ledger.finish();

    // Envoy forgets the counters of a module that is gone.
    delivery.remove(&envoy);
    wait_for("end of the last VM", PATIENCE, || (ours(&envoy.prometheus()).count() == 0).then_some(()));
    assert_clean(&envoy.log());
}

/// Another `vm_id`, or another module, is another VM. It adds to the same counters as long as connections of both live.
#[test]
fn a_new_vm_goes_on_with_the_old_ones_counters() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let (mut delivery, options) = Delivery::of(configured(server.address(), mysql));
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut old = Pair::logged_in(address, &server);
    delivery.change(&envoy, |listener| plugin(listener)["vm_config"]["vm_id"] = json!("another"));
    let mut new = Pair::logged_in(address, &server);
    ledger.expect(&format!(
        "{LOGIN}{LOGIN}
         connections_active{{protocol=mysql}} 2"
    ));
    for pair in [&mut old, &mut new] {
        pair.play(&commands());
    }
    old.close();
    new.close();
    ledger.expect(&format!(
        "{COMMANDS}{COMMANDS}
         connections_closed_total{{by=client,phase=command}} 2
         connections_active{{protocol=mysql}} -2"
    ));
    ledger.finish();
}

/// A configuration that is refused leaves the old one in place.
#[test]
fn a_refused_configuration_changes_nothing() {
    let server = Server::start();
    let (delivery, options) = Delivery::of(configured(server.address(), json!({})));
    let envoy = Envoy::start(options);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    let mut listener = delivery.listener.clone();
    reconfigure(json!({"mode": "of"}))(&mut listener);
    delivery.write(json!([listener]));
    envoy.wait_log(r#"configuration refused: $.mode: expected "active", "observe" or "off", found "of""#);
    wait_for("refusal", PATIENCE, || {
        let rejected = envoy.stats(r"^listener_manager\.lds\.update_rejected$");
        (rejected.values().sum::<u64>() == 1).then_some(())
    });
    pair.play(&commands());
    pair.close();
    let new = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    new.close();
    ledger.expect(&format!(
        "{LOGIN}{LOGIN}{COMMANDS}
         connections_closed_total{{by=client,phase=command}} 2"
    ));
}

/// Commands that wait while their configuration is replaced, on two workers: told while they last, by the plugin that
/// saw them, and given back when their answers come, their clients go, or Envoy ends what is left of the old listener.
#[test]
fn stalled_commands_outlive_their_configuration_and_leave_nothing() {
    const EACH: usize = 10;
    let server = Server::start();
    let impatient = json!({"defaults": {"protocol": "mysql"}, "metrics": {"stall_ms": 1}});
    let options =
        configured(server.address(), impatient.clone()).concurrency(2).drain_time(Duration::from_secs(8));
    let (mut delivery, options) = Delivery::of(options);
    let envoy = Envoy::start(options);
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let waiting = || {
        let mut pair = Pair::logged_in(address, &server);
        pair.play(&session()[3..4]);
        pair
    };
    let counted = "
        bytes_total{sender=client} 32
        commands_total{command=query} 1
        commands_in_flight 1
        commands_stalled 1
        connections_active{protocol=mysql} 1
    ";
    let mut pairs: Vec<_> = (0..3 * EACH).map(|_| waiting()).collect();
    ledger.expect(&format!("{LOGIN}{counted}").repeat(3 * EACH));
    let mut full = impatient;
    full["metrics"]["profile"] = json!("full");
    delivery.change(&envoy, reconfigure(full));
    let new = waiting();
    ledger.expect(&format!("{LOGIN}{LOGIN_IN_FULL}{counted}packets_total{{sender=client}} 1\n"));

    for mut answered in pairs.drain(..EACH) {
        answered.play(&session()[4..5]);
        answered.close();
    }
    for left in pairs.drain(..EACH) {
        left.client.reset();
    }
    // The rest are Envoy's to end.
    for drained in &mut pairs {
        drained.client.assert_finished();
    }
    let (_, answer) = &session()[4];
    let ended = "commands_in_flight -1\n commands_stalled -1\n connections_active{protocol=mysql} -1\n";
    let answered = format!(
        "bytes_total{{sender=server}} {}
         command_duration_seconds_count{{command=query}} 1
         statements_total{{verb=select}} 1
         rows_total 1
         connections_closed_total{{by=client,phase=command}} 1
         {ended}",
        answer.len()
    );
    let left = format!("connections_closed_total{{by=client,phase=command}} 1\n{ended}");
    let drained = format!("connections_closed_total{{by=proxy,phase=command}} 1\n{ended}");
    ledger.expect(&[answered, left, drained].map(|lines| lines.repeat(EACH)).concat());
    new.close();
    ledger.expect(&format!("connections_closed_total{{by=client,phase=command}} 1\n{ended}"));
    ledger.finish();
}
