//! Exact metrics of connections.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Ending, ORDERS, Vm};
use crate::scripts::{self, Script, Turn, bytes, cut, in_pieces, run};
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, buckets, counted, sum, under};
use firstword_testing::packets::*;

const FULL: &str = r#"{"metrics": {"profile": "full"}}"#;

/// The metrics after one connection in a VM of its own.
fn metrics_of(script: &[Turn]) -> BTreeMap<String, u64> {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    run(&plugin, &ORDERS, script, Ending::ClientFin);
    plugin.flush();
    assert_gauges_are_zero(&vm);
    let mut metrics = vm.metrics();
    // The number of split EOFs depends on the cuts.
    metrics.retain(|name, _| !name.ends_with("prepare_eof_splits_total"));
    metrics
}

/// Asserts all metrics, except zeros and buckets: `answered` are commands with a response, which have durations.
fn assert_counted(script: &[Turn], answered: &[(&str, u64)], expected: &[&str]) {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    run(&plugin, &ORDERS, script, Ending::ClientFin);
    plugin.flush();
    let (client, server) = bytes(script);
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.push("server_first_detected_total{protocol=mysql} 1".to_owned());
    expected.push(format!("bytes_total{{sender=client}} {client}"));
    expected.push(format!("bytes_total{{sender=server}} {server}"));
    // A client that the server accepts or refuses is counted, here without a name.
    let decided = ["handshakes_total{result=ok} 1", "handshakes_total{result=error} 1"];
    if expected.iter().any(|line| decided.contains(&line.as_str())) {
        expected.push("clients_total{client=none,client_series=none} 1".to_owned());
    }
    for (command, count) in answered {
        let by_command = format!("command=.={command}");
        assert_eq!(sum(&vm, "command_duration_seconds_count", &[by_command.as_str()]), *count, "{command}");
        expected.push(format!("command_first_byte_seconds_count{{command={command}}} {count}"));
    }
    let commands: u64 = answered.iter().map(|(_, count)| count).sum();
    assert_eq!(sum(&vm, "command_duration_seconds_count", &[]), commands);
    expected.retain(|line| !line.ends_with(" 0"));
    expected.sort();
    let mut found = counted(&vm, OUTBOUND_ORDERS);
    found.retain(|line| !line.starts_with("command_duration"));
    assert_eq!(found, expected);
    assert_gauges_are_zero(&vm);
}

#[test]
fn a_session_is_counted_exactly_zeros_included() {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    let stream = plugin.connect(&ORDERS);
    vm.advance(Duration::from_micros(3_001));
    let script = scripts::classic();
    scripts::play(&stream, &script);
    stream.close(Ending::ClientFin);
    plugin.flush();

    let (client, server) = bytes(&script);
    let expected = format!(
        "affected_rows_total 7
auth_switches_total{{plugin=mysql_native_password}} 1
bytes_total{{sender=client}} {client}
bytes_total{{sender=server}} {server}
clients_total{{client=none,client_series=none}} 1
command_duration_microseconds_sum{{command=change_user,verb=none}} 0
command_duration_microseconds_sum{{command=ping,verb=none}} 0
command_duration_microseconds_sum{{command=query,verb=select}} 0
command_duration_microseconds_sum{{command=query,verb=update}} 0
command_duration_microseconds_sum{{command=stmt_execute,verb=select}} 0
command_duration_microseconds_sum{{command=stmt_prepare,verb=select}} 0
command_duration_seconds_count{{command=change_user,verb=none}} 1
command_duration_seconds_count{{command=ping,verb=none}} 1
command_duration_seconds_count{{command=query,verb=select}} 3
command_duration_seconds_count{{command=query,verb=update}} 1
command_duration_seconds_count{{command=stmt_execute,verb=select}} 1
command_duration_seconds_count{{command=stmt_prepare,verb=select}} 1
command_first_byte_microseconds_sum{{command=change_user}} 0
command_first_byte_microseconds_sum{{command=ping}} 0
command_first_byte_microseconds_sum{{command=query}} 0
command_first_byte_microseconds_sum{{command=stmt_execute}} 0
command_first_byte_microseconds_sum{{command=stmt_prepare}} 0
command_first_byte_seconds_count{{command=change_user}} 1
command_first_byte_seconds_count{{command=ping}} 1
command_first_byte_seconds_count{{command=query}} 4
command_first_byte_seconds_count{{command=stmt_execute}} 1
command_first_byte_seconds_count{{command=stmt_prepare}} 1
commands_in_flight 0
commands_stalled 0
commands_total{{command=change_user}} 1
commands_total{{command=ping}} 1
commands_total{{command=query}} 4
commands_total{{command=quit}} 1
commands_total{{command=stmt_close}} 1
commands_total{{command=stmt_execute}} 1
commands_total{{command=stmt_prepare}} 1
compressed_bytes_total{{sender=client}} 0
compressed_bytes_total{{sender=server}} 0
connections_active{{protocol=mysql}} 0
connections_closed_total{{phase=command,closed_by=client}} 1
connections_total{{protocol=mysql}} 1
eof_hazard_clients_total 0
errors_total{{errno=1146}} 1
greeting_duration_microseconds_sum 3001
greeting_duration_seconds_count 1
greeting_timeouts_total 0
greetings_total{{flavor=mariadb,release=10.11}} 1
handshake_duration_microseconds_sum 3001
handshake_duration_seconds_count 1
handshakes_total{{result=aborted}} 0
handshakes_total{{result=error}} 0
handshakes_total{{result=ok}} 1
handshakes_total{{result=tls}} 0
hazards_total{{kind=clear_password}} 0
hazards_total{{kind=full_auth_without_tls}} 0
hazards_total{{kind=host_blocked}} 0
hazards_total{{kind=host_not_allowed}} 0
hazards_total{{kind=idle_closed_by_proxy}} 0
hazards_total{{kind=idle_closed_by_server}} 0
hazards_total{{kind=local_infile_undecidable}} 0
hazards_total{{kind=local_infile_unsolicited}} 0
hazards_total{{kind=old_password}} 0
hazards_total{{kind=packet_too_large}} 0
hazards_total{{kind=split_eof}} 0
hazards_total{{kind=tls_required}} 0
hazards_total{{kind=too_many_connections}} 0
hazards_total{{kind=unanswered_greeting}} 0
local_infile_blocked_total 0
local_infile_total 0
no_index_used_total 0
opaque_total{{reason=clone}} 0
opaque_total{{reason=compressed}} 0
opaque_total{{reason=configured}} 0
opaque_total{{reason=desync}} 0
opaque_total{{reason=late_start}} 0
opaque_total{{reason=memory}} 0
opaque_total{{reason=not_mysql}} 0
opaque_total{{reason=replication}} 0
opaque_total{{reason=tls}} 0
packets_total{{sender=client}} 13
packets_total{{sender=server}} 32
plaintext_full_auth_total 0
prepare_eof_held_total 0
prepare_eof_lost_total 0
prepare_eof_splits_total 0
prepared_statements_open 0
protection_lost_total{{reason=desync}} 0
protection_lost_total{{reason=memory}} 0
protection_lost_total{{reason=not_mysql}} 0
result_sets_total 3
rows_total 6
server_first_detected_total{{protocol=mysql}} 1
slow_flag_total 0
statements_total{{verb=select}} 4
statements_total{{verb=update}} 1
transactions_open 0
warnings_total 0"
    );
    assert_eq!(under(&vm, OUTBOUND_ORDERS), expected.lines().collect::<Vec<_>>());

    let mut vm_lines = under(&vm, "");
    let build_info = vm_lines.remove(0);
    assert!(build_info.starts_with("build_info{version=") && build_info.ends_with("} 1"), "{build_info}");
    let series = vm.metrics().len();
    let series = format!("series {series}");
    assert_eq!(
        vm_lines,
        [
            "config_rejected 0",
            "connection_state_bytes 0",
            "heartbeat_total 2",
            &series,
            "series_overflow_total 0",
            "vm_memory_bytes 0"
        ]
    );
}

/// A greeting after 90 us and the OK after 300 us. Then a query whose response begins after 400 us and ends after 3.1 ms, one
/// with a response after 90 us, and a ping with a response after 11 s.
fn run_slowly(vm: &Vm, configuration: &str) {
    let plugin = vm.plugin(configuration);
    let stream = plugin.connect(&ORDERS);
    let after = |micros| vm.advance(Duration::from_micros(micros));
    let rows = answer(result_set(&["1", "2", "3"]));
    let (definitions, rest) = rows.split_at(rows.len() / 2);
    let (rest, end) = rest.split_at(rest.len() - packet(0, &eof(AUTOCOMMIT)).len());
    after(90);
    stream.server(&greeting());
    stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    after(210);
    stream.server(&packet(2, &ok()));
    after(1_000_000);
    stream.client(&command(COM_QUERY, b"select a from orders"));
    after(400);
    stream.server(definitions);
    after(700);
    stream.server(rest);
    after(2000);
    stream.server(end);
    stream.client(&command(COM_QUERY, b"update orders set a = 1"));
    after(90);
    stream.server(&answer([ok()]));
    stream.client(&command(COM_PING, b""));
    after(11_000_000);
    stream.server(&answer([ok()]));
    stream.close(Ending::ClientFin);
    plugin.flush();
}

#[test]
fn durations_are_counted_in_their_buckets() {
    let vm = Vm::start();
    run_slowly(&vm, FULL);
    let of = |labels: &str, name: &str| {
        let front = format!("{OUTBOUND_ORDERS}{labels}");
        let part = |ending: &str| vm.metric(&format!("{front}firstword_{name}_{ending}")).unwrap();
        (buckets(&vm, &front, name), part("seconds_count"), part("microseconds_sum"))
    };
    let expected = |steps: &str, count, micros| ((17, steps.to_owned()), count, micros);
    assert_eq!(of("", "greeting_duration"), expected("0.0001:1", 1, 90));
    assert_eq!(of("", "handshake_duration"), expected("0.0001:0 0.0005:1", 1, 300));
    let query = "command=.=query;.;";
    let select = "command=.=query;.;verb=.=select;.;";
    let update = "command=.=query;.;verb=.=update;.;";
    assert_eq!(of(select, "command_duration"), expected("0.0001:0 0.005:1", 1, 3100));
    assert_eq!(of(update, "command_duration"), expected("0.0001:1", 1, 90));
    assert_eq!(of(query, "command_first_byte"), expected("0.0001:1 0.0005:2", 2, 490));
    let ping = "command=.=ping;.;";
    assert_eq!(
        of("command=.=ping;.;verb=.=none;.;", "command_duration"),
        expected("0.0001:0 +Inf:1", 1, 11_000_000)
    );
    assert_eq!(of(ping, "command_first_byte"), expected("0.0001:0 +Inf:1", 1, 11_000_000));

    let vm = Vm::start();
    run_slowly(&vm, "");
    let standard = buckets(&vm, &format!("{OUTBOUND_ORDERS}{query}"), "command_duration");
    assert_eq!(standard, (11, "0.00025:1 0.005:2".to_owned()));
}

#[test]
fn the_end_of_a_result_set_can_be_an_ok() {
    assert_counted(
        &scripts::modern(),
        &[("ping", 1), ("query", 4), ("stmt_execute", 1), ("stmt_prepare", 1)],
        &[
            "affected_rows_total 7",
            "commands_total{command=ping} 1",
            "commands_total{command=query} 4",
            "commands_total{command=quit} 1",
            "commands_total{command=stmt_close} 1",
            "commands_total{command=stmt_execute} 1",
            "commands_total{command=stmt_prepare} 1",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "errors_total{errno=1146} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 10",
            "packets_total{sender=server} 24",
            "result_sets_total 3",
            "rows_total 6",
            "statements_total{verb=select} 4",
            "statements_total{verb=update} 1",
        ],
    );
}

#[test]
fn pipelined_commands_are_counted_with_their_responses() {
    assert_counted(
        &scripts::pipelined(),
        &[("ping", 1), ("query", 4)],
        &[
            "affected_rows_total 7",
            "commands_total{command=ping} 1",
            "commands_total{command=query} 4",
            "commands_total{command=quit} 1",
            "commands_total{command=stmt_send_long_data} 2",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "errors_total{errno=1064} 1",
            "errors_total{errno=1146} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "local_infile_total 1",
            "packets_total{sender=client} 11",
            "packets_total{sender=server} 13",
            "result_sets_total 1",
            "rows_total 2",
            "statements_total{verb=load} 1",
            "statements_total{verb=other} 2",
            "statements_total{verb=select} 1",
        ],
    );
}

#[test]
fn status_flags_and_warnings_are_counted_and_gauges_are_zero_at_the_end() {
    assert_counted(
        &scripts::unfinished(),
        &[("query", 2), ("stmt_execute", 1), ("stmt_prepare", 1)],
        &[
            "affected_rows_total 1",
            "commands_total{command=query} 3",
            "commands_total{command=stmt_execute} 1",
            "commands_total{command=stmt_prepare} 1",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "no_index_used_total 1",
            "packets_total{sender=client} 6",
            "packets_total{sender=server} 16",
            "result_sets_total 1",
            "rows_total 1",
            "slow_flag_total 1",
            "statements_total{verb=begin} 1",
            "statements_total{verb=insert} 1",
            "statements_total{verb=select} 1",
            "warnings_total 5",
        ],
    );
}

#[test]
fn open_commands_statements_and_transactions_are_counted_while_they_are_open() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    let open = || {
        plugin.flush();
        let gauge = |name: &str| vm.metric(&format!("{OUTBOUND_ORDERS}firstword_{name}")).unwrap();
        ["commands_in_flight", "prepared_statements_open", "transactions_open"].map(gauge)
    };
    scripts::play(&stream, &scripts::unfinished());
    assert_eq!(open(), [1, 1, 1]);
    stream.server(&packet(5, &eof(IN_TRANS)));
    stream.client(&command(COM_STMT_CLOSE, &[1, 0, 0, 0]));
    assert_eq!(open(), [0, 0, 1]);
    scripts::play(&stream, &scripts::query("commit", [ok()]));
    assert_eq!(open(), [0, 0, 0]);
    stream.close(Ending::ServerReset);
    assert_eq!(open(), [0, 0, 0]);
}

#[test]
fn a_binary_log_is_one_response() {
    assert_counted(
        &scripts::replica(),
        &[],
        &[
            "commands_total{command=binlog_dump} 1",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 4",
            "packets_total{sender=server} 7",
        ],
    );
}

#[test]
fn a_password_without_tls_is_counted() {
    assert_counted(
        &scripts::full_authentication(),
        &[],
        &[
            "auth_switches_total{plugin=caching_sha2_password} 1",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 4",
            "packets_total{sender=server} 5",
            "hazards_total{kind=full_auth_without_tls} 1",
            "plaintext_full_auth_total 1",
        ],
    );
}

#[test]
fn tls_is_counted_and_not_inspected() {
    assert_counted(
        &scripts::tls(),
        &[],
        &[
            "connections_closed_total{phase=opaque,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mysql,release=8.0} 1",
            "handshakes_total{result=tls} 1",
            "opaque_total{reason=tls} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 1",
        ],
    );
}

#[test]
fn compression_is_counted_and_not_inspected() {
    let mut script = scripts::compressed();
    script.push(Turn::Server(vec![7; 1000]));
    assert_counted(
        &script,
        &[],
        &[
            "compressed_bytes_total{sender=client} 20",
            "compressed_bytes_total{sender=server} 1000",
            "connections_closed_total{phase=opaque,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "opaque_total{reason=compressed} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 2",
        ],
    );
}

#[test]
fn an_error_instead_of_a_greeting_is_counted() {
    assert_counted(
        &scripts::too_many_connections(),
        &[],
        &[
            "connections_closed_total{phase=greeting,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "packets_total{sender=server} 1",
            "hazards_total{kind=too_many_connections} 1",
            "pre_handshake_errors_total{errno=1040} 1",
        ],
    );
}

#[test]
fn a_refused_password_is_counted() {
    assert_counted(
        &scripts::refused(1045),
        &[],
        &[
            "connections_closed_total{phase=authentication,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshake_errors_total{errno=1045,plugin=mysql_native_password} 1",
            "handshakes_total{result=error} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 2",
        ],
    );
}

#[test]
fn an_unsolicited_error_is_counted_as_a_notice() {
    let mut script = scripts::login(CLIENT_CAPABILITIES);
    script.push(Turn::Server(packet(0, &err(4031))));
    assert_counted(
        &script,
        &[],
        &[
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 3",
            "hazards_total{kind=idle_closed_by_server} 1",
            "server_notices_total{errno=4031} 1",
        ],
    );
}

#[test]
fn a_greeting_of_version_9_is_counted_and_not_inspected() {
    let script = [
        Turn::Server(packet(0, b"\x093.20.32\0\x07\0\0\0scramble\0")),
        Turn::Client(packet(1, b"\x05\0\xff\xff\xffapp\0scramble")),
        Turn::Server(packet(2, b"\0\0\0")),
    ];
    assert_counted(
        &script,
        &[],
        &[
            "connections_closed_total{phase=opaque,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mysql,release=other} 1",
            "opaque_total{reason=not_mysql} 1",
            "packets_total{sender=server} 1",
        ],
    );
}

#[test]
fn commands_are_not_in_flight_after_the_end_of_inspection() {
    for (commands, count, reason) in [
        (command(0x20, b""), 1, "clone"),
        (command(0x21, b""), 1, "replication"),
        // Equal commands of one callback share an entry.
        ([command(COM_PING, b""), command(0x09, b"")].concat().repeat(513), 1024, "memory"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let script = [scripts::login(CLIENT_CAPABILITIES), vec![Turn::Client(commands)]].concat();
        let stream = plugin.connect(&ORDERS);
        scripts::play(&stream, &script);
        plugin.flush();
        assert_eq!(sum(&vm, "commands_total", &[]), count, "{reason}");
        assert_eq!(sum(&vm, "commands_in_flight", &[]), 0, "{reason}");
        assert_eq!(sum(&vm, "command_duration_seconds_count", &[]), 0, "{reason}");
        assert_eq!(sum(&vm, "opaque_total", &[&format!("reason=.={reason}")]), 1);
        assert_eq!(stream.server(&answer([ok()])), [], "{reason}");
        stream.close(Ending::ClientFin);
        let log = vm.log();
        let expected = if reason == "memory" { 1 } else { 0 };
        assert_eq!(log.len(), expected, "only a desync is a defect: {log:?}");
        assert!(
            log.iter().all(|(_, line)| line.starts_with("event=opaque reason=memory direction=outbound"))
        );
    }
}

#[test]
fn a_desync_is_counted_and_logged_once() {
    assert_counted(
        &scripts::desync(),
        &[],
        &[
            "connections_closed_total{phase=opaque,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "opaque_total{reason=desync} 1",
            "packets_total{sender=client} 2",
            "packets_total{sender=server} 2",
        ],
    );
    let vm = Vm::start();
    run(&vm.plugin(FULL), &ORDERS, &scripts::desync(), Ending::ClientFin);
    assert_eq!(vm.log(), [(3, scripts::desync_line())]);
}

#[test]
fn every_cut_counts_the_same() {
    for (name, script) in scripts::all() {
        let whole = metrics_of(&script);
        let longest = script.iter().map(|turn| match turn {
            Turn::Client(bytes) | Turn::Server(bytes) => bytes.len(),
        });
        for at in 1..longest.max().unwrap() {
            assert_eq!(metrics_of(&cut(&script, at)), whole, "{name} cut at {at}");
        }
        for size in [1, 2, 3, 5] {
            assert_eq!(metrics_of(&in_pieces(&script, size)), whole, "{name} in pieces of {size}");
        }
    }
}

/// Packets of 16 MiB and more are sent in fragments. A server may refuse such a packet before its last fragment.
#[test]
fn long_packets_in_both_directions_are_counted_once() {
    let long = "x".repeat(MAX_FRAGMENT + 10);
    let answers = |wire: Vec<u8>| vec![Turn::Client(command(COM_QUERY, long.as_bytes())), Turn::Server(wire)];
    let row_of_16_mib = [&[0xfe, 10, 0, 0, 1, 0, 0, 0, 0][..], long.as_bytes()].concat();
    let rows = vec![column_count(1), column_def("a"), eof(AUTOCOMMIT), row_of_16_mib, eof(AUTOCOMMIT)];
    let script: Script = [
        scripts::login(CLIENT_CAPABILITIES),
        // The command ends with sequence id 1, so its response begins with 2.
        answers(packets(2, rows)),
        answers(packets(2, [ok()])),
    ]
    .concat();
    let expected = [
        "commands_total{command=query} 2",
        "connections_closed_total{phase=command,closed_by=client} 1",
        "connections_total{protocol=mysql} 1",
        "greeting_duration_seconds_count 1",
        "greetings_total{flavor=mariadb,release=10.11} 1",
        "handshake_duration_seconds_count 1",
        "handshakes_total{result=ok} 1",
        "packets_total{sender=client} 5",
        "packets_total{sender=server} 9",
        "result_sets_total 1",
        "rows_total 1",
        "statements_total{verb=other} 2",
    ];
    assert_counted(&script, &[("query", 2)], &expected);
    assert_counted(&in_pieces(&script, 1 << 20), &[("query", 2)], &expected);

    let wire = command(COM_QUERY, long.as_bytes());
    let (head, tail) = wire.split_at(MAX_FRAGMENT + 6);
    let refused = [Turn::Client(head.into()), Turn::Server(packet(2, &err(1153))), Turn::Client(tail.into())];
    assert_counted(
        &[scripts::login(CLIENT_CAPABILITIES), refused.to_vec()].concat(),
        &[("query", 1)],
        &[
            "commands_total{command=query} 1",
            "connections_closed_total{phase=command,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "hazards_total{kind=packet_too_large} 1",
            "errors_total{errno=1153} 1",
            "greeting_duration_seconds_count 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshake_duration_seconds_count 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 3",
            "packets_total{sender=server} 3",
            "statements_total{verb=other} 1",
        ],
    );
}
