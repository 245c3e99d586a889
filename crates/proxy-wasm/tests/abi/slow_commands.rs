//! Slow commands: the gauge while they are in flight, and the log line when they end.

use std::time::Duration;

use crate::host::{Ending, ORDERS, Vm, count};
use crate::scripts::{self, login, play};
use crate::{assert_gauges_are_zero, sum};
use firstword_testing::packets::*;

const SECOND: Duration = Duration::from_secs(1);

fn stalled(vm: &Vm) -> u64 {
    sum(vm, "commands_stalled", &[])
}

#[test]
fn a_stalled_command_is_counted_while_it_is_in_flight() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"alter table a"));
    vm.advance(10 * SECOND - SECOND / 2);
    stream.client(&command(COM_PING, b""));
    plugin.flush();
    assert_eq!(stalled(&vm), 0);
    vm.advance(SECOND / 2);
    plugin.flush();
    assert_eq!(stalled(&vm), 1);
    let calls = [plugin.tick(), plugin.tick()].concat();
    assert_eq!(count(&calls, "set_effective_context"), 0, "nothing has changed");
    vm.advance(10 * SECOND);
    plugin.flush();
    assert_eq!((stalled(&vm), sum(&vm, "commands_in_flight", &[])), (2, 2));
    stream.server(&answer([ok()]));
    plugin.flush();
    assert_eq!(stalled(&vm), 1);
    stream.server(&answer([ok()]));
    plugin.flush();
    assert_eq!(stalled(&vm), 0);
    stream.close(Ending::ClientFin);
}

#[test]
fn no_command_is_stalled_after_the_end_of_the_connection_or_of_inspection() {
    for ending in Ending::ALL {
        let vm = Vm::start();
        let plugin = vm.plugin(r#"{"metrics": {"stall": "20s"}}"#);
        let stream = plugin.connect(&ORDERS);
        play(&stream, &login(CLIENT_CAPABILITIES));
        stream.client(&command(COM_QUERY, b"select a"));
        vm.advance(19 * SECOND);
        plugin.flush();
        assert_eq!(stalled(&vm), 0, "{ending:?}");
        vm.advance(SECOND);
        plugin.flush();
        assert_eq!(stalled(&vm), 1, "{ending:?}");
        if ending == Ending::Drain {
            // Not a valid response to a query.
            stream.server(&packet(9, b"\0"));
            plugin.flush();
            assert_eq!((stalled(&vm), sum(&vm, "opaque_total", &[])), (0, 1));
        }
        stream.close(ending);
        plugin.flush();
        assert_gauges_are_zero(&vm);
    }
}

#[test]
fn a_replica_is_not_stalled() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_BINLOG_DUMP, &[0; 10]));
    vm.advance(3600 * SECOND);
    plugin.flush();
    assert_eq!((stalled(&vm), sum(&vm, "commands_in_flight", &[])), (0, 1));
}

const SLOW: &str = r#"{"rules": [{"name": "db", "mysql": {"slow_command": "200ms"}}]}"#;
const PLACE: &str = "direction=outbound destination=10.0.0.5:3306 cluster=orders rule=db";

#[test]
fn each_slow_or_failed_command_is_logged_in_one_line() {
    let vm = Vm::start();
    let plugin = vm.plugin(SLOW);
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    let run = |text: &[u8], response: Vec<u8>, micros: u64| -> Vec<(u32, String)> {
        stream.client(&command(COM_QUERY, text));
        vm.advance(Duration::from_micros(micros));
        stream.server(&answer([response]));
        vm.log()
    };
    assert_eq!(run(b"update t set a = 'secret'", ok(), 199_999), []);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let text = format!("update t set a = 'secret' where b in (1, 2) /*traceparent='{trace}'*/");
    let line = format!(
        "event=slow_command {PLACE} duration_ms=200.007 command=query verb=update \
         digest=\"update t set a = ? where b in (?+)\" traceparent={trace}"
    );
    assert_eq!(run(text.as_bytes(), ok(), 200_007), [(3, line)]);
    let line = format!(
        "event=failed_command {PLACE} duration_ms=0.001 errno=1146 command=query verb=select digest=\"select ?\""
    );
    assert_eq!(run(b"select 'secret'", err(1146), 1), [(3, line)]);
    stream.client(&command(COM_PING, b""));
    vm.advance(SECOND);
    stream.server(&answer([ok()]));
    assert_eq!(vm.log(), [(3, format!("event=slow_command {PLACE} duration_ms=1000.000 command=ping"))]);
}

/// Keys and values of a line of `key=value`, with optional double quotes. `None` if it is not valid logfmt.
fn logfmt(line: &str) -> Option<Vec<(&str, &str)>> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(' ').unwrap_or(after.len())),
        };
        if key.contains(['"', ' ']) || value.contains(['"', '\\']) {
            return None;
        }
        pairs.push((key, value));
        rest = if after.is_empty() { "" } else { after.strip_prefix(' ')? };
    }
    Some(pairs)
}

/// A client's statement cannot end or forge a line, hide text in it or send codes to a terminal.
#[test]
fn a_digest_is_escaped() {
    let vm = Vm::start();
    let plugin = vm.plugin(SLOW);
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    let cases: [(&[u8], &str); 9] = [
        (b"SELECT \\", "SELECT ?"),
        (b"SELECT a \\\" b", "SELECT a ??"),
        ("SELECT a\u{9b}31m".as_bytes(), "SELECT a%C2%9B31m"),
        ("SELECT `a\u{85}event=forged`".as_bytes(), "SELECT `a%C2%85event=forged`"),
        ("SELECT `a\u{2028}event`".as_bytes(), "SELECT `a%E2%80%A8event`"),
        ("SELECT a\u{202e}b".as_bytes(), "SELECT a%E2%80%AEb"),
        ("SELECT a\u{e0041}b".as_bytes(), "SELECT a%F3%A0%81%81b"),
        ("SELECT 订".as_bytes(), "SELECT %E8%AE%A2"),
        (b"SELECT \xff\xfe", "SELECT %FF%FE"),
    ];
    for (text, digest) in cases {
        stream.client(&command(COM_QUERY, text));
        stream.server(&answer([err(1064)]));
        let lines = vm.log();
        let [(_, line)] = lines.as_slice() else { panic!("{lines:?}") };
        let pairs = logfmt(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(pairs.last(), Some(&("digest", digest)), "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
    }
}

#[test]
fn a_command_without_a_response_is_logged_at_the_end() {
    let vm = Vm::start();
    let plugin = vm.plugin(SLOW);
    for (millis, is_logged) in [(199, false), (200, true)] {
        let stream = plugin.connect(&ORDERS);
        play(&stream, &login(CLIENT_CAPABILITIES));
        stream.client(&command(COM_QUERY, b"select 'secret'"));
        vm.advance(Duration::from_millis(millis));
        stream.close(Ending::ServerReset);
        let line = format!(
            "event=unanswered_command {PLACE} duration_ms=200.000 command=query verb=select digest=\"select ?\""
        );
        let expected: Vec<_> = is_logged.then_some((3, line)).into_iter().collect();
        assert_eq!(vm.log(), expected);
    }
}

#[test]
fn without_the_setting_no_slow_command_is_logged() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream.client(&command(COM_QUERY, b"select 'secret'"));
    vm.advance(3600 * SECOND);
    stream.server(&answer([err(1146)]));
    stream.close(Ending::ClientFin);
    assert_eq!(vm.log(), []);
}

#[test]
fn a_burst_of_errors_does_not_fill_the_log() {
    let vm = Vm::start();
    let plugin = vm.plugin(SLOW);
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    for _ in 0..1000 {
        play(&stream, &scripts::query("select a", [err(1146)]));
    }
    assert_eq!(vm.log().len(), 60);
    vm.advance(61 * SECOND);
    plugin.tick();
    assert_eq!(
        vm.log(),
        [(3, "event=log_limit withheld=940 fix=\"raise log.max_per_minute to see them\"".to_owned())]
    );
    play(&stream, &scripts::query("select a", [err(1146)]));
    assert_eq!(vm.log().len(), 1);
}
