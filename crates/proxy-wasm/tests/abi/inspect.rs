//! Metrics and cost of each value of `mysql.inspect`.

use crate::host::{Call, Ending, ORDERS, Vm};
use crate::scripts::{self, login, play};
use crate::{assert_gauges_are_zero, counted, sum};
use firstword_testing::packets::*;

fn inspecting(what: &str) -> String {
    format!(r#"{{"rules": [{{"match": {{"ports": [3306]}}, "mysql": {{"inspect": "{what}"}}}}]}}"#)
}

fn reads(calls: &[Call]) -> Vec<&str> {
    let reads = calls.iter().filter(|call| call.name != "get_current_time_nanoseconds");
    reads.map(|call| call.what.as_str()).collect()
}

#[test]
fn inspecting_requests_does_not_read_the_responses() {
    let vm = Vm::start();
    let plugin = vm.plugin(&inspecting("requests"));
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    assert_eq!(reads(&stream.client(&command(COM_QUERY, b"select a"))), ["0+13"]);
    assert_eq!(stream.server(&answer(result_set(&["1"; 1000]))), [], "not even the time");
    assert_eq!(reads(&stream.client(&command(COM_PING, b""))), ["0+5"]);
    assert_eq!(stream.server(b"anything at all"), []);
    play(&stream, &scripts::quit());
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 3);
    assert_eq!(sum(&vm, "handshakes_total", &["result=.=ok"]), 1);
    assert_eq!(sum(&vm, "connections_closed_total", &["phase=.=command", "closed_by=.=client"]), 1);
    for answered in ["rows_total", "errors_total", "opaque_total", "command_duration_seconds_count"] {
        assert_eq!(sum(&vm, answered, &[]), 0, "{answered}");
    }
    assert_gauges_are_zero(&vm);
}

#[test]
fn inspecting_the_handshake_reads_no_bytes_after_it() {
    let vm = Vm::start();
    let plugin = vm.plugin(&inspecting("handshake"));
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    assert_eq!(stream.client(&command(COM_QUERY, b"select a")), []);
    assert_eq!(stream.server(&answer(result_set(&["1"; 1000]))), []);
    play(&stream, &scripts::quit());
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!(sum(&vm, "commands_total", &[]), 0);
    assert_eq!(sum(&vm, "handshakes_total", &["result=.=ok"]), 1);
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=configured"]), 1);
    assert_gauges_are_zero(&vm);
}

#[test]
fn all_bytes_are_counted_with_each_value() {
    let bytes = |what| {
        let vm = Vm::start();
        let plugin = vm.plugin(&inspecting(what));
        let stream = plugin.connect(&ORDERS);
        play(&stream, &scripts::classic());
        stream.close(Ending::ClientFin);
        plugin.flush();
        let lines = counted(&vm, crate::OUTBOUND_ORDERS);
        lines.into_iter().filter(|line| line.starts_with("bytes_total")).collect::<Vec<_>>()
    };
    assert_eq!(bytes("full").len(), 2);
    assert_eq!(bytes("requests"), bytes("full"));
    assert_eq!(bytes("handshake"), bytes("full"));
}
