//! Metrics and log lines of silent servers, and of servers that speak first on undeclared ports.

use std::time::Duration;

use crate::host::{Destination, Ending, ORDERS, Vm};
use crate::scripts::{self, play, run};
use crate::{assert_gauges_are_zero, sum};
use firstword_testing::packets::*;

const SECOND: Duration = Duration::from_secs(1);

fn timeouts(vm: &Vm) -> u64 {
    sum(vm, "greeting_timeouts_total", &[])
}

#[test]
fn a_silent_server_is_logged_once() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    stream.established();
    for _ in 0..9 {
        vm.advance(SECOND / 2);
        plugin.tick();
    }
    assert_eq!((timeouts(&vm), vm.log()), (0, vec![]), "after 4.5 s");
    vm.advance(SECOND / 2);
    plugin.flush();
    assert_eq!(timeouts(&vm), 1);
    let log = vm.log();
    let [(3, line)] = log.as_slice() else { panic!("{log:?}") };
    let start = "event=greeting_timeout direction=outbound destination=10.0.0.5:3306 cluster=orders \
                 upstream=10.0.0.5:3306 causes=\"1: the server resolves the client's name in a slow DNS";
    assert!(line.starts_with(start), "{line}");
    for _ in 0..20 {
        vm.advance(SECOND);
        plugin.tick();
    }
    // The connection still works.
    play(&stream, &scripts::classic());
    stream.close(Ending::ClientFin);
    plugin.flush();
    assert_eq!((timeouts(&vm), vm.log()), (1, vec![]));
    assert_eq!(sum(&vm, "greetings_total", &[]), 1);
    assert_eq!(sum(&vm, "commands_total", &[]), 10);
    assert_gauges_are_zero(&vm);
}

#[test]
fn a_greeting_timeout_without_a_connection_to_the_server_has_its_own_cause() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&Destination { cluster: None, ..ORDERS });
    vm.advance(5 * SECOND);
    plugin.flush();
    assert_eq!(timeouts(&vm), 1);
    let expected = "event=greeting_timeout direction=outbound destination=10.0.0.5:3306 cluster=unknown \
                    upstream=none causes=\"the connection to the server is not established: address, \
                    firewall, the server's backlog\"";
    assert_eq!(vm.log(), [(3, expected.to_owned())]);
    stream.close(Ending::Refused);
}

/// Cases: configuration, destination, bytes of the client, and the seconds after which the time-out is counted.
#[test]
fn the_greeting_timeout_depends_on_the_rule_and_the_first_bytes() {
    let mail = Destination { address: "10.0.0.9:25", ..ORDERS };
    let unknown = Destination { address: "10.0.0.9:10000", ..ORDERS };
    let client = |bytes: &[u8]| Some(bytes.to_vec());
    let cases = [
        ("{}", &mail, None, Some(5)),
        ("{}", &unknown, None, None),
        (r#"{"defaults": {"protocol": "mysql"}}"#, &unknown, None, Some(5)),
        (r#"{"defaults": {"protocol": "opaque"}}"#, &ORDERS, None, None),
        (r#"{"mode": "off"}"#, &ORDERS, None, None),
        (r#"{"mode": "observe"}"#, &ORDERS, None, Some(5)),
        (r#"{"defaults": {"greeting_timeout": "2s"}}"#, &ORDERS, None, Some(2)),
        (r#"{"defaults": {"greeting_timeout": "2s"}, "rules": [{}]}"#, &ORDERS, None, Some(2)),
        (r#"{"rules": [{"greeting_timeout": "3s"}]}"#, &ORDERS, None, Some(3)),
        ("{}", &ORDERS, client(b"GET / HTTP/1.1\r\n\r\n"), None),
        ("{}", &ORDERS, client(b"\x16\x03\x01\0\x01"), None),
        ("{}", &ORDERS, client(b"PRO"), Some(5)),
        ("{}", &ORDERS, client(b"PROXY UNKNOWN\r\n"), Some(5)),
    ];
    for (configuration, destination, sent, expected) in cases {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        let stream = plugin.connect(destination);
        if let Some(bytes) = &sent {
            stream.client(bytes);
        }
        let mut counted = None;
        for seconds in 1..=8 {
            vm.advance(SECOND);
            plugin.flush();
            if counted.is_none() && timeouts(&vm) > 0 {
                counted = Some(seconds);
            }
        }
        let case = format!("{configuration} {destination:?} {sent:?}");
        assert_eq!(counted, expected, "{case}");
        assert_eq!(timeouts(&vm), u64::from(expected.is_some()), "{case}");
        stream.close(Ending::Drain);
    }
}

#[test]
fn a_greeting_in_time_is_no_timeout() {
    for bytes in [greeting(), b"220 mail ESMTP\r\n".to_vec(), vec![0x4a]] {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let stream = plugin.connect(&ORDERS);
        vm.advance(4 * SECOND);
        stream.server(&bytes);
        vm.advance(4 * SECOND);
        plugin.flush();
        assert_eq!(timeouts(&vm), 0);
        stream.close(Ending::ClientFin);
    }
}

#[test]
fn a_clock_that_steps_back_is_no_timeout() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    vm.step_back(100 * SECOND);
    plugin.flush();
    assert_eq!(timeouts(&vm), 0);
    stream.close(Ending::ClientFin);
}

/// Cases: destination, first bytes of the server, level and line.
#[test]
fn an_undeclared_server_first_port_is_logged_once_with_its_fix() {
    let mysql: &[u8] = &greeting();
    let place = |direction, address| Destination { direction, address, cluster: Some("c") };
    let cases = [
        (
            place(Some(2), "55.108.108.2:10000"),
            mysql,
            3,
            "event=server_first_undeclared direction=outbound destination=55.108.108.2:10000 cluster=c seen=mysql \
             expected=unknown fix=\"an HTTP Service on port 10000 anywhere in the mesh makes this connection hang: \
             declare a ServiceEntry with addresses [55.108.108.2] and the port {number: 10000, name: tcp-mysql, \
             protocol: TCP}\" rule=\"match.ports [10000], protocol mysql\"",
        ),
        (
            place(Some(1), "10.0.0.7:2500"),
            b"220 mail ESMTP\r\n",
            3,
            "event=server_first_undeclared direction=inbound destination=10.0.0.7:2500 cluster=c seen=smtp \
             expected=unknown fix=\"name the Service's port 2500 tcp-smtp, and for clients without a sidecar set \
             portLevelMtls 2500 to DISABLE in a PeerAuthentication: else they hang\" \
             rule=\"match.ports [2500], protocol server_first\"",
        ),
        (
            place(None, "10.0.0.7:3306"),
            b"@RSYNCD: 31.0\n",
            3,
            "event=server_first_undeclared direction=unspecified destination=10.0.0.7:3306 cluster=c seen=other \
             expected=mysql fix=\"no listener filter may wait for the client on port 3306\" \
             rule=\"match.ports [3306], protocol server_first\"",
        ),
        (
            place(None, "10.0.0.7:10000"),
            mysql,
            2,
            "event=server_first_undeclared direction=unspecified destination=10.0.0.7:10000 cluster=c seen=mysql \
             expected=unknown fix=\"no listener filter may wait for the client on port 10000\" \
             rule=\"match.ports [10000], protocol mysql\"",
        ),
    ];
    for (destination, bytes, level, expected) in cases {
        let vm = Vm::start();
        let plugin = vm.plugin(r#"{"log": {"level": "info"}}"#);
        vm.log();
        for _ in 0..3 {
            let stream = plugin.connect(&destination);
            stream.server(bytes);
            stream.close(Ending::ServerFin);
        }
        assert_eq!(vm.log(), [(level, expected.to_owned())]);
    }
}

#[test]
fn a_declared_server_first_port_is_not_logged() {
    let declared =
        r#"{"rules": [{"match": {"ports": [10000]}, "protocol": "mysql"}], "log": {"level": "info"}}"#;
    for (address, script) in [
        ("10.0.0.7:10000", scripts::classic()),
        ("10.0.0.7:3306", scripts::classic()),
        ("10.0.0.7:25", scripts::smtp()),
        ("10.0.0.7:8080", scripts::http()),
        ("/run/mysqld.sock", scripts::classic()),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(declared);
        vm.log();
        run(&plugin, &Destination { address, ..ORDERS }, &script, Ending::ClientFin);
        assert_eq!(vm.log(), [], "{address}");
    }
}
