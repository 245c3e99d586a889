//! Detection of the peer that speaks first, and its metrics.

use crate::host::{Destination, Ending, ORDERS, Vm};
use crate::scripts::{self, Turn, run};
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, counted, sum};
use firstword_testing::packets::*;

#[test]
fn a_client_that_speaks_first_is_counted_by_its_protocol() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x12\x34\x0c\xea";
    let cases: [(&str, &[u8]); 8] = [
        ("proxy_v1", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 3306\r\n"),
        ("proxy_v2", v2),
        ("tls", b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03"),
        ("http", b"GET / HTTP/1.1\r\n\r\n"),
        ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("mysqlx", b"\x05\0\0\0\x01\x08\x05\x1a\0"),
        ("other", b"\xde\xad\xbe\xef\xde\xad\xbe\xef"),
        ("other", b"PRO"),
    ];
    for (seen, bytes) in cases {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        run(&plugin, &ORDERS, &[Turn::Client(bytes.to_vec()), Turn::Server(greeting())], Ending::ClientFin);
        plugin.flush();
        let expected = format!(
            "bytes_total{{sender=client}} {}
bytes_total{{sender=server}} {}
client_first_total{{seen={seen}}} 1
connections_closed_total{{phase=opaque,closed_by=client}} 1
connections_total{{protocol=client_first}} 1
opaque_total{{reason=not_mysql}} 1",
            bytes.len(),
            greeting().len()
        );
        assert_eq!(counted(&vm, OUTBOUND_ORDERS), expected.lines().collect::<Vec<_>>());
        assert_gauges_are_zero(&vm);
        assert_eq!(vm.log(), []);
    }
}

#[test]
fn a_server_first_protocol_other_than_mysql_is_counted_and_not_inspected() {
    for (configuration, reason) in [
        ("", "not_mysql"),
        (r#"{"rules": [{"match": {"ports": [25]}, "protocol": "server_first"}]}"#, "configured"),
    ] {
        let vm = Vm::start();
        let plugin = vm.plugin(configuration);
        let mail = Destination { address: "10.0.0.9:25", cluster: Some("orders"), ..ORDERS };
        run(&plugin, &mail, &scripts::smtp(), Ending::ServerFin);
        plugin.flush();
        let (client, server) = scripts::bytes(&scripts::smtp());
        let expected = format!(
            "bytes_total{{sender=client}} {client}
bytes_total{{sender=server}} {server}
connections_closed_total{{phase=opaque,closed_by=server}} 1
connections_total{{protocol=server_first}} 1
opaque_total{{reason={reason}}} 1
server_first_detected_total{{protocol=smtp}} 1"
        );
        assert_eq!(counted(&vm, OUTBOUND_ORDERS), expected.lines().collect::<Vec<_>>());
        assert_gauges_are_zero(&vm);
    }
}

/// The expected protocol of a port is only a hint.
#[test]
fn mysql_is_recognised_on_any_port() {
    for address in ["10.0.0.5:25", "10.0.0.5:10000", "[fd00::5]:443", "/var/run/mysqld.sock"] {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        run(&plugin, &Destination { address, ..ORDERS }, &scripts::classic(), Ending::ClientFin);
        plugin.flush();
        assert_eq!(sum(&vm, "connections_total", &["protocol=.=mysql"]), 1, "{address}");
        assert_eq!(sum(&vm, "commands_total", &["command=.=query"]), 4, "{address}");
    }
}

#[test]
fn a_silent_connection_is_counted_as_the_expected_protocol() {
    for (address, expected) in
        [("10.0.0.5:3306", "mysql"), ("10.0.0.5:10000", "unknown"), ("10.0.0.5:25", "server_first")]
    {
        let vm = Vm::start();
        let plugin = vm.plugin("");
        let stream = plugin.connect(&Destination { address, ..ORDERS });
        plugin.tick();
        plugin.tick();
        let active = |protocol: &str| {
            vm.metric(&format!("{OUTBOUND_ORDERS}protocol=.={protocol};.;firstword_connections_active"))
        };
        assert_eq!(active(expected), Some(1), "{address}");
        assert_eq!(sum(&vm, "connections_active", &[]), 1);
        assert_eq!(sum(&vm, "connections_total", &[]), 0, "not recognised yet");
        plugin.flush();
        assert_eq!(sum(&vm, "connections_active", &[]), 1, "it is counted once and not on each tick");

        stream.server(&greeting());
        plugin.flush();
        assert_eq!(active("mysql"), Some(1));
        assert_eq!(sum(&vm, "connections_active", &[]), 1);
        assert_eq!(sum(&vm, "connections_total", &["protocol=.=mysql"]), 1);
        stream.close(Ending::Drain);
        plugin.flush();
        assert_gauges_are_zero(&vm);
    }
}
