//! Greetings that lose capabilities and requests for files that are blocked: which host calls that becomes, and what is
//! counted and logged.

use crate::host::{Call, Ending, Led, ORDERS, Plugin, Stream, Vm, count};
use crate::sum;
use firstword_testing::packets::*;

const CLEAR: &str = r#"{"rules": [{"name": "orders", "match": {"addresses": ["10.0.0.0/24"]},
    "mysql": {"clear_capabilities": ["compress", "zstd", "ssl"]}}]}"#;
const BLOCK: &str = r#"{"rules": [{"name": "orders", "mysql": {"block_local_infile": true}}]}"#;

const CLIENT_ZSTD: u32 = 1 << 26;
const CLEARED: u32 = CLIENT_COMPRESS | CLIENT_SSL | CLIENT_ZSTD;

fn observing(configuration: &str) -> String {
    configuration.replacen('{', r#"{"mode": "observe","#, 1)
}

fn edits(calls: &[Call]) -> usize {
    count(calls, "set_buffer_bytes")
}

/// The lines of the log that tell of this event.
fn told(vm: &Vm, event: &str) -> Vec<String> {
    let start = format!("event={event} ");
    vm.log().into_iter().map(|(_, line)| line).filter(|line| line.starts_with(&start)).collect()
}

#[test]
fn a_greeting_loses_flags_and_nothing_else_however_it_is_cut() {
    let before = packet(0, &handshake_v10("8.0.36", u32::MAX));
    let after = packet(0, &handshake_v10("8.0.36", !CLEARED));
    for cut in 0..=before.len() {
        let vm = Vm::start();
        let plugin = vm.plugin(CLEAR);
        let stream = plugin.connect(&ORDERS);
        let (first, _) = stream.server_behind(&before[..cut], false);
        assert_eq!(first, after[..cut], "cut at {cut}");
        let (second, _) = stream.server_behind(&before[cut..], false);
        assert_eq!([first, second].concat(), after, "cut at {cut}");
        // What follows is left alone.
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
        let (_, calls) = stream.server_behind(&packet(2, &ok()), false);
        assert_eq!(edits(&calls), 0);
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "handshakes_total", &["result=.=ok"]), 1);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=server"]), (before.len() + 11) as u64);
    }
}

/// What the server can do decides how the connection is followed, for the client may ask for it all the same.
#[test]
fn a_client_that_asks_for_tls_all_the_same_is_followed() {
    for (capabilities, behind, reason) in [
        (CLIENT_SSL, b"\x16\x03\x01".as_slice(), "reason=.=tls"),
        (CLIENT_COMPRESS, b"", "reason=.=compressed"),
        (CLIENT_ZSTD, b"", "reason=.=compressed"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(CLEAR);
        let stream = plugin.connect(&ORDERS);
        stream.server_behind(&packet(0, &handshake_v10("8.0.36", u32::MAX)), false);
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES | capabilities)));
        if behind.is_empty() {
            stream.server(&packet(2, &ok()));
        } else {
            stream.client(behind);
        }
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "opaque_total", &[reason]), 1, "{reason}");
    }
}

#[test]
fn the_downgrade_and_servers_that_refuse_it_are_told_once() {
    let vm = Vm::start();
    let plugin = vm.plugin(CLEAR);
    vm.log();
    for _ in 0..2 {
        let stream = plugin.connect(&ORDERS);
        stream.server_behind(&packet(0, &handshake_v10("8.0.36", u32::MAX)), false);
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
        stream.server(&packet(2, &err(3159)));
        stream.close(Ending::ServerFin);
    }
    plugin.flush();
    let log = vm.log();
    let lines: Vec<_> = log.iter().map(|(_, line)| line.split(" cause=").next().unwrap()).collect();
    let place = "direction=outbound destination=10.0.0.5:3306 cluster=orders";
    assert_eq!(
        lines,
        [format!("event=tls_cleared {place}"), format!("event=hazard kind=tls_required {place}")]
    );
    assert!(log[1].1.contains("clear_capabilities takes its offer of TLS away"), "{log:?}");
    assert!(log.iter().all(|(level, _)| *level == 3), "{log:?}");
    assert_eq!(sum(&vm, "handshake_errors_total", &["errno=.=3159"]), 2);

    // Where the greeting offers no TLS nothing is lost, and where none is cleared it is not the filter's doing.
    for (configuration, capabilities) in [(CLEAR, !CLIENT_SSL), ("", u32::MAX), (&observing(CLEAR), u32::MAX)]
    {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        let stream = plugin.connect(&ORDERS);
        let greeting = packet(0, &handshake_v10("8.0.36", capabilities));
        let (passed, _) = stream.server_behind(&greeting, false);
        assert_eq!(passed == greeting, configuration != CLEAR);
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
        let place = stream.server_behind(&packet(2, &err(1045)), false);
        assert_eq!(place.0, packet(2, &err(1045)));
        stream.close(Ending::ServerFin);
        assert_eq!(vm.log(), [], "{configuration}");
    }
}

/// A connection whose client has logged in and sent a statement.
fn asks(vm: &Vm, configuration: &str, statement: &str) -> (Plugin, Stream) {
    let plugin = vm.plugin(configuration);
    vm.log();
    let stream = plugin.connect(&ORDERS);
    stream.server(&greeting());
    stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    stream.server(&packet(2, &ok()));
    stream.client(&command(COM_QUERY, statement.as_bytes()));
    (plugin, stream)
}

fn is_refusal(packet: &[u8]) -> bool {
    packet[4..].starts_with(b"\xff\x6c\x0f#42000")
        && usize::from(packet[0]) == packet.len() - 4
        && packet[1..4] == [0, 0, 1]
}

#[test]
fn a_request_for_a_file_is_blocked_however_it_is_cut() {
    let request = packet(1, &local_infile("/etc/passwd"));
    for cut in 0..=request.len() {
        let vm = Vm::start();
        let (plugin, stream) = asks(&vm, BLOCK, "select 1");
        let (first, _) = stream.server_behind(&request[..cut], false);
        let (second, _) = stream.server_behind(&request[cut..], false);
        assert!(is_refusal(&[first.as_slice(), &second].concat()), "cut at {cut}: {first:?} {second:?}");
        assert!(first.is_empty() || cut == request.len(), "cut at {cut}");
        // Nothing of the client's reaches the server any more, and nothing of the server's the client.
        let (led, _) = stream.front(&packet(2, b"root:x:0:0:root"), false);
        assert_eq!(led, Led::On(Vec::new()));
        assert_eq!(stream.server_behind(b"\0\0\0\x03", false).0, b"");
        let closes = plugin.tick().iter().filter(|call| call.name == "close_stream").count();
        assert_eq!(closes, 1);
        stream.close(Ending::Drain);
        plugin.flush();
        for (name, expected) in [
            ("local_infile_total", 1),
            ("local_infile_blocked_total", 1),
            ("commands_total", 1),
            ("commands_in_flight", 0),
            ("opaque_total", 0),
        ] {
            assert_eq!(sum(&vm, name, &[]), expected, "{name}, cut at {cut}");
        }
        let log = told(&vm, "local_infile_blocked");
        let [line] = log.as_slice() else { panic!("{log:?}") };
        assert!(
            line.contains(" destination=10.0.0.5:3306 cluster=orders cause=") && !line.contains("passwd"),
            "{line}"
        );
    }
}

#[test]
fn a_wanted_file_passes_and_so_does_everything_where_no_rule_says_otherwise() {
    let request = packet(1, &local_infile("f"));
    let load = "load data local infile 'f' into table t";
    for (configuration, statement) in
        [(BLOCK, load), ("", "select 1"), (&observing(BLOCK), "select 1"), ("", load)]
    {
        let vm = Vm::start();
        let (plugin, stream) = asks(&vm, configuration, statement);
        let mut passed = Vec::new();
        for byte in &request {
            let (now, calls) = stream.server_behind(&[*byte], false);
            assert!(configuration == BLOCK || edits(&calls) == 0 && now == [*byte]);
            passed.extend(now);
        }
        assert_eq!(passed, request);
        stream.client(&[packet(2, b"1\n"), packet(3, b"")].concat());
        assert_eq!(stream.server_behind(&packet(4, &ok()), false).0, packet(4, &ok()));
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "local_infile_total", &[]), 1);
        assert_eq!(sum(&vm, "local_infile_blocked_total", &[]), 0);
        // Without the rule too, a single statement that names no file is known by its verb.
        let unsolicited = u64::from(statement != load);
        assert_eq!(sum(&vm, "hazards_total", &["kind=.=local_infile_unsolicited"]), unsolicited);
        assert_eq!(told(&vm, "hazard").len() as u64, unsolicited);
    }
}

/// A newer configuration's mode lets go, but not of a connection on which a request was blocked.
#[test]
fn a_bad_day_ends_without_a_connection() {
    let vm = Vm::start();
    let request = packet(1, &local_infile("/etc/passwd"));
    let (plugin, held) = asks(&vm, BLOCK, "select 1");
    assert_eq!(held.server_behind(&request[..9], false).0, b"");
    let cut = plugin.connect(&ORDERS);
    cut.server(&greeting());
    cut.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    cut.server(&packet(2, &ok()));
    assert!(is_refusal(&cut.server_behind(&request, false).0));
    vm.advance(std::time::Duration::from_millis(1));
    let newer = vm.plugin(&observing(BLOCK));
    let closes = plugin.tick().iter().filter(|call| call.name == "close_stream").count();
    assert_eq!(closes, 1);
    assert_eq!(cut.front(b"x", false).0, Led::On(Vec::new()));
    assert_eq!(held.server_behind(&request[9..], false).0, request);
    held.client(&packet(2, b""));
    cut.close(Ending::Drain);
    held.close(Ending::ClientFin);
    newer.end();
    plugin.end();
}

/// What was to be blocked must not pass where the host refuses to change it: the connection ends.
#[test]
fn a_host_that_refuses_ends_the_connection() {
    let vm = Vm::start();
    let (_plugin, stream) = asks(&vm, BLOCK, "select 1");
    vm.fail("set_buffer_bytes", 2);
    let (_, calls) = stream.server_behind(&packet(1, &local_infile("f")), false);
    assert_eq!(count(&calls, "close_stream"), 1, "{calls:?}");
    let (led, _) = stream.front(b"root", false);
    assert_eq!(led, Led::Ends);
    vm.heal();
    stream.close(Ending::Drain);
}
