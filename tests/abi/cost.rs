//! What a packet costs in host calls. The driver holds the general rules; here are the particular ones.

use crate::host::{Call, Destination, Ending, ORDERS, Vm, count};
use crate::scripts::{self, login, play, run};
use crate::sum;
use crate::support::packets::*;

fn properties(calls: &[Call]) -> Vec<&str> {
    calls.iter().filter(|call| call.name == "get_property").map(|call| call.what.as_str()).collect()
}

fn reads(calls: &[Call]) -> Vec<&str> {
    calls.iter().filter(|call| call.name == "get_buffer_bytes").map(|call| call.what.as_str()).collect()
}

#[test]
fn a_command_and_its_answer_cost_one_read_each_and_nothing_else() {
    let vm = Vm::start();
    let stream = vm.plugin("").connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    let call = |what: &str| vec![Call { name: "get_buffer_bytes", what: what.into() }];
    assert_eq!(stream.client(&command(COM_QUERY, b"select a")), call("0+13"));
    let rows = answer(result_set(&["1"; 100]));
    assert_eq!(stream.server(&rows), call(&format!("0+{}", rows.len())));
    assert_eq!(stream.client(&command(COM_PING, b"")), call("0+5"));
    assert_eq!(stream.server(&answer([ok()])), call("0+11"));
}

#[test]
fn a_large_chunk_of_small_packets_is_read_in_steps() {
    let vm = Vm::start();
    let stream = vm.plugin("").connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"select a"));
    let rows = answer(result_set(&["0123456789"; 10_000]));
    assert_eq!(rows.len(), 150_067);
    let calls = stream.server(&rows);
    assert_eq!(reads(&calls), ["0+16384", "16384+65536", "81920+65536", "147456+2611"]);
    assert_eq!(calls.len(), 4, "nothing else, no clock either: {calls:?}");
}

#[test]
fn payload_is_passed_over_unread() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"select blob"));
    let mib = 1 << 20;
    let long_row = [&[0xfd, 0, 0, 0x30][..], &vec![7; 3 * mib]].concat();
    let wire = answer([column_count(1), column_def("a"), eof(AUTOCOMMIT), long_row, eof(AUTOCOMMIT)]);
    let (first, rest) = wire.split_at(200);
    assert_eq!(reads(&stream.server(first)), ["0+200"]);
    for chunk in [&rest[..mib], &rest[mib..2 * mib]] {
        assert_eq!(stream.server(chunk), [], "1 MiB of one packet's payload");
    }
    let last = &rest[2 * mib..];
    let end = last.len() - packet(0, &eof(AUTOCOMMIT)).len();
    assert_eq!(reads(&stream.server(last)), [format!("{end}+9")], "the read begins where the payload ends");
    play(&stream, &scripts::quit());
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!(sum(&vm, "rows_total", &[]), 1);
    assert_eq!(sum(&vm, "opaque_total", &[]), 0);
}

#[test]
fn attributes_are_read_once_and_only_who_closed_is_asked_at_the_end() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    for (ending, asked) in [
        (Ending::ClientFin, vec![]),
        (Ending::ServerFin, vec![]),
        (Ending::ClientReset, vec![]),
        (Ending::ServerReset, vec!["response.flags"]),
        (Ending::Drain, vec!["response.flags"]),
        (Ending::TornDown, vec![]),
    ] {
        let stream = plugin.connect(&ORDERS);
        let calls = play(&stream, &login(CLIENT_CAPABILITIES));
        assert_eq!(properties(&calls), ["xds.cluster_name"]);
        assert_eq!(properties(&play(&stream, &scripts::query("a", result_set(&["1"])))), [""; 0]);
        let calls = stream.close(ending);
        assert_eq!(properties(&calls), asked, "{ending:?}");
        assert_eq!(count(&calls, "get_current_time_nanoseconds"), 0);
    }
}

#[test]
fn a_named_rule_saves_the_question_for_the_cluster() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"rules": [{"name": "db", "protocol": "mysql"}]}"#);
    let stream = plugin.connect(&ORDERS);
    assert_eq!(properties(&play(&stream, &scripts::classic())), [""; 0]);
}

#[test]
fn only_the_greeting_asks_for_the_time() {
    let vm = Vm::start();
    let stream = vm.plugin("").connect(&ORDERS);
    assert_eq!(count(&stream.server(&greeting()), "get_current_time_nanoseconds"), 1);
    let rest = &scripts::classic()[1..];
    assert_eq!(count(&play(&stream, rest), "get_current_time_nanoseconds"), 0);
}

#[test]
fn an_opaque_connection_costs_nothing_but_the_callback() {
    let opaque = [scripts::tls(), scripts::compressed(), scripts::desync(), scripts::smtp(), scripts::http()];
    for script in opaque {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let stream = plugin.connect(&ORDERS);
        play(&stream, &script);
        let (client, server) = scripts::bytes(&script);
        for chunk in [&[0x16; 3][..], &[0; 100_000]] {
            assert_eq!(stream.client(chunk), []);
            assert_eq!(stream.server(chunk), []);
        }
        plugin.flush();
        assert_eq!(sum(&vm, "opaque_total", &[]), 1);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=client"]), client + 100_003);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=server"]), server + 100_003);
    }
}

#[test]
fn off_and_opaque_never_read_a_byte() {
    for configuration in [
        r#"{"mode": "off"}"#,
        r#"{"defaults": {"protocol": "opaque"}}"#,
        r#"{"rules": [{"match": {"ports": [3306]}, "protocol": "opaque"}]}"#,
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        for (name, script) in scripts::all() {
            let stream = plugin.connect(&ORDERS);
            let calls = play(&stream, &script);
            assert_eq!(reads(&calls), [""; 0], "{name}");
            assert_eq!(properties(&calls), ["xds.cluster_name"], "{name}");
            stream.close(Ending::ClientFin);
        }
        plugin.flush();
        let connections = scripts::all().len() as u64;
        let orders = "destination=.=orders";
        assert_eq!(sum(&vm, "connections_total", &[orders, "protocol=.=opaque"]), connections);
        assert_eq!(sum(&vm, "opaque_total", &[orders, "reason=.=configured"]), connections);
        assert_eq!(sum(&vm, "commands_total", &[]), 0);
        let all =
            scripts::all().iter().map(|(_, script)| scripts::bytes(script)).fold(0, |n, (a, b)| n + a + b);
        assert_eq!(sum(&vm, "bytes_total", &[orders]), all);
    }
}

#[test]
fn a_tick_without_news_costs_little() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let silent = plugin.connect(&Destination { cluster: None, ..ORDERS });
    run(&plugin, &ORDERS, &scripts::classic(), Ending::ClientFin);
    plugin.flush();
    let calls = [plugin.tick(), plugin.tick()].concat();
    let names: Vec<_> = calls.iter().map(|call| call.name).collect();
    assert_eq!(
        names,
        ["set_effective_context", "set_effective_context", "increment_metric"],
        "the heartbeat"
    );
    silent.close(Ending::ClientFin);
}
