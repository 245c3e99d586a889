//! Clients with TLS and a server that gets sessions without it: the native module sees them, and no password leaves as it is
//! (`envoy/tls-terminate.yaml`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::counts::{QUIET, address, sum, sums_by};
use crate::tls_bridge::{judges_and_logs_accounts, log_in};
use crate::tls_modes::{Sides, result, results};
use firstword_testing::client::{CLASSIC, COMPRESS, Client, Hello, Login, SSL};
use firstword_testing::database::{Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{COUNTED, MariaDb};
use firstword_testing::packets::packet;

/// `envoy/tls-terminate.yaml` with the certificate of `sides` for the clients.
fn options(sides: &Sides, database: &Database) -> EnvoyOptions {
    let file = |name: &str| json!({"filename": sides.proxy.directory().join(name)});
    let certificate = json!({"certificate_chain": file("cert.pem"), "private_key": file("key.pem")});
    let options = EnvoyOptions::new("envoy/tls-terminate.yaml").upstream("mysql", database.addr());
    options.edit(|bootstrap| {
        let listener = &mut bootstrap["static_resources"]["listeners"][1];
        let socket = &mut listener["filter_chains"][0]["transport_socket"];
        socket["typed_config"]["common_tls_context"]["tls_certificates"][0] = certificate;
    })
}

/// A server that offers no TLS, and one that offers it.
#[test]
fn a_session_between_a_client_with_tls_and_a_server_without_is_visible() {
    let sides = Sides::new();
    let [cert, key, _] = sides.server.options();
    for tls in [vec!["--skip-ssl"], vec![cert.as_str(), &key]] {
        let arguments = [&["--plugin-load-add=auth_ed25519"], &tls[..], &COUNTED].concat();
        let database = MariaDb::start(&arguments);
        for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
            let hashed = format!("PASSWORD('{PASSWORD}')");
            database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {hashed}"));
            database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
        }
        let envoy = Envoy::start(options(&sides, &database));
        let (trust, before) = (sides.client(), database.oracle());
        // The server offers compression, which would hide a change of the account.
        let login = Login::new(CLASSIC | COMPRESS);
        for user in [USER, "ed", "native"] {
            let login = login.clone().user(user, PASSWORD);
            let mut client = log_in(&envoy, &login, &trust, Hello::Together).expect("a login");
            assert!(client.has_tls());
            let cipher = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
            assert!(!cipher.windows(4).any(|text| text == b"TLS_"), "{}", cipher.escape_ascii());
            client.quit();
        }
        let wrong = login.clone().user("ed", "wrong");
        assert_eq!(log_in(&envoy, &wrong, &trust, Hello::Together).err(), Some(1045));
        let mut changed = log_in(&envoy, &login, &trust, Hello::Together).expect("a login");
        let ed = login.clone().user("ed", PASSWORD);
        changed.change_user(&ed, "mysql_native_password").expect("a change of account");
        changed.query("SELECT 1").expect("a row");
        changed.quit();

        let metrics = envoy.stable(QUIET);
        let server = database.oracle_when_alone().since(&before);
        assert_eq!(sums_by(&metrics, "opaque_total", "reason").len(), 0, "{}", envoy.log());
        assert_eq!(results(&envoy, "downstream"), result("established", 5));
        assert_eq!(results(&envoy, "upstream"), BTreeMap::new());
        assert_eq!(sum(&metrics, "connections_total", &[]), 5, "each connection is counted once");
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
        assert_eq!(sum(&metrics, "bytes_total", &[("sender", "client")]), server.bytes_received);
        assert_eq!(sum(&metrics, "bytes_total", &[("sender", "server")]), server.bytes_sent);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "query")]), 4);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 1);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "quit")]), 4);
        assert_eq!(sum(&metrics, "hazards_total", &[]), 0);
    }
}

/// A client that would send the password itself.
#[test]
fn a_password_that_cannot_be_encrypted_stays_in_envoy() {
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl", "--general-log=ON", "--log-output=TABLE"]);
    let envoy = Envoy::start(options(&sides, &database));
    let (trust, clear) = (sides.client(), Login::new(CLASSIC).plugin("mysql_clear_password"));
    assert_eq!(log_in(&envoy, &clear, &trust, Hello::Together).err(), Some(1043));
    let mut changed = log_in(&envoy, &Login::new(CLASSIC), &trust, Hello::Together).expect("a login");
    changed.change_user(&Login::new(CLASSIC), "mysql_clear_password").expect_errno(1043);
    assert_eq!(changed.next_packet(), None);
    assert_eq!(results(&envoy, "upstream"), result("clear_password", 2));
    envoy.wait_log("event=server_tls result=clear_password");
    let changes = database
        .sql("SELECT argument FROM mysql.general_log WHERE command_type IN ('Connect', 'Change user')");
    assert_eq!(changes.iter().filter(|row| row[0].starts_with(USER)).count(), 1, "{changes:?}");
}

#[test]
fn accounts_are_judged_and_logged() {
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl", "--general-log=ON", "--log-output=TABLE"]);
    let (tls, options) = (json!({"downstream": "terminate"}), options(&sides, &database));
    judges_and_logs_accounts(&sides, &database, options, &tls, "-");
}

/// The client does not wait between its SSLRequest and its ClientHello, and any cut of them is possible.
#[test]
fn no_login_is_lost() {
    const LOGINS: usize = 150;
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl"]);
    let envoy = Envoy::start(options(&sides, &database).concurrency(2));
    let trust = sides.client();
    let hellos = [Hello::Together, Hello::Apart(Duration::ZERO), Hello::Apart(Duration::from_millis(5))];
    std::thread::scope(|scope| {
        for hello in hellos {
            let (envoy, trust) = (&envoy, &trust);
            scope.spawn(move || {
                for _ in 0..LOGINS {
                    log_in(envoy, &Login::new(CLASSIC), trust, hello).expect("a login").quit();
                }
            });
        }
        scope.spawn(|| {
            for cut in (0..=40).chain([60, 100, 200]) {
                log_in(&envoy, &Login::new(CLASSIC), &trust, Hello::Cut(cut)).expect("a login").quit();
            }
        });
    });
    let logins = hellos.len() as u64 * LOGINS as u64 + 44;
    assert_eq!(results(&envoy, "downstream"), result("established", logins), "{}", envoy.log());
    assert_eq!(results(&envoy, "upstream"), BTreeMap::new());
}

/// A client without TLS, and what a third party inserts before the client's TLS.
#[test]
fn nothing_of_a_client_passes_before_its_tls() {
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl"]);
    let envoy = Envoy::start(options(&sides, &database));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    client.write(&payload);
    assert!(client.packet().starts_with(b"\xff\x57\x0c#HY000Connect with TLS"));
    assert!(client.closes());
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC | SSL)).expect("a greeting");
    let command = packet(0, b"\x03CREATE DATABASE injected");
    client.send(&[packet(1, &payload[..32]), command].concat());
    assert!(client.closes(), "this is no TLS");
    assert_eq!(database.sql("SHOW DATABASES LIKE 'injected'").len(), 0);
    let counts = [("failed".to_owned(), 1), ("not_requested".to_owned(), 1)].into();
    assert_eq!(results(&envoy, "downstream"), counts, "{}", envoy.log());
    assert_eq!(sum(&envoy.stable(QUIET), "commands_total", &[]), 0);
}

mod needs_mysqld {
    use super::*;
    use firstword_testing::mysqld::{MySql, NO_TLS, SHA256_USER};

    /// Cold: the server does not know the hash of the password. Warm: it does.
    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_password_leaves_encrypted_to_a_mysql_server() {
        let sides = Sides::new();
        for tls in [&[NO_TLS][..], &[]] {
            let database = MySql::start(tls);
            let envoy = Envoy::start(options(&sides, &database));
            let (login, trust) = (Login::new(CLASSIC), sides.client());
            let sha256 = login.clone().user(SHA256_USER, PASSWORD);
            for _ in 0..20 {
                database.sql("FLUSH PRIVILEGES");
                for _ in 0..2 {
                    let mut client = log_in(&envoy, &login, &trust, Hello::Together).expect("a login");
                    client.query("SELECT 1").expect("a row");
                    client.quit();
                }
                log_in(&envoy, &sha256, &trust, Hello::Together).expect("a login").quit();
            }
            let wrong = login.clone().user(USER, "wrong");
            assert_eq!(log_in(&envoy, &wrong, &trust, Hello::Together).err(), Some(1045));
            // A change of the account to a password that the server does not know, and back to one that it does.
            database.sql("FLUSH PRIVILEGES");
            let mut changed = log_in(&envoy, &sha256, &trust, Hello::Together).expect("a login");
            for account in [&login, &login, &sha256] {
                changed.change_user(account, "caching_sha2_password").expect("a change of account");
                changed.query("SELECT 1").expect("a row");
            }
            changed.quit();
            assert_eq!(results(&envoy, "downstream"), result("established", 62));
            assert_eq!(results(&envoy, "upstream"), BTreeMap::new());
            let metrics = envoy.stable(QUIET);
            assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
            assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 61);
            assert_eq!(sum(&metrics, "commands_total", &[("command", "query")]), 43);
            assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 3);
            assert_eq!(sum(&metrics, "commands_total", &[("command", "quit")]), 61);
            assert_eq!(
                sum(&metrics, "plaintext_full_auth_total", &[]),
                0,
                "the client's password was in TLS"
            );
            assert_eq!(sum(&metrics, "hazards_total", &[]), 0);
        }
    }

    /// The client uses sha256_password from the start, so its first packet contains the password.
    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_password_in_the_handshake_response_stays_in_envoy() {
        let sides = Sides::new();
        let database = MySql::start(&[NO_TLS]);
        let envoy = Envoy::start(options(&sides, &database));
        let login = Login::new(CLASSIC).user(SHA256_USER, PASSWORD).plugin("sha256_password");
        assert_eq!(log_in(&envoy, &login, &sides.client(), Hello::Together).err(), Some(1043));
        assert_eq!(results(&envoy, "upstream"), result("clear_password", 1));
    }
}
