//! Removed capabilities and blocked requests for files: host calls, metrics and log lines.

use crate::host::{Call, Ending, ORDERS, Outcome, Plugin, Stream, Vm, count};
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

/// The log lines of this event.
fn logged(vm: &Vm, event: &str) -> Vec<String> {
    let start = format!("event={event} ");
    vm.log().into_iter().map(|(_, line)| line).filter(|line| line.starts_with(&start)).collect()
}

#[test]
fn only_the_flags_are_removed_from_a_greeting_however_it_is_cut() {
    let before = packet(0, &handshake_v10("8.0.36", u32::MAX));
    let after = packet(0, &handshake_v10("8.0.36", !CLEARED));
    for cut in 0..=before.len() {
        let vm = Vm::start();
        let plugin = vm.plugin(CLEAR);
        let stream = plugin.connect(&ORDERS);
        let (first, _) = stream.pass_server(&before[..cut], false);
        assert_eq!(first, after[..cut], "cut at {cut}");
        let (second, _) = stream.pass_server(&before[cut..], false);
        assert_eq!([first, second].concat(), after, "cut at {cut}");
        // Later bytes are not changed.
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
        let (_, calls) = stream.pass_server(&packet(2, &ok()), false);
        assert_eq!(edits(&calls), 0);
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "handshakes_total", &["result=.=ok"]), 1);
        assert_eq!(sum(&vm, "bytes_total", &["sender=.=server"]), (before.len() + 11) as u64);
    }
}

/// The inspector uses the server's real capabilities, because the client may request them although the offer was removed.
#[test]
fn a_client_that_requests_a_removed_capability_is_inspected_correctly() {
    for (capabilities, next, reason) in [
        (CLIENT_SSL, b"\x16\x03\x01".as_slice(), "reason=.=tls"),
        (CLIENT_COMPRESS, b"", "reason=.=compressed"),
        (CLIENT_ZSTD, b"", "reason=.=compressed"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(CLEAR);
        let stream = plugin.connect(&ORDERS);
        stream.pass_server(&packet(0, &handshake_v10("8.0.36", u32::MAX)), false);
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES | capabilities)));
        if next.is_empty() {
            stream.server(&packet(2, &ok()));
        } else {
            stream.client(next);
        }
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "opaque_total", &[reason]), 1, "{reason}");
    }
}

#[test]
fn removed_tls_and_servers_that_require_it_are_logged_once() {
    let vm = Vm::start();
    let plugin = vm.plugin(CLEAR);
    vm.log();
    for _ in 0..2 {
        let stream = plugin.connect(&ORDERS);
        stream.pass_server(&packet(0, &handshake_v10("8.0.36", u32::MAX)), false);
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
    assert!(log[1].1.contains("clear_capabilities removes its offer of TLS"), "{log:?}");
    assert!(log.iter().all(|(level, _)| *level == 3), "{log:?}");
    assert_eq!(sum(&vm, "handshake_errors_total", &["errno=.=3159"]), 2);

    // Nothing is logged if the greeting offers no TLS, or if the filter does not remove the offer.
    for (configuration, capabilities) in [(CLEAR, !CLIENT_SSL), ("", u32::MAX), (&observing(CLEAR), u32::MAX)]
    {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        let stream = plugin.connect(&ORDERS);
        let greeting = packet(0, &handshake_v10("8.0.36", capabilities));
        let (passed, _) = stream.pass_server(&greeting, false);
        assert_eq!(passed == greeting, configuration != CLEAR);
        stream.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
        let (passed, _) = stream.pass_server(&packet(2, &err(1045)), false);
        assert_eq!(passed, packet(2, &err(1045)));
        stream.close(Ending::ServerFin);
        assert_eq!(vm.log(), [], "{configuration}");
    }
}

/// Opens a connection, logs the client in and passes its statement.
fn send_statement(vm: &Vm, configuration: &str, statement: &str) -> (Plugin, Stream) {
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
        let (plugin, stream) = send_statement(&vm, BLOCK, "select 1");
        let (first, _) = stream.pass_server(&request[..cut], false);
        let (second, _) = stream.pass_server(&request[cut..], false);
        assert!(is_refusal(&[first.as_slice(), &second].concat()), "cut at {cut}: {first:?} {second:?}");
        assert!(first.is_empty() || cut == request.len(), "cut at {cut}");
        // No bytes are forwarded any more, in either direction.
        let (outcome, _) = stream.pass_client(&packet(2, b"root:x:0:0:root"), false);
        assert_eq!(outcome, Outcome::Forwarded(Vec::new()));
        assert_eq!(stream.pass_server(b"\0\0\0\x03", false).0, b"");
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
        let log = logged(&vm, "local_infile_blocked");
        let [line] = log.as_slice() else { panic!("{log:?}") };
        assert!(
            line.contains(" destination=10.0.0.5:3306 cluster=orders cause=") && !line.contains("passwd"),
            "{line}"
        );
    }
}

#[test]
fn an_allowed_request_is_forwarded_and_without_the_rule_every_request_is() {
    let request = packet(1, &local_infile("f"));
    let load = "load data local infile 'f' into table t";
    for (configuration, statement) in
        [(BLOCK, load), ("", "select 1"), (&observing(BLOCK), "select 1"), ("", load)]
    {
        let vm = Vm::start();
        let (plugin, stream) = send_statement(&vm, configuration, statement);
        let mut passed = Vec::new();
        for byte in &request {
            let (now, calls) = stream.pass_server(&[*byte], false);
            assert!(configuration == BLOCK || edits(&calls) == 0 && now == [*byte]);
            passed.extend(now);
        }
        assert_eq!(passed, request);
        stream.client(&[packet(2, b"1\n"), packet(3, b"")].concat());
        assert_eq!(stream.pass_server(&packet(4, &ok()), false).0, packet(4, &ok()));
        stream.close(Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "local_infile_total", &[]), 1);
        assert_eq!(sum(&vm, "local_infile_blocked_total", &[]), 0);
        // The hazard is counted without the rule too, because the verb of a single statement shows that it names no file.
        let unsolicited = u64::from(statement != load);
        assert_eq!(sum(&vm, "hazards_total", &["kind=.=local_infile_unsolicited"]), unsolicited);
        assert_eq!(logged(&vm, "hazard").len() as u64, unsolicited);
    }
}

#[test]
fn a_newer_mode_releases_held_bytes_but_not_a_blocked_connection() {
    let vm = Vm::start();
    let request = packet(1, &local_infile("/etc/passwd"));
    let (plugin, held) = send_statement(&vm, BLOCK, "select 1");
    assert_eq!(held.pass_server(&request[..9], false).0, b"");
    let cut = plugin.connect(&ORDERS);
    cut.server(&greeting());
    cut.client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    cut.server(&packet(2, &ok()));
    assert!(is_refusal(&cut.pass_server(&request, false).0));
    vm.advance(std::time::Duration::from_millis(1));
    let newer = vm.plugin(&observing(BLOCK));
    let closes = plugin.tick().iter().filter(|call| call.name == "close_stream").count();
    assert_eq!(closes, 1);
    assert_eq!(cut.pass_client(b"x", false).0, Outcome::Forwarded(Vec::new()));
    assert_eq!(held.pass_server(&request[9..], false).0, request);
    held.client(&packet(2, b""));
    cut.close(Ending::Drain);
    held.close(Ending::ClientFin);
    newer.end();
    plugin.end();
}

/// A request that must be blocked is not forwarded if the host refuses to change it.
#[test]
fn a_refused_edit_closes_the_connection() {
    let vm = Vm::start();
    let (_plugin, stream) = send_statement(&vm, BLOCK, "select 1");
    vm.fail("set_buffer_bytes", 2);
    let (_, calls) = stream.pass_server(&packet(1, &local_infile("f")), false);
    assert_eq!(count(&calls, "close_stream"), 1, "{calls:?}");
    let (outcome, _) = stream.pass_client(b"root", false);
    assert_eq!(outcome, Outcome::Closed);
    vm.clear_faults();
    stream.close(Ending::Drain);
}
