//! Configurations with problems, in new and in running proxies.

use std::time::Duration;

use crate::host::{Call, Ending, ORDERS, Vm, count};
use crate::scripts::{self, play, run};
use crate::{assert_gauges_are_zero, sum};

const TYPO: &str = r#"{"mode": "of", "metrics": {"flush_interval": "60s"}}"#;
const ANOTHER_TYPO: &str = r#"{"mode": "on"}"#;
const PROTECTING: &str =
    r#"{"mode": "of", "rules": [{"match": {"ports": [3306]}, "mysql": {"block_local_infile": true}}]}"#;

fn lines(vm: &Vm) -> Vec<String> {
    vm.log().into_iter().map(|(_, line)| line).collect()
}

fn rejected(vm: &Vm) -> Option<u64> {
    vm.metric("firstword_config_rejected")
}

#[test]
fn a_new_proxy_runs_with_the_defaults_and_logs_every_problem() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"mode": "on", "metrics": {"profile": 3}, "rules": [{"prots": []}]}"#);
    let log = vm.log();
    assert_eq!(log.len(), 4, "{log:?}");
    for path in ["$.mode", "$.metrics.profile", "$.rules[0].prots"] {
        let problem = format!("configuration rejected: {path}: ");
        assert!(
            log.iter().any(|(level, line)| *level == 4 && line.starts_with(&problem)),
            "{path} in {log:?}"
        );
    }
    assert!(log[3].1.starts_with("event=config_rejected problems=3 "), "{log:?}");
    assert_eq!(vm.tick_period(), Some(500));
    run(&plugin, &ORDERS, &scripts::classic(), Ending::ClientFin);
    plugin.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
    assert_gauges_are_zero(&vm);
    assert!(vm.plugin("{").tick().len() > 1);
}

#[test]
fn the_gauge_is_written_on_the_first_tick_and_subtracted_at_the_end() {
    let vm = Vm::start();
    let plugin = vm.plugin(TYPO);
    assert_eq!(rejected(&vm), None);
    plugin.tick();
    assert_eq!(rejected(&vm), Some(1));
    // Another plugin of the proxy has its own problem.
    let other = vm.named_plugin("other", ANOTHER_TYPO).unwrap_or_else(|_| panic!("refused"));
    other.tick();
    assert_eq!(rejected(&vm), Some(2));
    plugin.end();
    assert_eq!(rejected(&vm), Some(1));
    other.end();
    assert_eq!(rejected(&vm), Some(0));

    let never_ticked = vm.plugin(TYPO);
    never_ticked.end();
    assert_eq!(rejected(&vm), Some(0));
}

#[test]
fn the_gauge_returns_to_zero_within_two_ticks_of_a_good_configuration() {
    let vm = Vm::start();
    let bad = vm.plugin(TYPO);
    let open = bad.connect(&ORDERS);
    bad.tick();
    vm.advance(Duration::from_secs(1));
    let good = vm.plugin("{}");
    assert_eq!(rejected(&vm), Some(1));
    good.tick();
    bad.tick();
    assert_eq!(rejected(&vm), Some(0), "although the proxy keeps the plugin for its open connection");
    good.flush();
    play(&open, &scripts::classic());
    open.close(Ending::ClientFin);
    bad.end();
    assert_eq!(rejected(&vm), Some(0));
    good.end();
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
}

#[test]
fn the_gauge_follows_the_configuration_that_new_connections_use() {
    let vm = Vm::start();
    let bad = vm.plugin(TYPO);
    let good = vm.plugin("{}");
    bad.tick();
    assert_eq!(rejected(&vm), Some(0));
    // The proxy goes back to the bad configuration. It does not configure a plugin again that still exists.
    let stream = bad.connect(&ORDERS);
    bad.tick();
    assert_eq!(rejected(&vm), Some(1));
    vm.advance(Duration::from_secs(1));
    let better = vm.plugin("{}");
    bad.tick();
    assert_eq!(rejected(&vm), Some(0));
    stream.close(Ending::ClientFin);
    for plugin in [bad, good, better] {
        plugin.end();
    }
    assert_eq!(rejected(&vm), Some(0));
}

#[test]
fn a_running_proxy_refuses_a_bad_configuration() {
    let vm = Vm::start();
    let good = vm.plugin("{}");
    assert!(vm.try_plugin(TYPO).is_err());
    let log = lines(&vm);
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("configuration refused: $.mode: "), "{log:?}");
    good.flush();
    assert_eq!(rejected(&vm), Some(0));
    // A plugin with another name is new.
    assert!(vm.named_plugin("other", TYPO).is_ok());
}

/// Envoy asks once, on its main thread. Workers that configure the text later must decide the same, also if another
/// configuration was accepted since then.
#[test]
fn all_workers_decide_the_same_about_a_text() {
    let vm = Vm::start();
    let main = vm.plugin(TYPO);
    vm.plugin("{}");
    let worker = vm.plugin(TYPO);
    worker.tick();
    assert_eq!(rejected(&vm), Some(1));
    assert!(vm.try_plugin(ANOTHER_TYPO).is_err());
    main.end();
    worker.end();
}

#[test]
fn a_bad_configuration_with_a_protecting_word_is_refused_and_the_word_logged() {
    let vm = Vm::start();
    assert!(vm.try_plugin(PROTECTING).is_err());
    let log = lines(&vm);
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].starts_with("configuration refused: $.mode: "), "{log:?}");
    assert!(log[1].starts_with("event=config_refused word=block_local_infile "), "{log:?}");
    assert_eq!(vm.tick_period(), None);
    assert_eq!(vm.metrics().len(), 0);
}

#[test]
fn the_environment_turns_the_defaults_off() {
    for (variables, is_refused) in [
        (&["FIRSTWORD_ON_CONFIG_ERROR=refuse"][..], true),
        (&["A=1", "FIRSTWORD_ON_CONFIG_ERROR=refuse", "B="][..], true),
        (&["FIRSTWORD_ON_CONFIG_ERROR=refused"][..], false),
        (&["FIRSTWORD_ON_CONFIG_ERROR="][..], false),
        (&["XFIRSTWORD_ON_CONFIG_ERROR=refuse", "X=FIRSTWORD_ON_CONFIG_ERROR=refuse"][..], false),
        (&[][..], false),
    ] {
        let vm = Vm::start();
        vm.environment(variables);
        assert_eq!(vm.try_plugin(TYPO).is_err(), is_refused, "{variables:?}");
    }
}

#[test]
fn a_host_without_environment_and_shared_data_runs_with_the_defaults() {
    for call in ["environ_sizes_get", "environ_get", "get_shared_data", "set_shared_data"] {
        let vm = Vm::start();
        vm.environment(&["FIRSTWORD_ON_CONFIG_ERROR=refuse"]);
        // Envoy's status for a call that its configuration does not allow.
        vm.fail(call, 76);
        let is_refused = !call.starts_with("environ");
        assert_eq!(vm.try_plugin(TYPO).is_err(), is_refused, "{call}");
        vm.environment(&[]);
        let plugin = vm.plugin(TYPO);
        plugin.tick();
        assert!(rejected(&vm) > Some(0), "{call}");
    }
}

#[test]
fn a_good_configuration_reads_neither_environment_nor_shared_data() {
    let vm = Vm::start();
    let plugin = vm.plugin("{}");
    let calls: Vec<Call> = [vm.configure_calls(), plugin.tick(), plugin.tick()].concat();
    for call in ["environ_sizes_get", "environ_get", "get_shared_data"] {
        assert_eq!(count(&calls, call), 0, "{call}");
    }
    assert_eq!(count(&calls, "set_shared_data"), 1);
}
