//! Answers to COM_STMT_PREPARE whose end is held: which host calls that becomes, and what is counted and logged.

use crate::host::{Ending, ORDERS, Plugin, Stream, Vm};
use crate::{OUTBOUND_ORDERS, counted, sum};
use firstword_testing::packets::*;

const HOLD: &str =
    r#"{"rules": [{"name": "orders", "mysql": {"hold_split_eof": "always"}}], "log": {"level": "info"}}"#;

fn answer_to_prepare() -> Vec<u8> {
    answer([prepare_ok(1, 1), column_def("?"), eof(AUTOCOMMIT), column_def("a"), eof(AUTOCOMMIT)])
}

/// A connection whose client has logged in and asks to prepare a statement.
fn prepares(vm: &Vm, configuration: &str) -> (Plugin, Stream) {
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
fn a_split_end_is_taken_out_and_put_back() {
    let vm = Vm::start();
    let (plugin, stream) = prepares(&vm, HOLD);
    let whole = answer_to_prepare();
    let tail = whole.len() - 9 - packet(1, &column_def("a")).len();
    let (left, calls) = stream.server_behind(&whole[..whole.len() - 4], false);
    assert_eq!(left, whole[..tail]);
    assert_eq!(edits(&calls).len(), 1, "{calls:?}");
    let (left, calls) = stream.server_behind(&whole[whole.len() - 4..whole.len() - 1], false);
    assert_eq!((left.as_slice(), edits(&calls)), (b"".as_slice(), vec!["0 3 "]));
    let (left, calls) = stream.server_behind(&whole[whole.len() - 1..], false);
    assert_eq!(left, whole[tail..]);
    assert!(edits(&calls)[0].starts_with("0 0 "), "{calls:?}");
    // Nothing of it is left.
    stream.client(&command(COM_STMT_PREPARE, b"select 1"));
    let (left, calls) = stream.server_behind(&whole, false);
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
fn the_end_of_the_stream_lets_go_and_a_reset_loses() {
    let whole = answer_to_prepare();
    for (ending, lost) in [(Ending::ServerFin, 0), (Ending::ServerReset, 1), (Ending::ClientReset, 0)] {
        let vm = Vm::start();
        let (plugin, stream) = prepares(&vm, HOLD);
        let (first, _) = stream.server_behind(&whole[..whole.len() - 1], false);
        if ending == Ending::ServerFin {
            let (rest, _) = stream.server_behind(b"", true);
            assert_eq!([first, rest].concat(), whole[..whole.len() - 1]);
        }
        stream.close(ending);
        plugin.flush();
        assert_eq!(sum(&vm, "prepare_eof_held_total", &[]), 1);
        assert_eq!(sum(&vm, "prepare_eof_lost_total", &[]), lost, "{ending:?}");
    }
}

/// What was taken out must not be lost where the host refuses to put it back: the connection ends.
#[test]
fn a_host_that_refuses_ends_the_connection() {
    let vm = Vm::start();
    let whole = answer_to_prepare();
    let (_plugin, stream) = prepares(&vm, HOLD);
    stream.server_behind(&whole[..whole.len() - 1], false);
    vm.fail("set_buffer_bytes", 2);
    let (_, calls) = stream.server_behind(&whole[whole.len() - 1..], false);
    assert_eq!(crate::host::count(&calls, "close_stream"), 1, "{calls:?}");
    vm.heal();
    stream.close(Ending::Drain);
}

#[test]
fn observing_and_off_change_nothing_and_tell_of_clients_in_danger() {
    let whole = answer_to_prepare();
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
            // Without CLIENT_CONNECT_ATTRS anybody can be Connector/J.
            stream.server(&packet(
                0,
                &handshake_v10("5.5.62", MARIADB_CAPABILITIES & !(1 << 20 | 1 << 24) | 1),
            ));
            stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
            stream.server(&packet(2, &ok()));
            stream.client(&command(COM_STMT_PREPARE, b"select a from orders where b = ?"));
            if configuration != HOLD {
                let cut = whole.len() - 1;
                assert_eq!(stream.server_behind(&whole[..cut], false).0, whole[..cut]);
                assert_eq!(stream.server_behind(&whole[cut..], false).0, whole[cut..]);
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
