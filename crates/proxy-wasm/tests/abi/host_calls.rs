//! Cost of packets in host calls. The driver checks the general rules, and these tests check exact calls.

use crate::host::{Call, Destination, Ending, ORDERS, Vm, count};
use crate::scripts::{self, Script, login, play, run};
use crate::sum;
use firstword_testing::packets::*;

fn properties(calls: &[Call]) -> Vec<&str> {
    calls.iter().filter(|call| call.name == "get_property").map(|call| call.what.as_str()).collect()
}

fn reads(calls: &[Call]) -> Vec<&str> {
    calls.iter().filter(|call| call.name == "get_buffer_bytes").map(|call| call.what.as_str()).collect()
}

fn clock_reads(calls: &[Call]) -> usize {
    count(calls, "get_current_time_nanoseconds")
}

#[test]
fn a_command_and_its_response_cost_one_read_and_one_clock_read_each() {
    let vm = Vm::start();
    let stream = vm.plugin("").connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    let call = |name, what: &str| Call { name, what: what.into() };
    let calls = |read: &str| vec![call("get_buffer_bytes", read), call("get_current_time_nanoseconds", "")];
    assert_eq!(stream.client(&command(COM_QUERY, b"select a")), calls("0+13"));
    let rows = answer(result_set(&["1"; 100]));
    assert_eq!(stream.server(&rows), calls(&format!("0+{}", rows.len())));
    assert_eq!(stream.client(&command(COM_PING, b"")), calls("0+5"));
    assert_eq!(stream.server(&answer([ok()])), calls("0+11"));
    let close = command(COM_STMT_CLOSE, &[1, 0, 0, 0]);
    assert_eq!(stream.client(&close), [call("get_buffer_bytes", "0+9")], "it has no response");
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
    assert_eq!(calls.len(), 4 + 1, "no other call, except one clock read: {calls:?}");
}

#[test]
fn a_chunk_of_only_rows_costs_no_clock_read() {
    let vm = Vm::start();
    let stream = vm.plugin("").connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"select a"));
    let rows = answer(result_set(&["0123456789"; 10_000]));
    let chunks: Vec<_> = rows.chunks(10_000).map(|chunk| clock_reads(&stream.server(chunk))).collect();
    assert_eq!(chunks, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn payload_that_is_not_inspected_is_not_read() {
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
fn attributes_are_read_once_except_for_the_flags_of_the_close() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    // If the client has not ended the connection, the filter reads the clock to get the idle time.
    for (ending, attributes, clock) in [
        (Ending::ClientFin, vec![], 0),
        (Ending::ServerFin, vec![], 1),
        (Ending::ClientReset, vec![], 0),
        (Ending::ServerReset, vec!["response.flags"], 1),
        (Ending::Drain, vec!["response.flags"], 1),
        (Ending::TornDown, vec![], 1),
    ] {
        let stream = plugin.connect(&ORDERS);
        let calls = play(&stream, &login(CLIENT_CAPABILITIES));
        assert_eq!(properties(&calls), ["xds.cluster_name"]);
        assert_eq!(properties(&play(&stream, &scripts::query("a", result_set(&["1"])))), [""; 0]);
        let calls = stream.close(ending);
        assert_eq!(properties(&calls), attributes, "{ending:?}");
        assert_eq!(clock_reads(&calls), clock, "{ending:?}");
    }
}

#[test]
fn the_cluster_is_not_read_if_the_rule_has_a_name() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"rules": [{"name": "db", "protocol": "mysql"}]}"#);
    let stream = plugin.connect(&ORDERS);
    assert_eq!(properties(&play(&stream, &scripts::classic())), [""; 0]);
}

/// Clock reads of a script: a word for each chunk, in which 1 is a packet with a clock read, and 0 is one without.
fn clock_reads_of(name: &str) -> &'static str {
    match name {
        "classic" => "1 0 0 0 1 1 1000001 1 1 1 1 1 100001 1 10001 1 100001 01 1 1 1 0 1 0",
        "modern" => "1 0 1 1 100001 1 1 1 1 1 10001 1 101 1 10001 01 1 0",
        "pipelined" => "1 0 1 111 111 10 10 0 00001 1 1 00 1 0",
        "unfinished" => "1 0 1 1 1 11 1011 1 10001 1 1000",
        "replica" => "1 0 1 1 100 0 00 0",
        "full_authentication" => "1 0 0 0 0 0 0 0 1",
        "refused" => "1 0 1",
        "tls" => "1 0 0 0",
        "too_many_connections" => "0",
        "compressed" => "1 0 1 0",
        "desync" => "1 0 1 0",
        "smtp" => "0 0 0",
        "http" => "0 0",
        _ => panic!("no clock reads for this script: {name}"),
    }
}

/// These are the greeting, the end of the handshake, the start of a command, and the first and last packet of a response.
#[test]
fn only_packets_with_a_duration_read_the_clock() {
    // The first log line of a minute reads the clock too.
    let reads = |calls: Vec<Call>| clock_reads(&calls) - count(&calls, "log");
    for (name, script) in scripts::all() {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let stream = plugin.connect(&ORDERS);
        let chunk = |chunk: Script| -> String {
            chunk.iter().map(|turn| reads(play(&stream, std::slice::from_ref(turn))).to_string()).collect()
        };
        let counts: Vec<_> = scripts::in_packets(&script).into_iter().map(chunk).collect();
        assert_eq!(counts.join(" "), clock_reads_of(name), "{name}");
        let vm = Vm::start();
        let stream = vm.plugin("").connect(&ORDERS);
        let byte_by_byte = reads(play(&stream, &scripts::in_pieces(&script, 1)));
        assert_eq!(byte_by_byte, clock_reads_of(name).matches('1').count(), "{name}");
    }
}

#[test]
fn an_opaque_connection_costs_no_host_calls() {
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
fn excluded_connections_are_never_read() {
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
fn a_tick_without_changes_costs_five_calls_in_two_ticks() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let silent = plugin.connect(&Destination { cluster: None, ..ORDERS });
    run(&plugin, &ORDERS, &scripts::classic(), Ending::ClientFin);
    plugin.flush();
    let calls = [plugin.tick(), plugin.tick()].concat();
    let names: Vec<_> = calls.iter().map(|call| call.name).collect();
    assert_eq!(
        names,
        [
            "get_current_time_nanoseconds",
            "get_shared_data",
            "get_current_time_nanoseconds",
            "get_shared_data",
            "increment_metric"
        ],
        "in each tick the time and the newest mode, in every second tick the heartbeat"
    );
    silent.close(Ending::ClientFin);
}
