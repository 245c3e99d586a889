//! Held ends of COM_STMT_PREPARE responses: host calls, metrics and log lines.

use crate::host::{Ending, ORDERS, Plugin, Stream, Vm};
use crate::{OUTBOUND_ORDERS, counted, sum};
use firstword_testing::packets::*;

const HOLD: &str =
    r#"{"rules": [{"name": "orders", "mysql": {"hold_split_eof": "always"}}], "log": {"level": "info"}}"#;

fn prepare_response() -> Vec<u8> {
    answer([prepare_ok(1, 1), column_def("?"), eof(AUTOCOMMIT), column_def("a"), eof(AUTOCOMMIT)])
}

/// Opens a connection, logs the client in and passes COM_STMT_PREPARE.
fn send_prepare(vm: &Vm, configuration: &str) -> (Plugin, Stream) {
    let plugin = vm.plugin(configuration);
    let stream = plugin.connect(&ORDERS);
    stream.server(&greeting());
    stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    stream.server(&packet(2, &ok()));
    stream.client(&command(COM_STMT_PREPARE, b"select a from orders where b = ?"));
    (plugin, stream)
}

fn edits(calls: &[crate::host::Call]) -> Vec<&str> {
    let edits = calls.iter().filter(|call| call.name == "set_buffer_bytes");
    edits.map(|call| call.what.split_once(' ').expect("arguments").1).collect()
}

#[test]
fn a_split_end_is_removed_and_put_back() {
    let vm = Vm::start();
    let (plugin, stream) = send_prepare(&vm, HOLD);
    let whole = prepare_response();
    let tail = whole.len() - 9 - packet(1, &column_def("a")).len();
    let (left, calls) = stream.pass_server(&whole[..whole.len() - 4], false);
    assert_eq!(left, whole[..tail]);
    assert_eq!(edits(&calls).len(), 1, "{calls:?}");
    let (left, calls) = stream.pass_server(&whole[whole.len() - 4..whole.len() - 1], false);
    assert_eq!((left.as_slice(), edits(&calls)), (b"".as_slice(), vec!["0 3 "]));
    let (left, calls) = stream.pass_server(&whole[whole.len() - 1..], false);
    assert_eq!(left, whole[tail..]);
    assert!(edits(&calls)[0].starts_with("0 0 "), "{calls:?}");
    // The next response is not affected.
    stream.client(&command(COM_STMT_PREPARE, b"select 1"));
    let (left, calls) = stream.pass_server(&whole, false);
    assert_eq!((left, edits(&calls)), (whole, vec![]));
    stream.close(Ending::ClientFin);
    plugin.flush();
    let lines = counted(&vm, OUTBOUND_ORDERS);
    for line in ["prepare_eof_splits_total{} 1", "prepare_eof_held_total{} 1"] {
        assert!(lines.contains(&line.replace("{}", "")), "{line}: {lines:#?}");
    }
    assert_eq!(sum(&vm, "prepare_eof_lost_total", &[]), 0);
}

#[test]
fn the_end_of_the_stream_releases_held_bytes_and_a_reset_loses_them() {
    let whole = prepare_response();
    for (ending, lost) in [(Ending::ServerFin, 0), (Ending::ServerReset, 1), (Ending::ClientReset, 0)] {
        let vm = Vm::start();
        let (plugin, stream) = send_prepare(&vm, HOLD);
        let (first, _) = stream.pass_server(&whole[..whole.len() - 1], false);
        if ending == Ending::ServerFin {
            let (rest, _) = stream.pass_server(b"", true);
            assert_eq!([first, rest].concat(), whole[..whole.len() - 1]);
        }
        stream.close(ending);
        plugin.flush();
        assert_eq!(sum(&vm, "prepare_eof_held_total", &[]), 1);
        assert_eq!(sum(&vm, "prepare_eof_lost_total", &[]), lost, "{ending:?}");
    }
}

/// Held bytes would be lost if the host refuses to put them back.
#[test]
fn a_refused_edit_closes_the_connection() {
    let vm = Vm::start();
    let whole = prepare_response();
    let (_plugin, stream) = send_prepare(&vm, HOLD);
    stream.pass_server(&whole[..whole.len() - 1], false);
    vm.fail("set_buffer_bytes", 2);
    let (_, calls) = stream.pass_server(&whole[whole.len() - 1..], false);
    assert_eq!(crate::host::count(&calls, "close_stream"), 1, "{calls:?}");
    vm.clear_faults();
    stream.close(Ending::Drain);
}

#[test]
fn affected_clients_are_logged_with_and_without_the_rule() {
    let whole = prepare_response();
    let observe = HOLD.replacen('{', r#"{"mode": "observe","#, 1);
    for (configuration, level, fix) in [
        ("", 3, r#"fix='"mysql": {"hold_split_eof": "affected_clients"}' in the rule of this destination"#),
        (
            &observe,
            3,
            r#"fix='"mysql": {"hold_split_eof": "affected_clients"}' in the rule of this destination"#,
        ),
        (HOLD, 2, "fix=none needed: hold_split_eof is on"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        vm.log();
        for _ in 0..2 {
            let stream = plugin.connect(&ORDERS);
            // Without CLIENT_CONNECT_ATTRS any client can be Connector/J.
            stream.server(&packet(
                0,
                &handshake_v10("5.5.62", MARIADB_CAPABILITIES & !(1 << 20 | 1 << 24) | 1),
            ));
            stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
            stream.server(&packet(2, &ok()));
            stream.client(&command(COM_STMT_PREPARE, b"select a from orders where b = ?"));
            if configuration != HOLD {
                let cut = whole.len() - 1;
                assert_eq!(stream.pass_server(&whole[..cut], false).0, whole[..cut]);
                assert_eq!(stream.pass_server(&whole[cut..], false).0, whole[cut..]);
            }
            stream.close(Ending::ClientFin);
        }
        plugin.flush();
        let log = vm.log();
        let [(found, line)] = log.as_slice() else { panic!("{log:?}") };
        assert_eq!(*found, level, "{line}");
        let start =
            "event=eof_hazard direction=outbound destination=10.0.0.5:3306 cluster=orders client=\"unknown";
        assert!(line.starts_with(start) && line.contains(fix), "{line}");
        assert_eq!(sum(&vm, "eof_hazard_clients_total", &[]), 2);
        assert_eq!(sum(&vm, "prepare_eof_splits_total", &[]), if configuration == HOLD { 0 } else { 2 });
        assert_eq!(sum(&vm, "prepare_eof_held_total", &[]), 0);
    }
}
