//! PROXY headers through the ABI: the host calls of each verdict.

use std::time::Duration;

use crate::host::{Call, Ending, ORDERS, Outcome, Stream, Vm};
use crate::{assert_gauges_are_zero, counted, sum};
use firstword_testing::packets::*;

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x0c\xea";
const CLIENT: &str = "10.0.0.9:41234";

fn rule(proxy_protocol: &str) -> String {
    format!(r#"{{"rules": [{{"name": "orders", "proxy_protocol": {proxy_protocol}}}]}}"#)
}

fn receive(more: &str) -> String {
    rule(&format!(r#"{{"receive": {{"trusted_networks": ["10.0.0.0/8"], {more}}}}}"#))
}

fn optional() -> String {
    receive(r#""mode": "optional""#)
}

/// The host calls as text.
fn text(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{} {}", call.name, call.what)).collect()
}

fn response() -> Vec<u8> {
    packet(1, &handshake_response(CLIENT_CAPABILITIES))
}

/// Opens a connection of [`CLIENT`] and passes the greeting.
fn greeted(vm: &Vm, configuration: &str) -> (crate::host::Plugin, Stream) {
    let plugin = vm.plugin(configuration);
    let (stream, connects, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    assert!(connects);
    stream.server(&greeting());
    (plugin, stream)
}

#[test]
fn the_clients_address_is_read_only_if_a_rule_needs_it() {
    let off = rule(r#"{"receive": {"mode": "off"}, "send": {"mode": "off"}}"#);
    let send = rule(r#"{"send": {"mode": "with_first_client_bytes"}}"#);
    let observed = optional().replacen('{', r#"{"mode": "observe","#, 1);
    for (configuration, reads) in
        [("", false), (off.as_str(), false), (&observed, false), (&optional(), true), (&send, true)]
    {
        let vm = Vm::start();
        let (stream, _, calls) = vm.plugin(configuration).connect_from(Some(CLIENT), &ORDERS);
        let mut expected = vec!["get_property xds.listener_direction", "get_property destination.address"];
        if reads {
            expected.push("get_property source.address");
        }
        expected.push("get_current_time_nanoseconds ");
        assert_eq!(text(&calls), expected, "{configuration}");
        stream.close(Ending::Drain);
    }
}

#[test]
fn a_header_costs_one_read_and_one_edit() {
    let vm = Vm::start();
    let (plugin, stream) = greeted(&vm, &optional());
    let (outcome, calls) = stream.pass_client(&[V1, &response()].concat(), false);
    assert_eq!(outcome, Outcome::Forwarded(response()));
    let len = V1.len() + response().len();
    assert_eq!(text(&calls), [format!("get_buffer_bytes 0+{len}"), "set_buffer_bytes 2 0 42 ".to_owned()]);
    // After the handshake the connection costs no more than one without a rule.
    stream.server(&packet(2, &ok()));
    let (outcome, calls) = stream.pass_client(&command(COM_PING, b""), false);
    assert_eq!(outcome, Outcome::Forwarded(command(COM_PING, b"")));
    assert_eq!(text(&calls), ["get_buffer_bytes 0+5", "get_current_time_nanoseconds "]);
    stream.server(&answer([ok()]));
    stream.close(Ending::ClientFin);
    plugin.flush();
    let bytes = response().len() + 5;
    let front = "direction=.=outbound;.;destination=.=orders;.;";
    let lines = counted(&vm, front);
    for line in [
        "proxy_protocol_received_total{format=v1,result=stripped} 1".to_owned(),
        format!("bytes_total{{sender=client}} {bytes}"),
        "commands_total{command=ping} 1".to_owned(),
        "handshakes_total{result=ok} 1".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}\n{lines:#?}");
    }
    assert_eq!(vm.log(), []);
    assert_gauges_are_zero(&vm);
}

#[test]
fn held_bytes_are_not_read_before_the_header_can_be_complete() {
    let vm = Vm::start();
    let (_plugin, stream) = greeted(&vm, &optional());
    let (outcome, calls) = stream.pass_client(&V2[..3], false);
    assert_eq!(
        (outcome, text(&calls)),
        (Outcome::Held, vec!["get_buffer_bytes 0+3".into(), "get_current_time_nanoseconds ".into()])
    );
    // Each byte of the signature can show that there is no header, and each byte up to the length can make it malformed.
    for (byte, len) in V2[3..16].iter().zip(4..) {
        let (outcome, calls) = stream.pass_client(&[*byte], false);
        assert_eq!((outcome, text(&calls)), (Outcome::Held, vec![format!("get_buffer_bytes 0+{len}")]));
    }
    assert_eq!(stream.pass_client(&V2[16..27], false), (Outcome::Held, vec![]));
    let (outcome, calls) = stream.pass_client(&V2[27..], false);
    assert_eq!(outcome, Outcome::Forwarded(vec![]));
    assert_eq!(text(&calls), ["get_buffer_bytes 0+28", "set_buffer_bytes 2 0 28 "]);
    assert_eq!(stream.pass_client(&response(), false).0, Outcome::Forwarded(response()));
    stream.close(Ending::Drain);
}

#[test]
fn the_header_to_the_server_is_sent_before_the_first_bytes() {
    let send = r#""send": {"mode": "with_first_client_bytes", "version": 1}"#;
    let vm = Vm::start();
    let (plugin, stream) = greeted(&vm, &rule(&format!("{{{send}}}")));
    let header = b"PROXY TCP4 10.0.0.9 10.0.0.5 41234 3306\r\n";
    let (outcome, calls) = stream.pass_client(&response(), false);
    assert_eq!(outcome, Outcome::Forwarded([header, response().as_slice()].concat()));
    let edit = format!("set_buffer_bytes 2 0 0 {}", header.escape_ascii());
    assert_eq!(text(&calls), [format!("get_buffer_bytes 0+{}", response().len()), edit]);
    stream.close(Ending::Drain);

    // A header that replaces another one is one edit.
    let both =
        format!(r#"{{"receive": {{"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}}, {send}}}"#);
    let (_, connected) = greeted(&vm, &rule(&both));
    let (outcome, calls) = connected.pass_client(&[V2, &response()].concat(), false);
    assert_eq!(outcome, Outcome::Forwarded([V1, response().as_slice()].concat()));
    assert_eq!(text(&calls)[1], format!("set_buffer_bytes 2 0 28 {}", V1.escape_ascii()));
    connected.close(Ending::Drain);
    plugin.flush();
    assert_eq!(sum(&vm, "proxy_protocol_sent_total", &["format=.=v1"]), 1);
}

#[test]
fn a_refused_connection_is_closed_and_logged_once() {
    let untrusted = rule(r#"{"receive": {"mode": "optional", "trusted_networks": ["192.168.0.0/16"]}}"#);
    for (configuration, bytes, result, why, fix) in [
        (
            optional(),
            b"PROXY TCP5".as_slice(),
            "malformed format=v1",
            "v1 header, byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x54",
            "correct the sender, which is the peer",
        ),
        (
            untrusted,
            V2,
            "untrusted format=v2",
            "its sender is not in receive.trusted_networks",
            "add the peer to receive.trusted_networks if it is your proxy",
        ),
        (
            receive(r#""mode": "required""#),
            b"abcd",
            "missing format=none",
            "the first bytes are no header",
            "let the peer send a header, or set receive.mode to optional",
        ),
    ] {
        let vm = Vm::start();
        let (plugin, stream) = greeted(&vm, &configuration);
        let (outcome, calls) = stream.pass_client(bytes, false);
        assert_eq!(outcome, Outcome::Closed);
        let line = format!(
            "event=proxy_protocol_refused result={result} why=\"{why}\" peer={CLIENT} direction=outbound \
             destination=10.0.0.5:3306 cluster=orders fix=\"{fix}\""
        );
        let names: Vec<_> = calls.iter().map(|call| call.name).collect();
        // The log reads the clock.
        let expected =
            ["get_buffer_bytes", "get_current_time_nanoseconds", "get_property", "log", "close_stream"];
        assert_eq!(names, expected);
        assert_eq!(vm.log(), [(3, line)]);
        // Later bytes are not forwarded, and the refusal is not logged again.
        assert_eq!(stream.pass_client(b"more", false).0, Outcome::Closed);
        assert_eq!(vm.log(), []);
        stream.close(Ending::Drain);
        plugin.flush();
        assert_eq!(sum(&vm, "proxy_protocol_received_total", &[]), 1);
        assert_gauges_are_zero(&vm);
    }
}

#[test]
fn a_later_header_closes_the_connection_and_its_chunk_is_not_forwarded() {
    let vm = Vm::start();
    let (plugin, stream) = greeted(&vm, &optional());
    assert_eq!(stream.pass_client(&response(), false).0, Outcome::Forwarded(response()));
    stream.server(&packet(2, &auth_switch("dialog")));
    assert_eq!(stream.pass_client(&[packet(3, b"secret").as_slice(), V1].concat(), false).0, Outcome::Closed);
    stream.close(Ending::Drain);
    plugin.flush();
    assert_eq!(sum(&vm, "proxy_protocol_received_total", &["format=.=v1", "result=.=malformed"]), 1);
}

/// Configuration that connects to the server after the header has arrived.
fn after_header() -> String {
    receive(r#""mode": "required", "connect_upstream": "after_header", "timeout": "1s""#)
}

#[test]
fn after_header_holds_the_connection_to_the_server() {
    let vm = Vm::start();
    let plugin = vm.plugin(&after_header());
    let (stream, connects, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    assert!(!connects);
    assert_eq!(stream.pass_client(&V1[..20], false).0, Outcome::Held);
    vm.advance(Duration::from_millis(999));
    plugin.tick();
    assert_eq!(
        stream.pass_client(&V1[20..], false).0,
        Outcome::Forwarded(vec![]),
        "an empty Continue connects"
    );
    stream.server(&greeting());
    vm.advance(Duration::from_secs(60));
    plugin.flush();
    assert_eq!(vm.log(), []);
    stream.close(Ending::Drain);
}

#[test]
fn the_tick_closes_a_connection_whose_header_does_not_arrive_in_time() {
    let vm = Vm::start();
    let plugin = vm.plugin(&after_header());
    let (stream, _, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    plugin.tick();
    vm.advance(Duration::from_millis(999));
    let closes = |calls: &[Call]| calls.iter().filter(|call| call.name == "close_stream").count();
    assert_eq!(closes(&plugin.tick()), 0);
    vm.advance(Duration::from_millis(1));
    let calls = plugin.tick();
    assert_eq!(closes(&calls), 1, "{calls:?}");
    assert_eq!(closes(&plugin.tick()), 0);
    let log = vm.log();
    assert_eq!(log.len(), 1);
    assert!(log[0].1.contains("max_early_data_bytes"), "{log:?}");
    stream.close(Ending::Drain);
    plugin.flush();
    assert_eq!(sum(&vm, "proxy_protocol_received_total", &["format=.=none", "result=.=timeout"]), 1);
    assert_gauges_are_zero(&vm);
}

#[test]
fn a_health_check_is_closed_without_a_log_line() {
    let vm = Vm::start();
    let plugin = vm.plugin(&after_header());
    let (stream, _, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    let (outcome, calls) = stream.pass_client(b"", true);
    assert_eq!((outcome, text(&calls)), (Outcome::Closed, vec!["close_stream 2".to_owned()]));
    stream.close(Ending::Drain);
    plugin.flush();
    assert_eq!((sum(&vm, "proxy_protocol_received_total", &[]), vm.log()), (0, vec![]));
    assert_eq!(sum(&vm, "connections_closed_total", &["phase=.=greeting", "closed_by=.=client"]), 1);
}

#[test]
fn no_header_is_forwarded_if_the_host_refuses_a_call() {
    for (call, bytes) in [("set_buffer_bytes", [V1, &response()].concat()), ("get_buffer_bytes", V1.to_vec())]
    {
        let vm = Vm::start();
        let (_plugin, stream) = greeted(&vm, &optional());
        vm.fail(call, 2);
        assert_eq!(stream.pass_client(&bytes, false).0, Outcome::Closed, "{call}");
        vm.clear_faults();
        stream.close(Ending::Drain);
    }
    let vm = Vm::start();
    let (_plugin, stream) = greeted(&vm, &optional());
    vm.fail("close_stream", 12);
    let (outcome, _) = stream.pass_client(b"PROXY TCP5", false);
    assert_eq!(outcome, Outcome::Closed, "the bytes stay although the close fails");
    vm.clear_faults();
    let log: Vec<_> = vm.log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        log[1],
        "event=host_refused call=close_stream status=UNIMPLEMENTED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
    );
    stream.close(Ending::Drain);
}

#[test]
fn a_newer_mode_releases_held_bytes() {
    for mode in ["off", "observe"] {
        let vm = Vm::start();
        let old = vm.plugin(&after_header());
        let (stream, _, _) = old.connect_from(Some(CLIENT), &ORDERS);
        assert_eq!(stream.pass_client(&V1[..20], false).0, Outcome::Held);
        vm.advance(Duration::from_millis(100));
        let new = vm.plugin(&format!(r#"{{"mode": "{mode}"}}"#));
        let calls = old.tick();
        assert!(text(&calls).contains(&"continue_stream 2".to_owned()), "{mode}: {calls:?}");
        vm.advance(Duration::from_secs(60));
        assert!(
            !text(&old.tick()).iter().any(|call| call.starts_with("c")),
            "released once, and no time-out"
        );
        stream.close(Ending::Drain);
        old.flush();
        assert_gauges_are_zero(&vm);
        new.end();
    }
}
