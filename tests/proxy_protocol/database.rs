//! A real MariaDB that accepts PROXY headers (`proxy_protocol_networks`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use crate::bootstrap::MYSQL;
use crate::counter_diff::wait_for_flushes;
use crate::headers::{V1, V2, assert_counted, envoy, metric, off, trusted_networks};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::loopback;
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::packets::packet;

/// Server option that trusts Envoy, which connects from 127.0.0.1.
pub(crate) const TRUSTS_ENVOY: &str = "--proxy-protocol-networks=127.0.0.1";

pub(crate) fn login() -> Login {
    Login::new(CLASSIC).user(USER, PASSWORD)
}

fn optional() -> Value {
    json!({"mode": "optional", "trusted_networks": trusted_networks()})
}

fn send(version: u8) -> Value {
    json!({"mode": "with_first_client_bytes", "version": version})
}

/// The client's host according to the server: in `user()`, and in the process list.
pub(crate) fn client_hosts(client: &mut Client) -> (String, String) {
    let mut query = |statement: &str| {
        let response = client.query(statement).expect("a row");
        String::from_utf8_lossy(&response.0[3][1..]).into_owned()
    };
    let user = query("SELECT SUBSTRING_INDEX(USER(), '@', -1)");
    let list = query("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()");
    (user, list)
}

#[test]
fn the_server_sees_the_clients_address() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    server.sql("CREATE USER granted@'192.0.2.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('app')");
    server.sql("GRANT ALL ON *.* TO granted@'192.0.2.%'");
    for version in [1, 2] {
        let envoy = envoy(server.addr(), &optional(), &send(version));
        let address = envoy.listener_addr(MYSQL);
        // The server sees the address in a trusted header, and uses the grants for it.
        for header in [V1, V2] {
            let mut client = Client::connect(address);
            client.send(header);
            let mut client = client.log_in(&login()).expect("a login");
            assert_eq!(client_hosts(&mut client), ("192.0.2.1".into(), "192.0.2.1:1111".into()));
            client.quit();
            let mut client = Client::connect(address);
            client.send(header);
            client.log_in(&Login::new(CLASSIC).user("granted", PASSWORD)).expect("a login by host").quit();
        }
        // Without a header, the server sees the connection's address. The grant is for another network.
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
        let mut client = Client::connect_from(Some(source), address).log_in(&login()).expect("a login");
        assert_eq!(client_hosts(&mut client).0, "127.0.0.7");
        client.quit();
        let refused = Client::connect(address).log_in(&Login::new(CLASSIC).user("granted", PASSWORD));
        assert_eq!(refused.err(), Some(1045));
        // A header from an untrusted client is refused.
        let mut client = Client::connect_from(Some(source), address);
        client.send(V1);
        assert!(client.closes(), "an untrusted header");
        let sent = format!("sent v{version} 6");
        assert_counted(
            &envoy,
            &["received v1 stripped 2", "received v1 untrusted 1", "received v2 stripped 2", &sent],
        );
    }
}

/// Without `send`, the server sees the address of Envoy.
#[test]
fn a_header_is_not_forwarded_without_send() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let strip = json!({"mode": "optional", "on_untrusted_header": "strip"});
    for receive in [optional(), strip] {
        let envoy = envoy(server.addr(), &receive, &off());
        let mut client = Client::connect(envoy.listener_addr(MYSQL));
        client.send(V1);
        let mut client = client.log_in(&login()).expect("a login");
        assert_eq!(client_hosts(&mut client).0, "127.0.0.1");
        client.quit();
    }
}

/// Forwards one connection to a server, and ends it in order when the server resets it. If Envoy reads a response and a reset in
/// one turn, it resets the client's connection, and the client loses the response. So a slow machine would decide this test.
/// Returns the address for Envoy.
fn without_resets(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
    let address = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("a connection of Envoy");
        let server = TcpStream::connect(server).expect("a connection to the server");
        thread::scope(|scope| {
            // A reset ends both directions, which is not a failure of the relay.
            scope.spawn(|| io::copy(&mut &client, &mut &server));
            let _ = io::copy(&mut &server, &mut &client);
            client.shutdown(Shutdown::Write).expect("a socket that Envoy reads");
        });
    });
    address
}

/// The client receives the error of a server that does not trust Envoy.
#[test]
fn a_server_that_does_not_trust_envoy_refuses_the_header() {
    let server = MariaDb::start(&["--proxy-protocol-networks=10.0.0.0/8"]);
    let envoy = envoy(without_resets(server.addr()), &off(), &send(1));
    let mut client = Client::connect(envoy.listener_addr(MYSQL));
    let greeting = client.packet();
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= CLASSIC;
    let response = client.handshake_response(&login(), &plugin);
    client.write(&response);
    let error = client.packet();
    let text = String::from_utf8_lossy(&error).into_owned();
    assert_eq!(error[0], 0xff, "{text}");
    assert!(text.contains("Proxy header is not accepted from 127.0.0.1"), "{text}");
    assert_counted(&envoy, &["sent v1 1"]);
    assert_eq!(metric(&envoy, "handshakes_total", &[("result", "ok")]), 0.0);
}

/// Position of a second header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Directly after the first header.
    Second,
    /// Before the handshake response.
    Response,
    /// After the handshake response, in the same segment.
    AfterResponse,
    /// Before the response to an AuthSwitchRequest.
    Authentication,
}

/// Sends a second header at a position. Returns the host that the server sees. `None` if the connection was closed.
fn send_second_header(address: SocketAddr, first: &[u8], header: &[u8], at: Position) -> Option<String> {
    let mut client = Client::connect(address);
    client.try_send(first)?;
    if at == Position::Second {
        client.try_send(header)?;
    }
    // The greeting may arrive before the filter has seen the header.
    let greeting = client.next_packet()?;
    client.read_greeting(&greeting);
    client.capabilities &= CLASSIC;
    // Use a plugin that is not the account's, so that the server sends an AuthSwitchRequest.
    let response = client.handshake_response(&login(), "mysql_clear_password");
    let response = packet(1, &response);
    match at {
        Position::Response => client.try_send(&[header, &response].concat())?,
        Position::AfterResponse => client.try_send(&[&response, header].concat())?,
        Position::Second | Position::Authentication => client.try_send(&response)?,
    }
    let switch = client.next_packet()?;
    assert_eq!(switch[0], 0xfe, "AuthSwitchRequest: {switch:02x?}");
    if at == Position::Authentication {
        client.try_send(header)?;
    }
    let (_, secret) = client.read_auth_switch(&switch, PASSWORD);
    client.try_send(&packet(3, &secret))?;
    let end = client.next_packet()?;
    assert_eq!(end[0], 0, "OK: {}", String::from_utf8_lossy(&end));
    let (user, _) = client_hosts(&mut client);
    client.quit();
    Some(user)
}

/// Until MariaDB has decided about the login, it accepts a header before any packet, and trusts the last one. The filter lets
/// no client send one, whether a rule receives headers or only sends them.
#[test]
fn no_second_header_reaches_a_server_that_would_accept_it() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let forged = b"PROXY TCP4 203.0.113.9 192.0.2.2 9 9\r\n".as_slice();
    let forged_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x02\0\x09\0\x09".as_slice();
    let sloppy = b"PROXYTCP4 203.0.113.9 192.0.2.2 9 9\n".as_slice();
    let places = [Position::Second, Position::Response, Position::AfterResponse, Position::Authentication];
    // Without the filter, the server accepts it.
    for header in [forged, forged_v2, sloppy] {
        for at in [Position::Second, Position::Response, Position::Authentication] {
            let first: &[u8] = if at == Position::Second { V1 } else { b"" };
            let host = send_second_header(server.addr(), first, header, at);
            assert_eq!(host.as_deref(), Some("203.0.113.9"), "{} {at:?}, directly", header.escape_ascii());
        }
    }
    for (receive, send) in [(off(), send(1)), (optional(), send(2)), (optional(), off())] {
        let receives = receive != off();
        let envoy = envoy(server.addr(), &receive, &send);
        let address = envoy.listener_addr(MYSQL);
        let before = server.status("Connections");
        let mut tried = 0;
        for header in [forged, forged_v2, sloppy] {
            for at in places {
                // Without a first header, the one before the handshake response is the first, and is received.
                let first: &[u8] = if receives { V1 } else { b"" };
                let host = send_second_header(address, first, header, at);
                assert_eq!(host, None, "{} {at:?} {receive} {send}", header.escape_ascii());
                tried += 1;
            }
        }
        assert!(server.status("Connections") >= before);
        // A client without a header still logs in.
        let mut client = Client::connect(address).log_in(&login()).expect("a login");
        assert_eq!(client_hosts(&mut client).0, "127.0.0.1");
        client.quit();
        let malformed = |format| {
            metric(&envoy, "proxy_protocol_received_total", &[("format", format), ("result", "malformed")])
        };
        wait_for_flushes(&envoy);
        assert_eq!((malformed("v1"), malformed("v2")), (8.0, 4.0), "{tried} tried: {receive} {send}");
    }
}

/// The guard may end with the server's decision, because the server then accepts no more headers: neither before a command
/// nor within COM_CHANGE_USER.
#[test]
fn the_server_accepts_no_header_after_the_login() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    for change_user in [false, true] {
        let mut client = Client::login(server.addr(), &login());
        if change_user {
            let user = [b"\x11app\0\0".as_slice(), b"\0\x2d\0mysql_clear_password\0\0"].concat();
            client.command(&user);
            let switch = client.packet();
            assert_eq!(switch[0], 0xfe, "AuthSwitchRequest: {switch:02x?}");
            let (_, secret) = client.read_auth_switch(&switch, PASSWORD);
            client.send(&[V1, &packet(3, &secret)].concat());
        } else {
            client.send(&[V1, &packet(0, b"\x03SELECT 1")].concat());
        }
        let response = client.next_packet();
        let is_refused = response.as_ref().is_none_or(|response| response[0] == 0xff);
        assert!(is_refused, "{change_user}: {response:02x?}");
        assert!(client.closes());
    }
}
