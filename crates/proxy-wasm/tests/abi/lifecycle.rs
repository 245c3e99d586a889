//! Start and end of plugins and connections.

use std::time::Duration;

use crate::host::{Ending, ORDERS, Vm, count};
use crate::scripts::{self, play, run};
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, counted, sum, under};
use firstword_testing::packets::*;

#[test]
fn the_empty_configuration_is_the_default_one() {
    for configuration in ["", "{}", " \n"] {
        let vm = Vm::start();
        vm.plugin(configuration);
        assert_eq!(vm.tick_period(), Some(500));
        assert_eq!(vm.log(), []);
    }
}

#[test]
fn ticks_are_as_frequent_as_exports_and_at_least_every_500_ms() {
    for (interval, tick, ticks_per_export) in
        [(100, 100, 1), (500, 500, 1), (1000, 500, 2), (60_000, 500, 120)]
    {
        let vm = Vm::start();
        let plugin = vm.plugin(&format!(r#"{{"metrics": {{"flush_interval": "{interval}ms"}}}}"#));
        assert_eq!(vm.tick_period(), Some(tick));
        for export in 1..=2 {
            for _ in 1..ticks_per_export {
                assert_eq!(count(&plugin.tick(), "increment_metric"), 0, "{interval} ms");
            }
            assert!(count(&plugin.tick(), "increment_metric") > 0, "{interval} ms");
            assert_eq!(vm.metric("firstword_heartbeat_total"), Some(export * ticks_per_export));
        }
    }
}

#[test]
fn the_start_of_a_plugin_is_logged_at_level_info() {
    let vm = Vm::start();
    vm.plugin(r#"{"log": {"level": "info"}}"#);
    let line = format!("event=configured version={} commit={}", firstword::VERSION, firstword::COMMIT);
    assert_eq!(vm.log(), [(2, line)]);
}

#[test]
fn lines_are_limited_and_the_number_of_withheld_lines_is_logged() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"log": {"max_per_minute": 2}}"#);
    let desync = || run(&plugin, &ORDERS, &scripts::desync(), Ending::ClientFin);
    let line = (3, scripts::desync_line());
    (0..5).for_each(|_| desync());
    assert_eq!(vm.log(), [line.clone(), line.clone()]);
    vm.advance(Duration::from_secs(59));
    desync();
    assert_eq!(vm.log(), []);
    vm.advance(Duration::from_secs(1));
    plugin.tick();
    desync();
    assert_eq!(
        vm.log(),
        [(3, "event=log_limit withheld=4 fix=\"raise log.max_per_minute to see them\"".to_owned()), line]
    );

    let vm = Vm::start();
    run(&vm.plugin(r#"{"log": {"level": "error"}}"#), &ORDERS, &scripts::desync(), Ending::ClientFin);
    assert_eq!(vm.log(), []);
}

#[test]
fn a_connection_without_a_server_is_counted() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    run(&plugin, &ORDERS, &[], Ending::Refused);
    plugin.flush();
    let expected =
        ["connections_closed_total{phase=greeting,closed_by=proxy} 1", "connections_total{protocol=mysql} 1"];
    assert_eq!(counted(&vm, OUTBOUND_ORDERS), expected);
    assert_gauges_are_zero(&vm);
}

#[test]
fn the_peer_that_ended_a_connection_is_counted() {
    for (ending, by) in [
        (Ending::ClientFin, "client"),
        (Ending::ClientReset, "client"),
        (Ending::ServerFin, "server"),
        (Ending::ServerReset, "server"),
        (Ending::Refused, "proxy"),
        (Ending::Drain, "proxy"),
        (Ending::TornDown, "proxy"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        run(&plugin, &ORDERS, &scripts::login(CLIENT_CAPABILITIES), ending);
        plugin.flush();
        let closed = format!(
            "{OUTBOUND_ORDERS}phase=.=command;.;closed_by=.={by};.;firstword_connections_closed_total"
        );
        assert_eq!(vm.metric(&closed), Some(1), "{ending:?}");
        assert_eq!(sum(&vm, "connections_closed_total", &[]), 1);
    }
    // The server ends the stream after COM_QUIT, but because the client requested it.
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let quit = [scripts::login(CLIENT_CAPABILITIES), scripts::quit()].concat();
    run(&plugin, &ORDERS, &quit, Ending::ServerFin);
    plugin.flush();
    assert_eq!(sum(&vm, "connections_closed_total", &["closed_by=.=client"]), 1);
}

/// Cases: every state of a connection, and every ending.
#[test]
fn gauges_are_zero_after_the_end_of_all_connections() {
    for ending in Ending::ALL {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let mut connections = 0;
        for (_, script) in scripts::all() {
            for turns in 0..=script.len() {
                for ticks in [0, 1] {
                    let stream = plugin.connect(&ORDERS);
                    (0..ticks).for_each(|_| drop(plugin.tick()));
                    play(&stream, &script[..turns]);
                    plugin.tick();
                    stream.close(ending);
                    connections += 1;
                }
            }
        }
        plugin.flush();
        assert_gauges_are_zero(&vm);
        assert_eq!(sum(&vm, "connections_total", &[]), connections, "{ending:?}");
        assert_eq!(sum(&vm, "connections_closed_total", &[]), connections, "{ending:?}");
    }
}

#[test]
fn a_command_in_flight_is_counted_until_its_response_or_the_end_of_the_connection() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &scripts::login(CLIENT_CAPABILITIES));
    stream.client(&[command(COM_QUERY, b"select sleep(9)"), command(COM_PING, b"")].concat());
    plugin.flush();
    assert_eq!(sum(&vm, "commands_in_flight", &[]), 2);
    stream.server(&answer([ok()]));
    plugin.flush();
    assert_eq!(sum(&vm, "commands_in_flight", &[]), 1);
    stream.close(Ending::ServerReset);
    plugin.flush();
    assert_eq!(sum(&vm, "commands_in_flight", &[]), 0);
    assert_eq!(sum(&vm, "errors_total", &[]), 0);
}

#[test]
fn a_clock_that_steps_back_gives_no_negative_duration() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    vm.step_back(Duration::from_secs(10));
    stream.server(&greeting());
    plugin.flush();
    assert_eq!(sum(&vm, "greeting_duration_seconds_count", &[]), 1);
    assert_eq!(sum(&vm, "greeting_duration_microseconds_sum", &[]), 0);
    assert_eq!(sum(&vm, "greeting_duration_seconds_bucket", &["le=.=0.00025"]), 1);
}

#[test]
fn two_plugins_in_one_vm_have_separate_metrics() {
    let vm = Vm::start();
    let a = vm.plugin(r#"{"rules": [{"name": "a"}]}"#);
    let b = vm.plugin(r#"{"rules": [{"name": "b"}], "metrics": {"profile": "minimal"}}"#);
    run(&a, &ORDERS, &scripts::classic(), Ending::ClientFin);
    let open = b.connect(&ORDERS);
    play(&open, &scripts::modern()[..4]);
    a.flush();
    assert_eq!(sum(&vm, "commands_total", &["destination=.=a"]), 10);
    assert_eq!(sum(&vm, "commands_total", &["destination=.=b"]), 0, "only its own tick exports its metrics");
    b.flush();
    assert_eq!(sum(&vm, "commands_total", &["destination=.=b"]), 1);
    assert_eq!(sum(&vm, "connections_closed_total", &["destination=.=b"]), 0);
    assert_eq!(sum(&vm, "connections_active", &["destination=.=b"]), 1);

    assert_eq!(vm.metric("firstword_heartbeat_total"), Some(4));
    assert_eq!(vm.metric("firstword_vm_memory_bytes"), Some(0));
    let build_info = under(&vm, "").into_iter().find(|line| line.starts_with("build_info")).unwrap();
    assert!(build_info.ends_with(" 1"), "{build_info}");

    a.end();
    play(&open, &scripts::quit());
    open.close(Ending::ClientFin);
    b.flush();
    assert_eq!(sum(&vm, "commands_total", &["destination=.=b"]), 2, "the other plugin still works");
    b.end();
    assert_eq!(vm.metric("firstword_series"), Some(0));
    assert_gauges_are_zero(&vm);
}

#[test]
fn equal_series_of_two_plugins_are_summed() {
    let vm = Vm::start();
    let plugins = [vm.plugin(""), vm.plugin("")];
    for plugin in &plugins {
        run(plugin, &ORDERS, &scripts::classic(), Ending::ClientFin);
        plugin.flush();
    }
    assert_eq!(vm.metric(&format!("{OUTBOUND_ORDERS}command=.=query;.;firstword_commands_total")), Some(8));
}

#[test]
fn a_plugin_that_ends_exports_everything_first() {
    for ticks in [0, 1, 2, 3] {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        (0..ticks).for_each(|_| drop(plugin.tick()));
        run(&plugin, &ORDERS, &scripts::classic(), Ending::ClientFin);
        plugin.end();
        assert_eq!(sum(&vm, "commands_total", &[]), 10, "after {ticks} ticks");
        assert_eq!(vm.metric("firstword_series"), Some(0), "after {ticks} ticks");
        assert_eq!(vm.metric("firstword_heartbeat_total"), Some(ticks));
        assert_gauges_are_zero(&vm);
    }
}

#[test]
fn connections_that_outlive_their_plugin_are_counted() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let script = scripts::classic();
    let (front, back) = script.split_at(6);
    let streams = [plugin.connect(&ORDERS), plugin.connect(&ORDERS)];
    streams.iter().for_each(|stream| drop(play(stream, front)));
    plugin.end();
    assert_eq!(sum(&vm, "connections_active", &[]), 2);
    for stream in streams {
        play(&stream, back);
        stream.close(Ending::ClientFin);
    }
    assert_eq!(sum(&vm, "commands_total", &[]), 20);
    assert_eq!(sum(&vm, "rows_total", &[]), 12);
    assert_eq!(sum(&vm, "connections_closed_total", &[]), 2);
    assert_eq!(vm.metric("firstword_series"), Some(0));
    assert_gauges_are_zero(&vm);
}

#[test]
fn connections_of_a_refused_plugin_are_forwarded() {
    let vm = Vm::start();
    let Err(plugin) = vm.try_plugin(r#"{"tls"#) else { panic!("accepted") };
    for ending in Ending::ALL {
        let stream = plugin.connect(&ORDERS);
        assert_eq!(play(&stream, &scripts::classic()), []);
        assert_eq!(stream.close(ending), []);
    }
    assert_eq!(plugin.tick(), []);
    assert_eq!(vm.metrics().len(), 0);
    plugin.end();
}
