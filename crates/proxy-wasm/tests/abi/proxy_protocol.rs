//! PROXY headers through the ABI: which host calls each verdict becomes, and no others.

use std::time::Duration;

use crate::host::{Call, Ending, Led, ORDERS, Stream, Vm};
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

/// A connection of [`CLIENT`] that the server has greeted.
fn greeted(vm: &Vm, configuration: &str) -> (crate::host::Plugin, Stream) {
    let plugin = vm.plugin(configuration);
    let (stream, connects, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    assert!(connects);
    stream.server(&greeting());
    (plugin, stream)
}

#[test]
fn the_clients_address_is_asked_for_where_a_rule_needs_it() {
    let off = rule(r#"{"receive": {"mode": "off"}, "send": {"mode": "off"}}"#);
    let send = rule(r#"{"send": {"mode": "first_bytes"}}"#);
    let observed = optional().replacen('{', r#"{"mode": "observe","#, 1);
    for (configuration, asks) in
        [("", false), (off.as_str(), false), (&observed, false), (&optional(), true), (&send, true)]
    {
        let vm = Vm::start();
        let (stream, _, calls) = vm.plugin(configuration).connect_from(Some(CLIENT), &ORDERS);
        let mut expected = vec!["get_property xds.listener_direction", "get_property destination.address"];
        if asks {
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
    let (led, calls) = stream.front(&[V1, &response()].concat(), false);
    assert_eq!(led, Led::On(response()));
    let len = V1.len() + response().len();
    assert_eq!(text(&calls), [format!("get_buffer_bytes 0+{len}"), "set_buffer_bytes 2 0 42 ".to_owned()]);
    // From the server's decision on there is nothing that a connection without a rule does not cost.
    stream.server(&packet(2, &ok()));
    let (led, calls) = stream.front(&command(COM_PING, b""), false);
    assert_eq!(led, Led::On(command(COM_PING, b"")));
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
fn what_waits_is_not_read_before_it_can_be_complete() {
    let vm = Vm::start();
    let (_plugin, stream) = greeted(&vm, &optional());
    let (led, calls) = stream.front(&V2[..3], false);
    assert_eq!(
        (led, text(&calls)),
        (Led::Waits, vec!["get_buffer_bytes 0+3".into(), "get_current_time_nanoseconds ".into()])
    );
    // Any byte of the signature may be the one that makes it none, and any up to the length one that breaks it.
    for (byte, len) in V2[3..16].iter().zip(4..) {
        let (led, calls) = stream.front(&[*byte], false);
        assert_eq!((led, text(&calls)), (Led::Waits, vec![format!("get_buffer_bytes 0+{len}")]));
    }
    assert_eq!(stream.front(&V2[16..27], false), (Led::Waits, vec![]));
    let (led, calls) = stream.front(&V2[27..], false);
    assert_eq!(led, Led::On(vec![]));
    assert_eq!(text(&calls), ["get_buffer_bytes 0+28", "set_buffer_bytes 2 0 28 "]);
    assert_eq!(stream.front(&response(), false).0, Led::On(response()));
    stream.close(Ending::Drain);
}

#[test]
fn the_header_sent_goes_in_front_of_the_first_bytes() {
    let send = r#""send": {"mode": "first_bytes", "version": 1}"#;
    let vm = Vm::start();
    let (plugin, stream) = greeted(&vm, &rule(&format!("{{{send}}}")));
    let header = b"PROXY TCP4 10.0.0.9 10.0.0.5 41234 3306\r\n";
    let (led, calls) = stream.front(&response(), false);
    assert_eq!(led, Led::On([header, response().as_slice()].concat()));
    let edit = format!("set_buffer_bytes 2 0 0 {}", header.escape_ascii());
    assert_eq!(text(&calls), [format!("get_buffer_bytes 0+{}", response().len()), edit]);
    stream.close(Ending::Drain);

    // One edit where one is removed and another put in its place.
    let both =
        format!(r#"{{"receive": {{"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}}, {send}}}"#);
    let (_, connected) = greeted(&vm, &rule(&both));
    let (led, calls) = connected.front(&[V2, &response()].concat(), false);
    assert_eq!(led, Led::On([V1, response().as_slice()].concat()));
    assert_eq!(text(&calls)[1], format!("set_buffer_bytes 2 0 28 {}", V1.escape_ascii()));
    connected.close(Ending::Drain);
    plugin.flush();
    assert_eq!(sum(&vm, "proxy_protocol_sent_total", &["format=.=v1"]), 1);
}

#[test]
fn a_refusal_is_one_close_and_one_line() {
    let untrusted = rule(r#"{"receive": {"mode": "optional", "trusted_networks": ["192.168.0.0/16"]}}"#);
    for (configuration, bytes, result, why) in [
        (
            optional(),
            b"PROXY TCP5".as_slice(),
            "malformed format=v1",
            "v1 header, byte 6: expected TCP4, TCP6 or UNKNOWN, found 0x54",
        ),
        (untrusted, V2, "untrusted format=v2", "its sender is not in receive.trusted_networks"),
        (receive(r#""mode": "required""#), b"abcd", "missing format=none", "the first bytes are no header"),
    ] {
        let vm = Vm::start();
        let (plugin, stream) = greeted(&vm, &configuration);
        let (led, calls) = stream.front(bytes, false);
        assert_eq!(led, Led::Ends);
        let line = format!(
            "event=proxy_protocol_refused result={result} why=\"{why}\" peer={CLIENT} direction=outbound \
             destination=10.0.0.5:3306 cluster=orders"
        );
        let names: Vec<_> = calls.iter().map(|call| call.name).collect();
        // The clock is the log's own.
        let expected =
            ["get_buffer_bytes", "get_current_time_nanoseconds", "get_property", "log", "close_stream"];
        assert_eq!(names, expected);
        assert_eq!(vm.log(), [(3, line)]);
        // Whatever still comes stays where it is, and is not told again.
        assert_eq!(stream.front(b"more", false).0, Led::Ends);
        assert_eq!(vm.log(), []);
        stream.close(Ending::Drain);
        plugin.flush();
        assert_eq!(sum(&vm, "proxy_protocol_received_total", &[]), 1);
        assert_gauges_are_zero(&vm);
    }
}

#[test]
fn a_later_header_ends_the_connection_with_all_that_comes_with_it() {
    let vm = Vm::start();
    let (plugin, stream) = greeted(&vm, &optional());
    assert_eq!(stream.front(&response(), false).0, Led::On(response()));
    stream.server(&packet(2, &auth_switch("dialog")));
    assert_eq!(stream.front(&[packet(3, b"secret").as_slice(), V1].concat(), false).0, Led::Ends);
    stream.close(Ending::Drain);
    plugin.flush();
    assert_eq!(sum(&vm, "proxy_protocol_received_total", &["format=.=v1", "result=.=malformed"]), 1);
}

/// Waits for the header before the server is connected to.
fn after_header() -> String {
    receive(r#""mode": "required", "connect": "after_header", "timeout_ms": 1000"#)
}

#[test]
fn after_header_waits_in_front_of_the_server() {
    let vm = Vm::start();
    let plugin = vm.plugin(&after_header());
    let (stream, connects, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    assert!(!connects);
    assert_eq!(stream.front(&V1[..20], false).0, Led::Waits);
    vm.advance(Duration::from_millis(999));
    plugin.tick();
    assert_eq!(stream.front(&V1[20..], false).0, Led::On(vec![]), "an empty Continue connects");
    stream.server(&greeting());
    vm.advance(Duration::from_secs(60));
    plugin.flush();
    assert_eq!(vm.log(), []);
    stream.close(Ending::Drain);
}

#[test]
fn what_does_not_come_in_time_is_closed_by_the_tick() {
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
fn a_health_probe_is_closed_without_a_word() {
    let vm = Vm::start();
    let plugin = vm.plugin(&after_header());
    let (stream, _, _) = plugin.connect_from(Some(CLIENT), &ORDERS);
    let (led, calls) = stream.front(b"", true);
    assert_eq!((led, text(&calls)), (Led::Ends, vec!["close_stream 2".to_owned()]));
    stream.close(Ending::Drain);
    plugin.flush();
    assert_eq!((sum(&vm, "proxy_protocol_received_total", &[]), vm.log()), (0, vec![]));
    assert_eq!(sum(&vm, "connections_closed_total", &["phase=.=greeting", "by=.=client"]), 1);
}

/// What the host refuses never lets a header pass.
#[test]
fn a_host_that_refuses() {
    for (call, bytes) in [("set_buffer_bytes", [V1, &response()].concat()), ("get_buffer_bytes", V1.to_vec())]
    {
        let vm = Vm::start();
        let (_plugin, stream) = greeted(&vm, &optional());
        vm.fail(call, 2);
        assert_eq!(stream.front(&bytes, false).0, Led::Ends, "{call}");
        vm.heal();
        stream.close(Ending::Drain);
    }
    let vm = Vm::start();
    let (_plugin, stream) = greeted(&vm, &optional());
    vm.fail("close_stream", 12);
    let (led, _) = stream.front(b"PROXY TCP5", false);
    assert_eq!(led, Led::Ends, "tried, and the bytes stay");
    vm.heal();
    let log: Vec<_> = vm.log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(log[1], "event=host_refused call=close_stream status=UNIMPLEMENTED");
    stream.close(Ending::Drain);
}

#[test]
fn a_newer_mode_lets_go_what_waits() {
    for mode in ["off", "observe"] {
        let vm = Vm::start();
        let old = vm.plugin(&after_header());
        let (stream, _, _) = old.connect_from(Some(CLIENT), &ORDERS);
        assert_eq!(stream.front(&V1[..20], false).0, Led::Waits);
        vm.advance(Duration::from_millis(100));
        let new = vm.plugin(&format!(r#"{{"mode": "{mode}"}}"#));
        let calls = old.tick();
        assert!(text(&calls).contains(&"continue_stream 2".to_owned()), "{mode}: {calls:?}");
        vm.advance(Duration::from_secs(60));
        assert!(!text(&old.tick()).iter().any(|call| call.starts_with("c")), "once, and no time-out");
        stream.close(Ending::Drain);
        old.flush();
        assert_gauges_are_zero(&vm);
        new.end();
    }
}
