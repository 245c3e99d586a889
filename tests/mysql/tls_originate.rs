//! Clients without TLS, and servers that require TLS: the native module starts TLS to the server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::{Certificates, NAME};
use crate::counts::{QUIET, address, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Login, SSL};
use firstword_testing::database::{Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{COUNTED, MariaDb};

/// Length of an SSLRequest, which the server counts and the client does not send.
const REQUEST_LEN: u64 = 36;

pub fn options(database: &Database, authority: &Path) -> EnvoyOptions {
    options_to(database.addr(), authority)
}

/// `envoy/tls-originate.yaml` with this server and its authority.
pub fn options_to(server: SocketAddr, authority: &Path) -> EnvoyOptions {
    let options = EnvoyOptions::new("envoy/tls-originate.yaml").upstream("mysql", server);
    let file = json!({"filename": authority.join("ca.pem")});
    options.edit(|bootstrap| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][0];
        let tls = &mut cluster["transport_socket"]["typed_config"]["tls_socket_config"];
        tls["common_tls_context"]["validation_context"]["trusted_ca"] = file;
    })
}

fn tls_results(envoy: &Envoy) -> Vec<(String, u64)> {
    sums_by(&envoy.stable(QUIET), "tls_sessions_total", "result").into_iter().collect()
}

fn result(name: &str, count: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), count)]
}

/// Logs in, and asserts that the server uses TLS 1.3. Returns the error number of a refusal.
fn use_tls(envoy: &Envoy, login: &Login) -> Option<u16> {
    let mut client = match Client::connect(address(envoy)).log_in(login) {
        Ok(client) => client,
        Err(errno) => return Some(errno),
    };
    let response = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
    assert!(response.windows(4).any(|text| text == b"TLS_"), "{}", response.escape_ascii());
    client.quit();
    None
}

#[test]
fn a_client_without_tls_reaches_a_server_that_requires_it() {
    let certificates = Certificates::valid();
    let [cert, key, required] = certificates.options();
    let tls = [cert.as_str(), &key, &required, "--plugin-load-add=auth_ed25519"];
    let database = MariaDb::start(&[&tls[..], &COUNTED].concat());
    for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {password} REQUIRE SSL"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    let direct = Client::connect(database.addr()).log_in(&Login::new(CLASSIC));
    assert_eq!(direct.err(), Some(1045), "the server refuses clients without TLS");
    let envoy = Envoy::start(options(&database, certificates.directory()));
    let before = (database.oracle(), database.status("Ssl_accepts"));
    for user in [USER, "ed", "native"] {
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(user, PASSWORD)), None, "{user}");
    }
    assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user("ed", "wrong")), Some(1045));
    let mut changed = Client::login(address(&envoy), &Login::new(CLASSIC));
    changed
        .change_user(&Login::new(CLASSIC).user("ed", PASSWORD), "mysql_native_password")
        .expect("a change of account");
    changed.quit();

    let metrics = envoy.stable(QUIET);
    let server = database.oracle_when_alone().since(&before.0);
    assert_eq!(sums_by(&metrics, "opaque_total", "reason").len(), 0, "{}", envoy.log());
    assert_eq!(sum(&metrics, "tls_sessions_total", &[("side", "upstream"), ("result", "established")]), 5);
    assert_eq!(sum(&metrics, "tls_sessions_total", &[]), 5);
    assert_eq!(database.status("Ssl_accepts") - before.1, 5);
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
    assert_eq!(
        sum(&metrics, "bytes_total", &[("sender", "client")]) + 5 * REQUEST_LEN,
        server.bytes_received
    );
    assert_eq!(sum(&metrics, "bytes_total", &[("sender", "server")]), server.bytes_sent);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "query")]), 3);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 1);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "quit")]), 4);
}

/// The two turns of the event loop between the SSLRequest and TLS suffice, also if the machine is busy.
#[test]
fn no_login_is_lost() {
    const LOGINS: usize = 50;
    const CLIENTS: usize = 8;
    let certificates = Certificates::valid();
    let [cert, key, required] = certificates.options();
    let database = MariaDb::start(&[&cert, &key, &required]);
    let envoy = Envoy::start(options(&database, certificates.directory()).concurrency(2));
    let address = address(&envoy);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                (0..LOGINS).for_each(|_| Client::login(address, &Login::new(CLASSIC)).quit());
            });
        }
    });
    assert_eq!(tls_results(&envoy), result("established", (LOGINS * CLIENTS) as u64), "{}", envoy.log());
}

#[test]
fn a_certificate_that_is_not_valid_ends_the_connection() {
    let certificates = Certificates::valid();
    let other = Certificates::valid();
    for (server, authority) in [
        (&certificates, &other),
        (&Certificates::new("other.example", 2090), &certificates),
        (&Certificates::new(NAME, 2021), &certificates),
    ] {
        let authority = if server.directory() == certificates.directory() { authority } else { server };
        let [cert, key, required] = server.options();
        let database = MariaDb::start(&[&cert, &key, &required]);
        let envoy = Envoy::start(options(&database, authority.directory()));
        let mut client = Client::connect(address(&envoy));
        let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
        client.write(&payload);
        assert_eq!(client.next_packet(), None, "no error can precede the end");
        assert_eq!(tls_results(&envoy), result("failed", 1), "{}", envoy.log());
        envoy.wait_log("event=server_tls result=failed");
        database.wait_until_alone(Duration::from_secs(20));
    }
}

#[test]
fn nothing_is_sent_without_tls() {
    let certificates = Certificates::valid();
    let database = MariaDb::start(&["--skip-ssl"]);
    let envoy = Envoy::start(options(&database, certificates.directory()));
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)).err();
    assert_eq!(refused, Some(1043));
    assert_eq!(tls_results(&envoy), result("not_offered", 1));
    envoy.wait_log("event=server_tls result=not_offered");

    let [cert, key, required] = certificates.options();
    let database = MariaDb::start(&[&cert, &key, &required]);
    let envoy = Envoy::start(options(&database, certificates.directory()));
    let mut client = Client::connect(address(&envoy));
    let mut payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    assert_eq!(
        u32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]) & SSL,
        0,
        "the offer is cleared"
    );
    payload[1] |= 0x08;
    client.write(&payload[..32]);
    let error = client.packet();
    assert!(error.starts_with(b"\xff\x13\x04#08S01Connect without TLS"), "{}", error.escape_ascii());
    assert_eq!(tls_results(&envoy), result("client_tls", 1));
}

/// A cluster without the socket that can start TLS.
#[test]
fn without_the_transport_socket_the_connection_ends() {
    let certificates = Certificates::valid();
    let [cert, key, _] = certificates.options();
    let database = MariaDb::start(&[&cert, &key]);
    let without = |bootstrap: &mut Value| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][0];
        drop(cluster.as_object_mut().unwrap().remove("transport_socket"));
    };
    let envoy = Envoy::start(options(&database, certificates.directory()).edit(without));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    client.write(&payload);
    assert_eq!(client.next_packet(), None, "no error can precede the end");
    envoy.wait_log("Envoy cannot start TLS to this server");
    assert_eq!(tls_results(&envoy), result("failed", 1));
}

mod needs_mysqld {
    use super::*;
    use firstword_testing::mysqld::{MySql, SHA256_USER};

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_client_without_tls_reaches_a_mysql_server_that_requires_it() {
        let certificates = Certificates::valid();
        let [cert, key, required] = certificates.options();
        let database = MySql::start(&[&cert, &key, &required]);
        let envoy = Envoy::start(options(&database, certificates.directory()));
        let login = Login::new(CLASSIC);
        assert_eq!(Client::connect(database.addr()).log_in(&login).err(), Some(3159));
        // Without this the server knows the hash of the password, and does not ask for it.
        database.sql("FLUSH PRIVILEGES");
        for _ in 0..3 {
            assert_eq!(use_tls(&envoy, &login), None);
        }
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(SHA256_USER, PASSWORD)), None);
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(USER, "wrong")), Some(1045));
        assert_eq!(tls_results(&envoy), result("established", 5));
        let metrics = envoy.stable(QUIET);
        assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
        // The first login, and the one with a wrong password.
        assert_eq!(sum(&metrics, "plaintext_full_auth_total", &[]), 2);
    }
}
