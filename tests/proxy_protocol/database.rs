//! A real MariaDB that believes headers: `proxy_protocol_networks`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::bootstrap::MYSQL;
use crate::headers::{V1, V2, assert_counted, believed, envoy, metric, off};
use crate::ledger::several_ticks;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::packets::packet;

/// Envoy connects from here.
pub(crate) const BELIEVES: &str = "--proxy-protocol-networks=127.0.0.1";

pub(crate) fn login() -> Login {
    Login::new(CLASSIC).user(USER, PASSWORD)
}

fn optional() -> Value {
    json!({"mode": "optional", "trusted_networks": believed()})
}

fn send(version: u8) -> Value {
    json!({"mode": "first_bytes", "version": version})
}

/// What the server says about a connection: the client's host in `user()` and in the process list.
pub(crate) fn hosts(client: &mut Client) -> (String, String) {
    let mut one = |statement: &str| {
        let answer = client.query(statement).expect("a row");
        String::from_utf8_lossy(&answer.0[3][1..]).into_owned()
    };
    let user = one("SELECT SUBSTRING_INDEX(USER(), '@', -1)");
    let list = one("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()");
    (user, list)
}

#[test]
fn the_server_sees_the_clients_address() {
    let server = MariaDb::start(&[BELIEVES]);
    server.sql("CREATE USER granted@'192.0.2.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('app')");
    server.sql("GRANT ALL ON *.* TO granted@'192.0.2.%'");
    for version in [1, 2] {
        let envoy = envoy(server.addr(), &optional(), &send(version));
        let address = envoy.listener_addr(MYSQL);
        // The address of a header that is believed, and grants for it.
        for header in [V1, V2] {
            let mut client = Client::connect(address);
            client.send(header);
            let mut client = client.log_in(&login()).expect("a login");
            assert_eq!(hosts(&mut client), ("192.0.2.1".into(), "192.0.2.1:1111".into()));
            client.quit();
            let mut client = Client::connect(address);
            client.send(header);
            client.log_in(&Login::new(CLASSIC).user("granted", PASSWORD)).expect("a login by host").quit();
        }
        // The connection's own, where there is none. The grant is for the other network.
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
        let mut client = Client::connect_from(Some(source), address).log_in(&login()).expect("a login");
        assert_eq!(hosts(&mut client).0, "127.0.0.7");
        client.quit();
        let refused = Client::connect(address).log_in(&Login::new(CLASSIC).user("granted", PASSWORD));
        assert_eq!(refused.err(), Some(1045));
        // Not believed of another client, whoever it says it is.
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

/// Without `send` the server sees Envoy, whatever the client says.
#[test]
fn a_header_is_not_handed_on_unasked() {
    let server = MariaDb::start(&[BELIEVES]);
    let strip = json!({"mode": "optional", "untrusted": "strip"});
    for receive in [optional(), strip] {
        let envoy = envoy(server.addr(), &receive, &off());
        let mut client = Client::connect(envoy.listener_addr(MYSQL));
        client.send(V1);
        let mut client = client.log_in(&login()).expect("a login");
        assert_eq!(hosts(&mut client).0, "127.0.0.1");
        client.quit();
    }
}

/// What the server says to a handshake response; none: it says nothing, or Envoy did not hear it.
fn answer(address: SocketAddr) -> Option<Vec<u8>> {
    let mut client = Client::connect(address);
    let greeting = client.packet();
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= CLASSIC;
    let response = client.handshake_response(&login(), &plugin);
    client.write(&response);
    client.next_packet()
}

/// A server that does not believe Envoy refuses its header in its own words.
#[test]
fn refused_by_a_server_that_believes_others() {
    let server = MariaDb::start(&["--proxy-protocol-networks=10.0.0.0/8"]);
    let envoy = envoy(server.addr(), &off(), &send(1));
    let address = envoy.listener_addr(MYSQL);
    // It resets the connection right behind its words, and Envoy may see that first.
    let (tries, error) = (1..=200).find_map(|tries| Some((tries, answer(address)?))).expect("an answer");
    let text = String::from_utf8_lossy(&error).into_owned();
    assert_eq!(error[0], 0xff, "{text}");
    assert!(text.contains("Proxy header is not accepted from 127.0.0.1"), "{text}");
    assert_counted(&envoy, &[&format!("sent v1 {tries}")]);
    assert_eq!(metric(&envoy, "handshakes_total", &[("result", "ok")]), 0.0);
}

/// Where a further header is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind a first one, before anything else.
    Second,
    /// In front of the handshake response, which follows the greeting.
    Response,
    /// Glued between the response and what follows.
    Glued,
    /// In front of the answer to an AuthSwitchRequest.
    Authentication,
}

/// Sends a header there. The host the server then knows; none: it ended the connection or the filter did.
fn second_header(address: SocketAddr, first: &[u8], header: &[u8], at: At) -> Option<String> {
    let mut client = Client::connect(address);
    client.try_send(first)?;
    if at == At::Second {
        client.try_send(header)?;
    }
    // The greeting may be there before the filter has seen the header.
    let greeting = client.next_packet()?;
    client.read_greeting(&greeting);
    client.capabilities &= CLASSIC;
    // Another plugin than the account's: the server asks for its own.
    let response = client.handshake_response(&login(), "mysql_clear_password");
    let response = packet(1, &response);
    match at {
        At::Response => client.try_send(&[header, &response].concat())?,
        At::Glued => client.try_send(&[&response, header].concat())?,
        At::Second | At::Authentication => client.try_send(&response)?,
    }
    let switch = client.next_packet()?;
    assert_eq!(switch[0], 0xfe, "AuthSwitchRequest: {switch:02x?}");
    if at == At::Authentication {
        client.try_send(header)?;
    }
    let (_, answer) = client.read_auth_switch(&switch, PASSWORD);
    client.try_send(&packet(3, &answer))?;
    let end = client.next_packet()?;
    assert_eq!(end[0], 0, "OK: {}", String::from_utf8_lossy(&end));
    let (user, _) = hosts(&mut client);
    client.quit();
    Some(user)
}

/// MariaDB believes the last header it gets, in front of any packet until it has decided about the client. No client gets
/// one past the filter, be headers received or only sent.
#[test]
fn no_second_header_reaches_a_server_that_would_believe_it() {
    let server = MariaDb::start(&[BELIEVES]);
    let forged = b"PROXY TCP4 203.0.113.9 192.0.2.2 9 9\r\n".as_slice();
    let forged_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x02\0\x09\0\x09".as_slice();
    let sloppy = b"PROXYTCP4 203.0.113.9 192.0.2.2 9 9\n".as_slice();
    let places = [At::Second, At::Response, At::Glued, At::Authentication];
    // Shown first without the filter: the server believes it.
    for header in [forged, forged_v2, sloppy] {
        for at in [At::Second, At::Response, At::Authentication] {
            let first: &[u8] = if at == At::Second { V1 } else { b"" };
            let host = second_header(server.addr(), first, header, at);
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
                // Without a first one, the header in front of the response is the first, and received.
                let first: &[u8] = if receives { V1 } else { b"" };
                let host = second_header(address, first, header, at);
                assert_eq!(host, None, "{} {at:?} {receive} {send}", header.escape_ascii());
                tried += 1;
            }
        }
        assert!(server.status("Connections") >= before);
        // Beside them a good client.
        let mut client = Client::connect(address).log_in(&login()).expect("a login");
        assert_eq!(hosts(&mut client).0, "127.0.0.1");
        client.quit();
        let malformed = |format| {
            metric(&envoy, "proxy_protocol_received_total", &[("format", format), ("result", "malformed")])
        };
        several_ticks(&envoy);
        assert_eq!((malformed("v1"), malformed("v2")), (8.0, 4.0), "{tried} tried: {receive} {send}");
    }
}

/// Why the guard may end with the server's decision: from then on the server takes no header, neither in front of a
/// command nor within COM_CHANGE_USER.
#[test]
fn the_server_believes_no_header_once_it_has_decided() {
    let server = MariaDb::start(&[BELIEVES]);
    for change_user in [false, true] {
        let mut client = Client::login(server.addr(), &login());
        if change_user {
            let user = [b"\x11app\0\0".as_slice(), b"\0\x2d\0mysql_clear_password\0\0"].concat();
            client.command(&user);
            let switch = client.packet();
            assert_eq!(switch[0], 0xfe, "AuthSwitchRequest: {switch:02x?}");
            let (_, answer) = client.read_auth_switch(&switch, PASSWORD);
            client.send(&[V1, &packet(3, &answer)].concat());
        } else {
            client.send(&[V1, &packet(0, b"\x03SELECT 1")].concat());
        }
        let answer = client.next_packet();
        assert!(answer.as_ref().is_none_or(|answer| answer[0] == 0xff), "{change_user}: {answer:02x?}");
        assert!(client.closes());
    }
}
