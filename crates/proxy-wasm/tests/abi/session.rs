//! Exact metrics of connections.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::expected_counts::Counts;
use crate::host::{Ending, ORDERS, Vm};
use crate::scripts::{self, Script, Turn, cut, in_pieces, run};
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, buckets, sum, under};
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

/// Asserts all metrics after one connection, zeros included, without buckets.
fn assert_counted(script: &[Turn], expected: Counts) {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    run(&plugin, &ORDERS, script, Ending::ClientFin);
    plugin.flush();
    expected.assert(&vm, script);
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

    let commands = [
        ("change_user", "none", 1),
        ("ping", "none", 1),
        ("query", "select", 3),
        ("query", "update", 1),
        ("stmt_execute", "select", 1),
        ("stmt_prepare", "select", 1),
    ];
    let expected = Counts::accepted().responses(&commands).with(&[
        ("affected_rows_total", 7),
        ("auth_switches_total{plugin=mysql_native_password}", 1),
        ("commands_total{command=quit}", 1),
        ("commands_total{command=stmt_close}", 1),
        ("errors_total{errno=1146}", 1),
        ("greeting_duration_microseconds_sum", 3001),
        ("handshake_duration_microseconds_sum", 3001),
        ("packets_total{sender=client}", 13),
        ("packets_total{sender=server}", 32),
        ("result_sets_total", 3),
        ("rows_total", 6),
        ("statements_total{verb=select}", 4),
        ("statements_total{verb=update}", 1),
    ]);
    expected.assert(&vm, &script);

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
        Counts::accepted()
            .responses(&[
                ("ping", "none", 1),
                ("query", "select", 3),
                ("query", "update", 1),
                ("stmt_execute", "select", 1),
                ("stmt_prepare", "select", 1),
            ])
            .with(&[
                ("affected_rows_total", 7),
                ("commands_total{command=quit}", 1),
                ("commands_total{command=stmt_close}", 1),
                ("errors_total{errno=1146}", 1),
                ("packets_total{sender=client}", 10),
                ("packets_total{sender=server}", 24),
                ("result_sets_total", 3),
                ("rows_total", 6),
                ("statements_total{verb=select}", 4),
                ("statements_total{verb=update}", 1),
            ]),
    );
}

#[test]
fn pipelined_commands_are_counted_with_their_responses() {
    assert_counted(
        &scripts::pipelined(),
        Counts::accepted()
            .responses(&[
                ("ping", "none", 1),
                ("query", "load", 1),
                ("query", "other", 2),
                ("query", "select", 1),
            ])
            .with(&[
                ("affected_rows_total", 7),
                ("commands_total{command=quit}", 1),
                ("commands_total{command=stmt_send_long_data}", 2),
                ("errors_total{errno=1064}", 1),
                ("errors_total{errno=1146}", 1),
                ("local_infile_total", 1),
                ("packets_total{sender=client}", 11),
                ("packets_total{sender=server}", 13),
                ("result_sets_total", 1),
                ("rows_total", 2),
                ("statements_total{verb=load}", 1),
                ("statements_total{verb=other}", 2),
                ("statements_total{verb=select}", 1),
            ]),
    );
}

#[test]
fn status_flags_and_warnings_are_counted_and_gauges_are_zero_at_the_end() {
    assert_counted(
        &scripts::unfinished(),
        Counts::accepted()
            .responses(&[
                ("query", "begin", 1),
                ("query", "select", 1),
                ("stmt_execute", "insert", 1),
                ("stmt_prepare", "insert", 1),
            ])
            .with(&[
                ("affected_rows_total", 1),
                ("commands_total{command=query}", 3),
                ("no_index_used_total", 1),
                ("packets_total{sender=client}", 6),
                ("packets_total{sender=server}", 16),
                ("result_sets_total", 1),
                ("rows_total", 1),
                ("slow_flag_total", 1),
                ("statements_total{verb=begin}", 1),
                ("statements_total{verb=insert}", 1),
                ("statements_total{verb=select}", 1),
                ("warnings_total", 5),
            ]),
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
        Counts::accepted().with(&[
            ("commands_total{command=binlog_dump}", 1),
            ("packets_total{sender=client}", 4),
            ("packets_total{sender=server}", 7),
        ]),
    );
}

#[test]
fn a_password_without_tls_is_counted() {
    assert_counted(
        &scripts::full_authentication(),
        Counts::accepted().with(&[
            ("auth_switches_total{plugin=caching_sha2_password}", 1),
            ("hazards_total{kind=full_auth_without_tls}", 1),
            ("packets_total{sender=client}", 4),
            ("packets_total{sender=server}", 5),
            ("plaintext_full_auth_total", 1),
        ]),
    );
}

#[test]
fn tls_is_counted_and_not_inspected() {
    assert_counted(
        &scripts::tls(),
        Counts::closed_in("opaque").greeting("mysql", "8.0").with(&[
            ("handshakes_total{result=tls}", 1),
            ("opaque_total{reason=tls}", 1),
            ("packets_total{sender=client}", 1),
            ("packets_total{sender=server}", 1),
        ]),
    );
}

#[test]
fn compression_is_counted_and_not_inspected() {
    let mut script = scripts::compressed();
    script.push(Turn::Server(vec![7; 1000]));
    assert_counted(
        &script,
        Counts::closed_in("opaque").handshake("ok").with(&[
            ("compressed_bytes_total{sender=client}", 20),
            ("compressed_bytes_total{sender=server}", 1000),
            ("opaque_total{reason=compressed}", 1),
            ("packets_total{sender=client}", 1),
            ("packets_total{sender=server}", 2),
        ]),
    );
}

#[test]
fn an_error_instead_of_a_greeting_is_counted() {
    assert_counted(
        &scripts::too_many_connections(),
        Counts::closed_in("greeting").with(&[
            ("hazards_total{kind=too_many_connections}", 1),
            ("packets_total{sender=server}", 1),
            ("pre_handshake_errors_total{errno=1040}", 1),
        ]),
    );
}

#[test]
fn a_refused_password_is_counted() {
    assert_counted(
        &scripts::refused(1045),
        Counts::closed_in("authentication").handshake("error").with(&[
            ("handshake_errors_total{errno=1045,plugin=mysql_native_password}", 1),
            ("packets_total{sender=client}", 1),
            ("packets_total{sender=server}", 2),
        ]),
    );
}

#[test]
fn an_unsolicited_error_is_counted_as_a_notice() {
    let mut script = scripts::login(CLIENT_CAPABILITIES);
    script.push(Turn::Server(packet(0, &err(4031))));
    assert_counted(
        &script,
        Counts::accepted().with(&[
            ("hazards_total{kind=idle_closed_by_server}", 1),
            ("packets_total{sender=client}", 1),
            ("packets_total{sender=server}", 3),
            ("server_notices_total{errno=4031}", 1),
        ]),
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
        Counts::closed_in("opaque")
            .greeting("mysql", "other")
            .with(&[("opaque_total{reason=not_mysql}", 1), ("packets_total{sender=server}", 1)]),
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
        Counts::closed_in("opaque").handshake("ok").with(&[
            ("opaque_total{reason=desync}", 1),
            ("packets_total{sender=client}", 2),
            ("packets_total{sender=server}", 2),
        ]),
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
    let expected = || {
        Counts::accepted().responses(&[("query", "other", 2)]).with(&[
            ("packets_total{sender=client}", 5),
            ("packets_total{sender=server}", 9),
            ("result_sets_total", 1),
            ("rows_total", 1),
            ("statements_total{verb=other}", 2),
        ])
    };
    assert_counted(&script, expected());
    assert_counted(&in_pieces(&script, 1 << 20), expected());

    let wire = command(COM_QUERY, long.as_bytes());
    let (head, tail) = wire.split_at(MAX_FRAGMENT + 6);
    let refused = [Turn::Client(head.into()), Turn::Server(packet(2, &err(1153))), Turn::Client(tail.into())];
    assert_counted(
        &[scripts::login(CLIENT_CAPABILITIES), refused.to_vec()].concat(),
        Counts::accepted().responses(&[("query", "other", 1)]).with(&[
            ("errors_total{errno=1153}", 1),
            ("hazards_total{kind=packet_too_large}", 1),
            ("packets_total{sender=client}", 3),
            ("packets_total{sender=server}", 3),
            ("statements_total{verb=other}", 1),
        ]),
    );
}
