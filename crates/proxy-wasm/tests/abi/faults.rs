//! A host that refuses. Nothing panics (a panic ends the process), traffic goes on (the driver asserts it), and what can
//! be told later is told later.

use std::collections::BTreeMap;

use crate::host::{Ending, ORDERS, Plugin, Vm};
use crate::scripts::{self, play, run};
use crate::{assert_gauges_are_zero, sum};

/// NOT_FOUND, BAD_ARGUMENT, INTERNAL_FAILURE, UNIMPLEMENTED.
const STATUSES: [u32; 4] = [1, 2, 10, 12];

/// A connection while the call fails, which goes on when it works again, and one behind it.
fn metrics_around(vm: &Vm, plugin: &Plugin, fault: Option<(&'static str, u32)>) -> BTreeMap<String, u64> {
    if let Some((call, status)) = fault {
        vm.fail(call, status);
    }
    let silent = plugin.connect(&ORDERS);
    let stream = plugin.connect(&ORDERS);
    let script = scripts::classic();
    let (front, back) = script.split_at(6);
    play(&stream, front);
    plugin.flush();
    vm.heal();
    plugin.flush();
    play(&stream, back);
    stream.close(Ending::ClientFin);
    run(plugin, &ORDERS, &scripts::modern(), Ending::ClientFin);
    plugin.flush();
    silent.close(Ending::Drain);
    plugin.flush();
    assert_gauges_are_zero(vm);
    vm.metrics()
}

fn metrics_with(fault: Option<(&'static str, u32)>) -> (BTreeMap<String, u64>, Vec<(u32, String)>) {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let metrics = metrics_around(&vm, &plugin, fault);
    (metrics, vm.log())
}

#[test]
fn what_is_not_told_is_told_when_the_host_listens_again() {
    let (expected, _) = metrics_with(None);
    let calls = [
        "define_metric",
        "increment_metric",
        "record_metric",
        "set_effective_context",
        "log",
        "get_current_time_nanoseconds",
    ];
    for call in calls {
        for status in STATUSES {
            let (metrics, _) = metrics_with(Some((call, status)));
            assert_eq!(metrics, expected, "{call} {status}");
        }
    }
}

#[test]
fn a_refusal_of_metrics_is_logged() {
    for (call, refused) in [
        ("define_metric", "define_metric"),
        ("increment_metric", "increment_metric"),
        ("record_metric", "record_metric"),
    ] {
        let (_, log) = metrics_with(Some((call, 12)));
        assert_eq!(log, [(3, format!("event=host_refused call={refused} status=UNIMPLEMENTED"))]);
    }
}

#[test]
fn without_attributes_everything_is_counted_as_far_as_it_is_known() {
    let (expected, _) = metrics_with(None);
    let total = |metrics: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for (name, value) in metrics.iter().filter(|(name, _)| name.starts_with("direction")) {
            let rest: Vec<_> = name.split(";.;").skip(2).collect();
            *totals.entry(rest.join(";.;").replace("protocol=.=unknown", "protocol=.=mysql")).or_default() +=
                value;
        }
        totals
    };
    for status in STATUSES {
        let (metrics, log) = metrics_with(Some(("get_property", status)));
        assert_eq!(total(&metrics), total(&expected), "status {status}");
        let query = "direction=.=unspecified;.;destination=.=passthrough;.;command=.=query;.;firstword_commands_total";
        assert_eq!(metrics.get(query), Some(&4), "the first connection began without them");
        assert_eq!(log, []);
    }
}

#[test]
fn without_its_bytes_a_connection_is_opaque() {
    for status in STATUSES {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        metrics_around(&vm, &plugin, Some(("get_buffer_bytes", status)));
        assert_eq!(sum(&vm, "opaque_total", &["reason=.=desync"]), 1);
        assert_eq!(sum(&vm, "opaque_total", &[]), 1);
        assert_eq!(sum(&vm, "connections_total", &["protocol=.=mysql"]), 3);
        assert_eq!(sum(&vm, "commands_total", &[]), 9, "of the second connection");
        let all = [scripts::classic(), scripts::modern()].concat();
        let (client, server) = scripts::bytes(&all);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=client"]), client);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=server"]), server);
    }
}

#[test]
fn a_buffer_that_goes_away_in_the_middle_leaves_no_command_in_flight() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    let script = scripts::classic();
    play(&stream, &script[..6]);
    vm.fail("get_buffer_bytes", 1);
    play(&stream, &script[6..7]);
    vm.heal();
    assert_eq!(play(&stream, &script[7..]), [], "opaque for good");
    plugin.flush();
    assert_eq!(sum(&vm, "commands_in_flight", &[]), 0);
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=desync"]), 1);
    stream.close(Ending::ClientReset);
}

/// Without ticks nothing would ever be exported; the operator has to know.
#[test]
fn without_ticks_or_its_text_a_configuration_is_refused() {
    for (call, line) in [
        ("set_tick_period_milliseconds", "event=refused call=set_tick_period status="),
        ("get_buffer_bytes", "configuration refused: the host does not give it: "),
    ] {
        for (status, name) in
            STATUSES.into_iter().zip(["NOT_FOUND", "BAD_ARGUMENT", "INTERNAL_FAILURE", "UNIMPLEMENTED"])
        {
            let vm = Vm::start();
            vm.fail(call, status);
            assert!(vm.try_plugin("{}").is_err());
            assert_eq!(vm.log(), [(4, format!("{line}{name}"))]);
            vm.heal();
            run(&vm.plugin("{}"), &ORDERS, &scripts::classic(), Ending::ClientFin);
        }
    }
    let vm = Vm::start();
    vm.fail("get_buffer_bytes", 1);
    assert!(vm.try_plugin("").is_ok(), "no configuration is the empty one");
}
