//! Hosts that refuse calls. The filter does not panic, because a panic ends the process. Traffic is forwarded, because the
//! driver asserts it. Refused exports are repeated later.

use std::collections::BTreeMap;

use crate::host::{Ending, ORDERS, Plugin, Vm};
use crate::scripts::{self, play, run};
use crate::{assert_gauges_are_zero, sum};

/// NOT_FOUND, BAD_ARGUMENT, INTERNAL_FAILURE, UNIMPLEMENTED.
const STATUSES: [u32; 4] = [1, 2, 10, 12];

/// Plays a connection during which the call fails and then succeeds again, and a second connection. Returns the metrics.
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
    vm.clear_faults();
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
fn refused_exports_are_repeated_until_they_succeed() {
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
        assert_eq!(
            log,
            [(
                3,
                format!(
                    "event=host_refused call={refused} status=UNIMPLEMENTED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
                )
            )]
        );
    }
}

#[test]
fn without_attributes_everything_is_counted_under_default_labels() {
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
        assert_eq!(metrics.get(query), Some(&4), "the first connection began without attributes");
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
fn a_buffer_that_cannot_be_read_any_more_leaves_no_command_in_flight() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    let script = scripts::classic();
    play(&stream, &script[..6]);
    vm.fail("get_buffer_bytes", 1);
    play(&stream, &script[6..7]);
    vm.clear_faults();
    assert_eq!(play(&stream, &script[7..]), [], "the connection stays opaque");
    plugin.flush();
    assert_eq!(sum(&vm, "commands_in_flight", &[]), 0);
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=desync"]), 1);
    stream.close(Ending::ClientReset);
}

/// Without ticks no metric would ever be exported, so the operator must get an error.
#[test]
fn a_configuration_is_refused_if_the_host_refuses_its_text_or_ticks() {
    for (call, line, fix) in [
        (
            "set_tick_period_milliseconds",
            "event=refused call=set_tick_period status=",
            " fix=\"report it, with the version of Envoy\"",
        ),
        ("get_buffer_bytes", "configuration refused: the host does not give it: ", ""),
    ] {
        for (status, name) in
            STATUSES.into_iter().zip(["NOT_FOUND", "BAD_ARGUMENT", "INTERNAL_FAILURE", "UNIMPLEMENTED"])
        {
            let vm = Vm::start();
            vm.fail(call, status);
            assert!(vm.try_plugin("{}").is_err());
            assert_eq!(vm.log(), [(4, format!("{line}{name}{fix}"))]);
            vm.clear_faults();
            run(&vm.plugin("{}"), &ORDERS, &scripts::classic(), Ending::ClientFin);
        }
    }
    let vm = Vm::start();
    vm.fail("get_buffer_bytes", 1);
    assert!(vm.try_plugin("").is_ok(), "an absent configuration is the empty one");
}
