//! A client whose TLS ends in the proxy, and a server without TLS: no password leaves as the client has sent it.

use super::link::{login, observe_mysql, packet};
use super::tls_originate::{CLIENT, Host, OK, SSL, Turned};
use crate::connection::chunk::TickVerdict;
use crate::event::{Event, HandshakeResult, Sender, TlsResult, TlsSide};
use crate::password_key::PasswordKeyRef;
use crate::rules::{GuardPassword, Inspection, Rules};

const SCRAMBLE: &[u8] = b"abcdefghijklmnopqrst";
/// Scramble of the greeting.
const GREETED: &[u8] = b"12345678123456789012";
const PASSWORD: &[u8] = b"secret\0";
const COMPRESS: u32 = 1 << 5;

fn rules() -> Rules {
    let guard = GuardPassword { password_key: Some(PasswordKeyRef(&Turned)) };
    Rules { terminate_tls: true, guard_password: Some(guard), ..observe_mysql() }
}

/// Handshake response in TLS with this plugin.
fn response(plugin: &str, data: &[u8]) -> Vec<u8> {
    let mut payload = (CLIENT | SSL).to_le_bytes().to_vec();
    payload.extend([0; 28]);
    payload.extend([b"app\0", [data.len() as u8].as_slice(), data, plugin.as_bytes(), b"\0"].concat());
    packet(2, &payload)
}

/// The response as the server gets it.
fn forwarded(response: &[u8]) -> Vec<u8> {
    let mut forwarded = response.to_vec();
    (forwarded[3], forwarded[5]) = (1, forwarded[5] & !0x08);
    forwarded
}

/// Host whose client has sent its SSLRequest.
fn requested(rules: Rules) -> Host {
    let [greeting, _] = login("8.4.0", CLIENT, &[]);
    let mut host = Host::new(rules);
    host.server(&greeting);
    host.handed_over.clear();
    host.link.call(|connection, _| connection.tls_requested());
    host
}

/// Host whose client has sent its response with this plugin.
fn responded(plugin: &str) -> Host {
    let mut host = requested(rules());
    host.client(&response(plugin, &[7; 20]));
    host.clear.clear();
    host
}

/// Host whose client is logged in.
fn logged_in() -> Host {
    let mut host = responded("mysql_native_password");
    host.server(&packet(2, OK));
    host.client.clear();
    host
}

fn switch(id: u8, plugin: &str) -> Vec<u8> {
    packet(id, &[b"\xfe", plugin.as_bytes(), b"\0", SCRAMBLE, b"\0"].concat())
}

fn change_user(plugin: &str, data: &[u8]) -> Vec<u8> {
    let plugin = plugin.as_bytes();
    packet(0, &[b"\x11app\0", [data.len() as u8].as_slice(), data, b"demo\0\x2d\0", plugin, b"\0"].concat())
}

fn encrypted(scramble: &[u8]) -> Vec<u8> {
    PASSWORD.iter().zip(scramble.iter().cycle()).map(|(byte, with)| !(byte ^ with)).collect()
}

fn upstream(host: &Host) -> Vec<TlsResult> {
    let result = |event: &Event| match event {
        Event::Tls { side: TlsSide::Upstream, result } => Some(*result),
        _ => None,
    };
    host.link.events.iter().filter_map(result).collect()
}

/// Asserts that the client got the filter's error with this sequence id, and that the connection forwards nothing more.
fn is_refused(host: &mut Host, id: u8, message: &str) {
    let error = host.client.escape_ascii().to_string();
    assert_eq!(&host.client[3..7], [id, 0xff, 0x13, 0x04], "{error}");
    assert!(error.contains(message), "{error}");
    assert!(host.is_closed);
    assert_eq!(upstream(host), [TlsResult::ClearPassword]);
    let now = host.link.now;
    assert_eq!(host.link.tick(now), TickVerdict::Close);
}

fn has_no_opaque(host: &Host) {
    let exposed =
        |event: &&Event| matches!(event, Event::Opaque(_) | Event::Hazard(_) | Event::PlaintextFullAuth);
    assert_eq!(host.link.events.iter().find(exposed), None);
}

#[test]
fn a_login_with_a_hash_passes_however_it_is_cut() {
    for plugin in
        ["mysql_native_password", "caching_sha2_password", "client_ed25519", "parsec", "mysql_old_password"]
    {
        for size in [1, 2, 3, 4, 5, 7, usize::MAX] {
            let mut host = requested(rules());
            let response = response(plugin, &[7; 20]);
            host.sends(Sender::Client, &response, size);
            assert_eq!(host.clear, forwarded(&response), "{plugin} {size}");
            host.sends(Sender::Server, &switch(2, plugin), size);
            assert_eq!(host.client, switch(3, plugin));
            host.sends(Sender::Client, &packet(4, &[7; 20]), size);
            host.sends(Sender::Server, &packet(4, OK), size);
            assert_eq!(host.client, [switch(3, plugin), packet(5, OK)].concat());
            host.clear.clear();
            host.sends(Sender::Client, &packet(0, b"\x0e"), size);
            assert_eq!(host.clear, packet(0, b"\x0e"), "commands keep their numbers");
            assert!(!host.is_closed && upstream(&host).is_empty());
            has_no_opaque(&host);
        }
    }
}

#[test]
fn a_password_leaves_encrypted_however_it_is_cut() {
    let asked = |id| packet(id, b"\x01\x04");
    for (plugin, requests, shown, key_request, scramble) in [
        // The scramble of the greeting, and that of an AuthSwitchRequest.
        ("caching_sha2_password", asked(2), asked(3), 2_u8, GREETED),
        ("caching_sha2_password", switch(2, "sha256_password"), switch(3, "sha256_password"), 1, SCRAMBLE),
        ("mysql_native_password", switch(2, "sha256_password"), switch(3, "sha256_password"), 1, SCRAMBLE),
    ] {
        for size in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, usize::MAX] {
            for inspection in [Inspection::Full, Inspection::Nothing] {
                let mut host = requested(Rules { inspection, ..rules() });
                host.sends(Sender::Client, &response(plugin, &[7; 20]), size);
                host.clear.clear();
                host.sends(Sender::Server, &requests, size);
                assert_eq!(host.client, shown);
                host.sends(Sender::Client, &packet(4, PASSWORD), size);
                assert_eq!(host.clear, packet(3, &[key_request]), "{plugin} {size}");
                host.sends(Sender::Server, &packet(4, b"\x01KEY"), size);
                assert_eq!(host.client, shown, "the client does not get the key");
                host.sends(Sender::Server, &packet(6, OK), size);
                let block = packet(5, &encrypted(scramble));
                assert_eq!(host.clear, [packet(3, &[key_request]), block].concat(), "{plugin} {size}");
                assert_eq!(host.client, [shown.clone(), packet(5, OK)].concat());
                host.sends(Sender::Client, &packet(0, b"\x0e"), size);
                host.client.clear();
                host.sends(Sender::Server, &packet(1, OK), size);
                assert_eq!(host.client, packet(1, OK), "the numbers of commands are the server's");
                assert!(!host.is_closed && upstream(&host).is_empty());
                if inspection == Inspection::Full {
                    has_no_opaque(&host);
                    let accepted = |event: &&Event| {
                        matches!(event, Event::Handshake { result: HandshakeResult::Ok, .. })
                    };
                    assert_eq!(host.link.events.iter().filter(accepted).count(), 1);
                }
            }
        }
    }
}

#[test]
fn a_fast_authentication_needs_no_key() {
    let mut host = responded("caching_sha2_password");
    host.server(&[packet(2, b"\x01\x03"), packet(3, OK)].concat());
    assert_eq!(host.client, [packet(3, b"\x01\x03"), packet(4, OK)].concat());
    assert!(host.clear.is_empty() && !host.is_closed);
}

#[test]
fn an_empty_password_is_forwarded() {
    for plugin in ["sha256_password", "mysql_clear_password"] {
        let mut host = responded("caching_sha2_password");
        host.server(&switch(2, plugin));
        host.client(&packet(4, b"\0"));
        assert_eq!(host.clear, packet(3, b"\0"), "{plugin}");
        host.server(&packet(4, OK));
        assert!(!host.is_closed);
    }
}

#[test]
fn a_password_that_cannot_be_encrypted_is_refused() {
    for request in [
        b"\xfemysql_clear_password\0".as_slice(),
        b"\xfedialog\0Password: ",
        b"\xfeauth_gssapi_client\0",
        b"\xfenew_plugin\0data",
        b"\x02mysql_clear_password\0",
    ] {
        for size in [1, 4, usize::MAX] {
            let mut host = responded("caching_sha2_password");
            host.sends(Sender::Server, &packet(2, request), size);
            assert_eq!(host.client, packet(3, request));
            host.client.clear();
            for chunk in packet(4, PASSWORD).chunks(size) {
                if !host.is_closed {
                    host.client(chunk);
                }
            }
            assert!(host.clear.is_empty(), "{}", request.escape_ascii());
            is_refused(&mut host, 5, "sends no password to the server without TLS");
            host.server(&packet(3, OK));
            assert_eq!(host.client[3], 5, "nothing follows the error");
        }
    }
}

#[test]
fn a_handshake_response_with_a_password_is_refused() {
    for plugin in ["mysql_clear_password", "sha256_password", "dialog", "new_plugin"] {
        for size in [1, usize::MAX] {
            let mut host = requested(rules());
            for chunk in response(plugin, PASSWORD).chunks(size) {
                if !host.is_closed {
                    host.client(chunk);
                }
            }
            assert!(host.clear.is_empty(), "{plugin}");
            is_refused(&mut host, 3, "sends no password to the server without TLS");
        }
        // The server then requests what it needs.
        let mut host = requested(rules());
        host.client(&response(plugin, b""));
        assert_eq!(host.clear, forwarded(&response(plugin, b"")));
    }
}

#[test]
fn an_early_packet_of_the_server_decides_nothing() {
    let response = response("mysql_native_password", &[7; 20]);
    for first in [OK[0], 0xff] {
        let mut host = requested(rules());
        host.client(&response[..20]);
        // The guard waits for the rest of this packet.
        host.server(&[0, 2, 0, 2, first]);
        host.client(&response[20..]);
        assert_eq!(host.clear, forwarded(&response), "without CLIENT_SSL: {first}");
    }
}

#[test]
fn a_host_without_rsa_refuses_a_password() {
    let guard_password = Some(GuardPassword::default());
    let mut host = requested(Rules { guard_password, ..rules() });
    host.client(&response("caching_sha2_password", &[7; 32]));
    host.clear.clear();
    host.server(&packet(2, b"\x01\x04"));
    host.client.clear();
    host.client(&packet(4, PASSWORD));
    assert!(host.clear.is_empty());
    is_refused(&mut host, 5, "sends no password to the server without TLS");
}

#[test]
fn a_server_without_a_usable_key_gets_no_password() {
    let more = [packet(4, b"\x01KEY"), packet(5, OK)].concat();
    for key in [packet(4, b"\x01OTHER"), packet(4, OK), packet(4, &[b'k'; 5000]), more] {
        let mut host = responded("caching_sha2_password");
        host.server(&packet(2, b"\x01\x04"));
        host.client.clear();
        host.client(&packet(4, PASSWORD));
        host.server(&key);
        assert_eq!(host.clear, packet(3, b"\x02"), "only the request leaves");
        is_refused(&mut host, 5, "no RSA key");
    }
}

#[test]
fn an_error_in_place_of_the_key_reaches_the_client() {
    let error = |id| packet(id, b"\xff\x15\x04#28000Access denied");
    for size in [1, 5, usize::MAX] {
        let mut host = responded("caching_sha2_password");
        host.server(&packet(2, b"\x01\x04"));
        host.client.clear();
        host.client(&packet(4, PASSWORD));
        host.sends(Sender::Server, &error(4), size);
        assert_eq!(host.client, error(5));
        assert_eq!(host.clear, packet(3, b"\x02"));
        let refused = |event: &&Event| matches!(event, Event::HandshakeError { errno: 1045, .. });
        assert_eq!(host.link.events.iter().filter(refused).count(), 1);
        host.client(b"more");
        assert!(host.is_closed);
    }
}

#[test]
fn bytes_out_of_turn_end_the_connection() {
    // A second packet of the client while the key is awaited, and before any request.
    let mut host = responded("caching_sha2_password");
    host.client(&packet(3, b"early"));
    assert!(host.is_closed && host.clear.is_empty());
    let mut host = responded("caching_sha2_password");
    host.server(&packet(2, b"\x01\x04"));
    host.client(&packet(4, PASSWORD));
    host.client(&packet(5, PASSWORD));
    assert!(host.is_closed);
    assert_eq!(host.clear, packet(3, b"\x02"));
    // A second request of the server hides the first from the guard.
    let without = Rules { inspection: Inspection::Nothing, ..rules() };
    let mut host = requested(without);
    host.client(&response("caching_sha2_password", &[7; 20]));
    host.clear.clear();
    host.server(&[switch(2, "mysql_clear_password"), switch(3, "mysql_native_password")].concat());
    host.client(&packet(4, PASSWORD));
    assert!(host.is_closed && host.clear.is_empty());
    // Compression, which the greeting does not offer.
    let [greeting, _] = login("8.4.0", CLIENT | COMPRESS, &[]);
    let mut host = Host::new(without);
    host.server(&greeting);
    host.link.call(|connection, _| connection.tls_requested());
    let mut compressed = response("mysql_native_password", &[7; 20]);
    compressed[4] |= COMPRESS as u8;
    host.client(&compressed);
    assert!(host.is_closed && host.clear.is_empty());
    assert_eq!(upstream(&host), [TlsResult::Refused]);
}

#[test]
fn a_change_of_account_is_a_login() {
    for size in [1, 3, 7, usize::MAX] {
        let mut host = logged_in();
        let change = change_user("caching_sha2_password", &[7; 32]);
        // A command without a response may precede it in one chunk.
        let closed = packet(0, b"\x19\x01\0\0\0");
        host.sends(Sender::Client, &[closed.clone(), change.clone()].concat(), size);
        assert_eq!(host.clear, [closed, change].concat());
        host.clear.clear();
        host.sends(Sender::Server, &switch(1, "caching_sha2_password"), size);
        host.sends(Sender::Client, &packet(2, &[7; 32]), size);
        host.sends(Sender::Server, &packet(3, b"\x01\x04"), size);
        host.sends(Sender::Client, &packet(4, PASSWORD), size);
        host.sends(Sender::Server, &packet(5, b"\x01KEY"), size);
        host.sends(Sender::Server, &packet(7, OK), size);
        let expected = [switch(1, "caching_sha2_password"), packet(3, b"\x01\x04"), packet(5, OK)].concat();
        assert_eq!(host.client, expected, "{size}");
        let expected = [packet(2, &[7; 32]), packet(4, b"\x02"), packet(6, &encrypted(SCRAMBLE))].concat();
        assert_eq!(host.clear, expected, "{size}");
        host.sends(Sender::Client, &packet(0, b"\x0e"), size);
        assert!(!host.is_closed && host.clear.ends_with(&packet(0, b"\x0e")));
        has_no_opaque(&host);
    }
    // The server keeps the account of before.
    let mut host = logged_in();
    host.client(&change_user("mysql_native_password", &[7; 20]));
    host.server(&packet(1, b"\xff\x15\x04#28000Access denied"));
    host.clear.clear();
    host.client(&packet(0, b"\x0e"));
    assert_eq!(host.clear, packet(0, b"\x0e"));
}

#[test]
fn a_change_of_account_with_a_password_is_refused() {
    for size in [1, usize::MAX] {
        let mut host = logged_in();
        let change = change_user("mysql_clear_password", PASSWORD);
        for chunk in change.chunks(size) {
            if !host.is_closed {
                host.client(chunk);
            }
        }
        // The first four bytes can leave before the command is known.
        assert!(change[..4].starts_with(&host.clear), "{}", host.clear.escape_ascii());
        is_refused(&mut host, 1, "sends no password to the server without TLS");
    }
    let mut host = logged_in();
    host.client(&change_user("mysql_native_password", &[7; 20]));
    host.server(&switch(1, "mysql_clear_password"));
    host.clear.clear();
    host.client.clear();
    host.client(&packet(2, PASSWORD));
    assert!(host.clear.is_empty());
    is_refused(&mut host, 3, "sends no password to the server without TLS");
}

#[test]
fn a_change_of_account_that_is_no_last_command_ends_the_connection() {
    let change = change_user("mysql_native_password", &[7; 20]);
    let ping = packet(0, b"\x0e");
    for bytes in
        [[ping.clone(), change.clone()].concat(), [change.clone(), ping].concat(), packet(0, b"\x11")]
    {
        let mut host = logged_in();
        host.client(&bytes);
        assert!(host.is_closed && host.clear.is_empty());
        assert_eq!(upstream(&host), [TlsResult::Refused]);
    }
}

#[test]
fn packets_of_a_file_are_no_commands() {
    let without = Rules { inspection: Inspection::Nothing, ..rules() };
    let mut host = requested(without);
    host.client(&response("mysql_native_password", &[7; 20]));
    host.server(&packet(2, OK));
    host.client(&packet(0, b"\x03LOAD DATA LOCAL"));
    host.server(&packet(1, b"\xfbfile"));
    host.clear.clear();
    // The sequence id passes 255.
    let pieces: Vec<_> = (2..=257_u16).map(|id| packet(id as u8, b"\x11piece")).collect();
    for piece in &pieces {
        host.client(piece);
    }
    assert_eq!(host.clear, pieces.concat());
    assert!(!host.is_closed);
}
