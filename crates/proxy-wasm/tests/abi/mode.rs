//! The mode of a new configuration reaches open connections of an older one.

use std::time::Duration;

use crate::host::{Ending, ORDERS, Plugin, Vm};
use crate::scripts::{self, play, run};
use crate::{assert_gauges_are_zero, sum};

/// Starts an older and a newer plugin. Envoy keeps both while the older one has connections.
fn replace(vm: &Vm, older: &str, newer: &str) -> (Plugin, Plugin) {
    let older = vm.plugin(older);
    vm.advance(Duration::from_secs(1));
    let newer = vm.plugin(newer);
    vm.advance(Duration::from_secs(1));
    (older, newer)
}

const ACTIVE: &str = r#"{"mode": "active"}"#;
const OBSERVE: &str = r#"{"mode": "observe"}"#;
const OFF: &str = r#"{"mode": "off"}"#;

#[test]
fn off_ends_the_inspection_of_open_connections_without_closing_them() {
    for (older, newer, commands) in [
        (ACTIVE, OFF, 1),
        (OBSERVE, OFF, 1),
        (ACTIVE, OBSERVE, 10),
        (OBSERVE, ACTIVE, 10),
        (ACTIVE, ACTIVE, 10),
    ] {
        let vm = Vm::start();
        let old = vm.plugin(older);
        let open = old.connect(&ORDERS);
        let silent = old.connect(&ORDERS);
        let script = scripts::classic();
        let (front, back) = script.split_at(6);
        play(&open, front);
        vm.advance(Duration::from_secs(1));
        let new = vm.plugin(newer);
        old.tick();
        let calls = play(&open, back);
        assert_eq!(calls.is_empty(), newer == OFF, "{older} {newer}: {calls:?}");
        play(&silent, &scripts::classic());
        open.close(Ending::ClientFin);
        silent.close(Ending::ClientFin);
        old.flush();
        let configured = sum(&vm, "opaque_total", &["reason=.=configured"]);
        assert_eq!(configured, if newer == OFF { 2 } else { 0 }, "{older} {newer}");
        let of_both = if newer == OFF { commands } else { 20 };
        assert_eq!(sum(&vm, "commands_total", &[]), of_both, "{older} {newer}");
        let bytes = scripts::bytes(&scripts::classic());
        assert_eq!(sum(&vm, "bytes_total", &[]), 2 * (bytes.0 + bytes.1), "{older} {newer}");
        assert_gauges_are_zero(&vm);
        old.end();
        new.end();
    }
}

#[test]
fn a_newer_configuration_has_no_effect_on_connections_that_begin_after_it() {
    let vm = Vm::start();
    // Two listeners whose plugins have the same name, so that both plugins stay.
    let (on, off) = replace(&vm, ACTIVE, OFF);
    let stream = on.connect(&ORDERS);
    play(&stream, &scripts::classic()[..6]);
    on.tick();
    play(&stream, &scripts::classic()[6..]);
    stream.close(Ending::ClientFin);
    run(&off, &ORDERS, &scripts::classic(), Ending::ClientFin);
    on.flush();
    off.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=configured"]), 1);
}

#[test]
fn a_plugin_with_another_name_has_no_effect() {
    let vm = Vm::start();
    let orders = vm.plugin(ACTIVE);
    let stream = orders.connect(&ORDERS);
    play(&stream, &scripts::classic()[..6]);
    vm.advance(Duration::from_secs(1));
    let other = vm.named_plugin("other", OFF);
    assert!(other.is_ok());
    orders.tick();
    play(&stream, &scripts::classic()[6..]);
    stream.close(Ending::ClientFin);
    orders.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
}

#[test]
fn a_host_without_shared_data_is_logged_and_traffic_is_counted() {
    let vm = Vm::start();
    vm.fail("set_shared_data", 12);
    vm.fail("get_shared_data", 12);
    let plugin = vm.plugin(ACTIVE);
    let refused = "event=host_refused call=set_shared_data status=UNIMPLEMENTED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\"";
    assert_eq!(vm.log(), [(3, refused.to_owned())]);
    let stream = plugin.connect(&ORDERS);
    plugin.tick();
    play(&stream, &scripts::classic());
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
}
