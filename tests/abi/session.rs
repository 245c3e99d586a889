//! What is counted of a connection, to the last unit.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Ending, ORDERS, Vm};
use crate::scripts::{self, Script, Turn, bytes, cut, in_pieces, run};
use crate::support::packets::*;
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, counted, under};

const FULL: &str = r#"{"metrics": {"profile": "full"}}"#;

/// The metrics after one connection in a VM of its own.
fn metrics_of(script: &[Turn]) -> BTreeMap<String, u64> {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    run(&plugin, &ORDERS, script, Ending::ClientFin);
    plugin.flush();
    assert_gauges_are_zero(&vm);
    vm.metrics()
}

/// Nothing but this is counted, zeros and histograms left out.
fn assert_counted(script: &[Turn], expected: &[&str]) {
    let vm = Vm::start();
    let plugin = vm.plugin(FULL);
    run(&plugin, &ORDERS, script, Ending::ClientFin);
    plugin.flush();
    let (client, server) = bytes(script);
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.push(format!("bytes_total{{sender=client}} {client}"));
    expected.push(format!("bytes_total{{sender=server}} {server}"));
    expected.retain(|line| !line.ends_with(" 0"));
    expected.sort();
    assert_eq!(counted(&vm, OUTBOUND_ORDERS), expected);
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
    let (histogram, lines): (Vec<_>, Vec<_>) =
        under(&vm, OUTBOUND_ORDERS).into_iter().partition(|line| line.starts_with("greeting_duration"));
    let expected = format!(
        "affected_rows_total 7
bytes_total{{sender=client}} {client}
bytes_total{{sender=server}} {server}
commands_in_flight 0
commands_total{{command=change_user}} 1
commands_total{{command=ping}} 1
commands_total{{command=query}} 4
commands_total{{command=quit}} 1
commands_total{{command=stmt_close}} 1
commands_total{{command=stmt_execute}} 1
commands_total{{command=stmt_prepare}} 1
connections_active{{protocol=mysql}} 0
connections_closed_total{{phase=command,by=client}} 1
connections_total{{protocol=mysql}} 1
errors_total{{errno=1146}} 1
greetings_total{{flavor=mariadb,release=10.11}} 1
handshakes_total{{result=aborted}} 0
handshakes_total{{result=error}} 0
handshakes_total{{result=ok}} 1
handshakes_total{{result=tls}} 0
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
result_sets_total 3
rows_total 6"
    );
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());

    let bucket = |line: &String| line.starts_with("greeting_duration_seconds_bucket");
    let (below, above): (Vec<_>, Vec<_>) =
        histogram.iter().filter(|line| bucket(line)).partition(|line| line.ends_with(" 0"));
    assert_eq!((below.len(), above.len()), (5, 12), "0.0001 to 0.0025 and 0.005 to +Inf: {histogram:?}");
    assert!(above.iter().all(|line| line.ends_with(" 1")));
    let rest: Vec<_> = histogram.iter().filter(|line| !bucket(line)).collect();
    assert_eq!(rest, ["greeting_duration_microseconds_sum 3001", "greeting_duration_seconds_count 1"]);

    let mut vm_lines = under(&vm, "");
    let build_info = vm_lines.remove(0);
    assert!(build_info.starts_with("build_info{version=") && build_info.ends_with("} 1"), "{build_info}");
    let series = vm.metrics().len();
    let series = format!("series {series}");
    assert_eq!(vm_lines, ["heartbeat_total 2", &series, "series_overflow_total 0", "vm_memory_bytes 0"]);
}

#[test]
fn the_end_of_a_result_set_can_be_an_ok() {
    assert_counted(
        &scripts::modern(),
        &[
            "affected_rows_total 7",
            "commands_total{command=ping} 1",
            "commands_total{command=query} 4",
            "commands_total{command=quit} 1",
            "commands_total{command=stmt_close} 1",
            "commands_total{command=stmt_execute} 1",
            "commands_total{command=stmt_prepare} 1",
            "connections_closed_total{phase=command,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "errors_total{errno=1146} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 10",
            "packets_total{sender=server} 24",
            "result_sets_total 3",
            "rows_total 6",
        ],
    );
}

#[test]
fn commands_can_be_sent_ahead_of_answers() {
    assert_counted(
        &scripts::pipelined(),
        &[
            "affected_rows_total 7",
            "commands_total{command=ping} 1",
            "commands_total{command=query} 4",
            "commands_total{command=quit} 1",
            "commands_total{command=stmt_send_long_data} 2",
            "connections_closed_total{phase=command,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "errors_total{errno=1064} 1",
            "errors_total{errno=1146} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 11",
            "packets_total{sender=server} 13",
            "result_sets_total 1",
            "rows_total 2",
        ],
    );
}

#[test]
fn tls_is_counted_and_not_looked_into() {
    assert_counted(
        &scripts::tls(),
        &[
            "connections_closed_total{phase=opaque,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greetings_total{flavor=mysql,release=8.0} 1",
            "handshakes_total{result=tls} 1",
            "opaque_total{reason=tls} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 1",
        ],
    );
}

#[test]
fn compression_is_counted_and_not_looked_into() {
    assert_counted(
        &scripts::compressed(),
        &[
            "connections_closed_total{phase=opaque,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "opaque_total{reason=compressed} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 2",
        ],
    );
}

#[test]
fn an_error_instead_of_a_greeting() {
    assert_counted(
        &scripts::too_many_connections(),
        &[
            "connections_closed_total{phase=greeting,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "packets_total{sender=server} 1",
            "pre_handshake_errors_total{errno=1040} 1",
        ],
    );
}

#[test]
fn a_refused_password() {
    let mut script = scripts::login(CLIENT_CAPABILITIES);
    script.truncate(2);
    script.push(Turn::Server(packet(2, &err(1045))));
    assert_counted(
        &script,
        &[
            "connections_closed_total{phase=authentication,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=error} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 2",
        ],
    );
}

#[test]
fn an_error_of_the_servers_own_accord_is_a_notice() {
    let mut script = scripts::login(CLIENT_CAPABILITIES);
    script.push(Turn::Server(packet(0, &err(4031))));
    assert_counted(
        &script,
        &[
            "connections_closed_total{phase=command,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 1",
            "packets_total{sender=server} 3",
            "server_notices_total{errno=4031} 1",
        ],
    );
}

#[test]
fn what_cannot_be_followed_becomes_opaque_once_with_one_line() {
    assert_counted(
        &scripts::desync(),
        &[
            "connections_closed_total{phase=opaque,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "opaque_total{reason=desync} 1",
            "packets_total{sender=client} 2",
            "packets_total{sender=server} 2",
        ],
    );
    let vm = Vm::start();
    run(&vm.plugin(FULL), &ORDERS, &scripts::desync(), Ending::ClientFin);
    assert_eq!(vm.log(), [(3, "event=opaque reason=desync".to_owned())]);
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

/// 16 MiB and more travel in fragments; a server may refuse them before it has them all.
#[test]
fn long_packets_in_both_directions() {
    let long = "x".repeat(MAX_FRAGMENT + 10);
    let answers = |wire: Vec<u8>| vec![Turn::Client(command(COM_QUERY, long.as_bytes())), Turn::Server(wire)];
    let row_of_16_mib = [&[0xfe, 10, 0, 0, 1, 0, 0, 0, 0][..], long.as_bytes()].concat();
    let rows = vec![column_count(1), column_def("a"), eof(AUTOCOMMIT), row_of_16_mib, eof(AUTOCOMMIT)];
    let script: Script = [
        scripts::login(CLIENT_CAPABILITIES),
        // The command ends with sequence id 1, so its answer begins with 2.
        answers(packets(2, rows)),
        answers(packets(2, [ok()])),
    ]
    .concat();
    let expected = [
        "commands_total{command=query} 2",
        "connections_closed_total{phase=command,by=client} 1",
        "connections_total{protocol=mysql} 1",
        "greetings_total{flavor=mariadb,release=10.11} 1",
        "handshakes_total{result=ok} 1",
        "packets_total{sender=client} 5",
        "packets_total{sender=server} 9",
        "result_sets_total 1",
        "rows_total 1",
    ];
    assert_counted(&script, &expected);
    assert_counted(&in_pieces(&script, 1 << 20), &expected);

    let wire = command(COM_QUERY, long.as_bytes());
    let (head, tail) = wire.split_at(MAX_FRAGMENT + 6);
    let refused = [Turn::Client(head.into()), Turn::Server(packet(2, &err(1153))), Turn::Client(tail.into())];
    assert_counted(
        &[scripts::login(CLIENT_CAPABILITIES), refused.to_vec()].concat(),
        &[
            "commands_total{command=query} 1",
            "connections_closed_total{phase=command,by=client} 1",
            "connections_total{protocol=mysql} 1",
            "errors_total{errno=1153} 1",
            "greetings_total{flavor=mariadb,release=10.11} 1",
            "handshakes_total{result=ok} 1",
            "packets_total{sender=client} 3",
            "packets_total{sender=server} 3",
        ],
    );
}
