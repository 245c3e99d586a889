//! Clients with TLS and a server that requires TLS: the native module sees the session between them
//! (`envoy/tls-bridge.yaml`).

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::{Certificates, NAME};
use crate::counts::{QUIET, address, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Hello, Login, SSL, Tls};
use firstword_testing::database::{Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{COUNTED, MariaDb};
use firstword_testing::packets::packet;
use firstword_testing::{temp_dir, wait_for};

/// Name in Envoy's certificate, which the clients expect.
const PROXY: &str = "proxy.example";

/// Certificates of the server and of Envoy, from two authorities.
pub(crate) struct Sides {
    pub(crate) server: Certificates,
    pub(crate) proxy: Certificates,
}

impl Sides {
    pub(crate) fn new() -> Self {
        Self { server: Certificates::valid(), proxy: Certificates::new(PROXY, 2090) }
    }

    /// `envoy/tls-bridge.yaml` with these certificates.
    fn options(&self, database: &Database) -> EnvoyOptions {
        let file = |of: &Certificates, name: &str| json!({"filename": of.directory().join(name)});
        let authority = file(&self.server, "ca.pem");
        let certificate = json!({
            "certificate_chain": file(&self.proxy, "cert.pem"), "private_key": file(&self.proxy, "key.pem"),
        });
        let options = EnvoyOptions::new("envoy/tls-bridge.yaml").upstream("mysql", database.addr());
        options.edit(|bootstrap| {
            let resources = &mut bootstrap["static_resources"];
            let socket = &mut resources["listeners"][1]["filter_chains"][0]["transport_socket"];
            socket["typed_config"]["common_tls_context"]["tls_certificates"][0] = certificate;
            let socket = &mut resources["clusters"][1]["transport_socket"]["typed_config"];
            socket["tls_socket_config"]["common_tls_context"]["validation_context"]["trusted_ca"] = authority;
        })
    }

    /// What the clients expect of Envoy.
    pub(crate) fn client(&self) -> Tls {
        Tls::new(&self.proxy.directory().join("ca.pem"), PROXY)
    }
}

/// Results of TLS on one side.
pub(crate) fn results(envoy: &Envoy, side: &str) -> Vec<(String, u64)> {
    let metrics = envoy.stable(QUIET);
    let results = ["clear_password", "client_tls", "established", "failed", "not_offered", "not_requested", "refused"];
    let count = |result| sum(&metrics, "tls_sessions_total", &[("side", side), ("result", result)]);
    results
        .iter()
        .map(|result| ((*result).to_owned(), count(result)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

pub(crate) fn result(name: &str, count: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), count)]
}

pub(crate) fn log_in(envoy: &Envoy, login: &Login, tls: &Tls, hello: Hello) -> Result<Client, u16> {
    Client::connect(address(envoy)).log_in_with_tls(login, tls, hello)
}

/// Logs in, and asserts that the server uses TLS 1.3. Returns the error number of a refusal.
fn use_tls(envoy: &Envoy, login: &Login, tls: &Tls) -> Option<u16> {
    let mut client = match log_in(envoy, login, tls, Hello::Together) {
        Ok(client) => client,
        Err(errno) => return Some(errno),
    };
    assert!(client.has_tls());
    let response = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
    assert!(response.windows(4).any(|text| text == b"TLS_"), "{}", response.escape_ascii());
    client.quit();
    None
}

#[test]
fn a_session_between_a_client_and_a_server_with_tls_is_visible() {
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let tls = [cert.as_str(), &key, &required, "--plugin-load-add=auth_ed25519"];
    let database = MariaDb::start(&[&tls[..], &COUNTED].concat());
    for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {password} REQUIRE SSL"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    let envoy = Envoy::start(sides.options(&database));
    let (trust, before) = (sides.client(), (database.oracle(), database.status("Ssl_accepts")));
    for user in [USER, "ed", "native"] {
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(user, PASSWORD), &trust), None, "{user}");
    }
    assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user("ed", "wrong"), &trust), Some(1045));
    let mut changed = log_in(&envoy, &Login::new(CLASSIC), &trust, Hello::Together).expect("a login");
    changed
        .change_user(&Login::new(CLASSIC).user("ed", PASSWORD), "mysql_native_password")
        .expect("a change of account");
    changed.quit();

    let metrics = envoy.stable(QUIET);
    let server = database.oracle_when_alone().since(&before.0);
    assert_eq!(sums_by(&metrics, "opaque_total", "reason").len(), 0, "{}", envoy.log());
    assert_eq!(results(&envoy, "downstream"), result("established", 5));
    assert_eq!(results(&envoy, "upstream"), result("established", 5));
    assert_eq!(database.status("Ssl_accepts") - before.1, 5);
    assert_eq!(sum(&metrics, "connections_total", &[]), 5, "each connection is counted once");
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
    // The SSLRequests are no part of the visible conversation.
    assert_eq!(sum(&metrics, "bytes_total", &[("sender", "client")]) + 5 * 36, server.bytes_received);
    assert_eq!(sum(&metrics, "bytes_total", &[("sender", "server")]), server.bytes_sent);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "query")]), 3);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 1);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "quit")]), 4);
}

/// The client does not wait between its SSLRequest and its ClientHello, and any cut of them is possible.
#[test]
fn no_login_is_lost() {
    const LOGINS: usize = 340;
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key, &required]);
    let envoy = Envoy::start(sides.options(&database).concurrency(2));
    let trust = sides.client();
    let hellos = [Hello::Together, Hello::Apart(Duration::ZERO), Hello::Apart(Duration::from_millis(5))];
    std::thread::scope(|scope| {
        for hello in hellos.into_iter().cycle().take(6) {
            let (envoy, trust) = (&envoy, &trust);
            scope.spawn(move || {
                for _ in 0..LOGINS {
                    log_in(envoy, &Login::new(CLASSIC), trust, hello).expect("a login").quit();
                }
            });
        }
        // Every cut of the SSLRequest, and some of the ClientHello.
        scope.spawn(|| {
            for cut in (0..=40).chain([60, 100, 200]) {
                log_in(&envoy, &Login::new(CLASSIC), &trust, Hello::Cut(cut)).expect("a login").quit();
            }
        });
    });
    let logins = 6 * LOGINS as u64 + 44;
    for side in ["downstream", "upstream"] {
        assert_eq!(results(&envoy, side), result("established", logins), "{side}: {}", envoy.log());
    }
}

#[test]
fn a_client_without_tls_is_refused() {
    let sides = Sides::new();
    let [cert, key, _] = sides.server.options();
    // The server would accept it.
    let database = MariaDb::start(&[&cert, &key]);
    let envoy = Envoy::start(sides.options(&database));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC)).expect("a greeting");
    client.write(&payload);
    let error = client.packet();
    assert!(error.starts_with(b"\xff\x57\x0c#HY000Connect with TLS"), "{}", error.escape_ascii());
    assert!(client.closes());
    assert_eq!(results(&envoy, "downstream"), result("not_requested", 1));
    envoy.wait_log("event=client_tls result=not_requested");
}

/// What a third party inserts between the client's SSLRequest and its TLS (CVE-2011-0411 in other protocols).
#[test]
fn bytes_before_tls_are_no_commands() {
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key, &required]);
    let envoy = Envoy::start(sides.options(&database));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC | SSL)).expect("a greeting");
    let command = packet(0, b"\x03CREATE DATABASE injected");
    client.send(&[packet(1, &payload[..32]), command.clone()].concat());
    assert!(client.closes(), "this is no TLS");
    let mut early = Client::connect(address(&envoy));
    early.packet();
    early.send(&command);
    assert!(early.closes());
    assert_eq!(database.sql("SHOW DATABASES LIKE 'injected'").len(), 0);
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "commands_total", &[]), 0);
    let counts = [("failed".to_owned(), 1), ("refused".to_owned(), 1)];
    assert_eq!(results(&envoy, "downstream"), counts, "{}", envoy.log());
    assert_eq!(results(&envoy, "upstream"), []);
}

#[test]
fn a_certificate_that_is_not_valid_ends_the_connection() {
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key, &required]);
    // A client that does not trust Envoy.
    let envoy = Envoy::start(sides.options(&database));
    let other = Tls::new(&Certificates::new(PROXY, 2090).directory().join("ca.pem"), PROXY);
    for trust in [other, Tls::new(&sides.proxy.directory().join("ca.pem"), NAME)] {
        let mut client = Client::connect(address(&envoy));
        let payload = client.response(&Login::new(CLASSIC | SSL)).expect("a greeting");
        client.start_tls(&payload[..32], &trust, Hello::Together);
        assert_eq!(client.try_send(&packet(2, &payload)), None, "the client does not trust this certificate");
    }
    assert_eq!(results(&envoy, "downstream"), result("failed", 2), "{}", envoy.log());
    envoy.wait_log("event=client_tls result=failed");
    // An Envoy that does not trust the server.
    let untrusted = Sides { server: Certificates::valid(), proxy: Certificates::new(PROXY, 2090) };
    let envoy = Envoy::start(untrusted.options(&database));
    let mut client = Client::connect(address(&envoy));
    let payload = client.response(&Login::new(CLASSIC | SSL)).expect("a greeting");
    client.start_tls(&payload[..32], &untrusted.client(), Hello::Together);
    client.write(&payload);
    assert_eq!(client.next_packet(), None, "no error can precede the end");
    assert_eq!(results(&envoy, "upstream"), result("failed", 1), "{}", envoy.log());
    database.wait_until_alone(Duration::from_secs(20));
}

/// A server that offers no TLS, perhaps because a third party has removed the offer.
#[test]
fn nothing_is_sent_without_tls() {
    let sides = Sides::new();
    let database = MariaDb::start(&["--skip-ssl"]);
    let envoy = Envoy::start(sides.options(&database));
    let refused = log_in(&envoy, &Login::new(CLASSIC), &sides.client(), Hello::Together).err();
    assert_eq!(refused, Some(1043), "the client gets the error in TLS");
    assert_eq!(results(&envoy, "upstream"), result("not_offered", 1));
}

/// The client's address, which the second listener has from the first.
#[test]
fn the_addresses_of_the_client_are_restored() {
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key, &required, "--proxy-protocol-networks=*"]);
    let rules = json!({"rules": [{
        "match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql",
        "tls": {"downstream": "terminate", "upstream": "originate"},
        "proxy_protocol": {"send": {"mode": "with_first_client_bytes"}},
    }]});
    let envoy = Envoy::start(sides.options(&database).configuration(rules));
    let client = Client::connect_from(Some("127.0.0.9".parse().unwrap()), address(&envoy));
    let port = client.local_addr().port();
    let mut client =
        client.log_in_with_tls(&Login::new(CLASSIC), &sides.client(), Hello::Together).expect("a login");
    let seen = client.query("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()");
    let expected = format!("127.0.0.9:{port}");
    let seen = seen.0.concat();
    assert!(seen.windows(expected.len()).any(|text| text == expected.as_bytes()), "{}", seen.escape_ascii());
    client.quit();
}

/// Adds Envoy's RBAC filter, which allows the account `app` only, and an access log to the listener that ends TLS.
fn judge_accounts(bootstrap: &mut Value, log: &Path) {
    let listener = &mut bootstrap["static_resources"]["listeners"][1];
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
    let state = |matches: Value| json!({"filter_state": {"key": "firstword.user", "string_match": matches}});
    let any = json!({"safe_regex": {"regex": ".*"}});
    let principal = json!({"or_ids": {"ids": [{"not_id": state(any)}, state(json!({"exact": "app"}))]}});
    let rbac = json!({
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "stat_prefix": "mysql_users.",
            "enforcement_type": "CONTINUOUS",
            "rules": {"action": "ALLOW", "policies": {
                "users": {"permissions": [{"any": true}], "principals": [principal]},
            }},
        },
    });
    filters[1]["typed_config"]["access_log"] = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log,
            "log_format": {"text_format_source": {"inline_string":
                "%FILTER_STATE(firstword.user:PLAIN)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_TLS_VERSION% \
                 %UPSTREAM_TLS_VERSION% %FILTER_STATE(firstword.commands:PLAIN)%\n"}},
        },
    }]);
    filters.insert(1, rbac);
}

#[test]
fn accounts_are_judged_and_logged() {
    let sides = Sides::new();
    let [cert, key, required] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key, &required, "--general-log=ON", "--log-output=TABLE"]);
    database.sql(&format!("CREATE USER admin@'%' IDENTIFIED BY '{PASSWORD}'"));
    let directory = temp_dir();
    let log = directory.path().join("access.log");
    let rules = json!({
        "rules": [{
            "match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql",
            "tls": {"downstream": "terminate", "upstream": "originate"},
        }],
        "access_log": ["user", "commands"],
    });
    let options = sides.options(&database).configuration(rules);
    let envoy = Envoy::start(options.edit(|bootstrap| judge_accounts(bootstrap, &log)));
    let trust = sides.client();
    let mut allowed = log_in(&envoy, &Login::new(CLASSIC), &trust, Hello::Together).expect("a login");
    allowed.query("SELECT 1");
    // A change to an account that is not allowed ends the connection.
    allowed.command(b"\x11admin\0\0demo\0\x2d\0mysql_native_password\0");
    assert_eq!(allowed.next_packet(), None);
    let mut denied = Client::connect(address(&envoy));
    let login = Login::new(CLASSIC | SSL).user("admin", PASSWORD);
    let payload = denied.response(&login).expect("a greeting");
    denied.start_tls(&payload[..32], &trust, Hello::Together);
    denied.write(&payload);
    assert_eq!(denied.next_packet(), None);

    let refused: u64 = envoy.stats(r"^mysql_users\.rbac\.denied$").values().sum();
    assert_eq!(refused, 2);
    let logins = database
        .sql("SELECT argument FROM mysql.general_log WHERE command_type IN ('Connect', 'Change user')");
    let of_admin = logins.iter().filter(|row| row[0].starts_with("admin@")).count();
    assert_eq!(of_admin, 0, "the server has seen no login of it: {logins:?}");
    let lines = wait_for("lines of the access log", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().count() == 2).then_some(text)
    });
    let (changed, refused) = lines.split_once('\n').expect("two lines");
    assert_eq!(changed, "admin 127.0.0.1 TLSv1.3 TLSv1.3 2");
    // Its TLS to the server had not begun.
    assert!(refused.starts_with("admin 127.0.0.1 TLSv1.3 "), "{refused}");
}

/// A listener without the second one, and a second one without the first.
#[test]
fn both_listeners_are_needed() {
    let sides = Sides::new();
    let [cert, key, _] = sides.server.options();
    let database = MariaDb::start(&[&cert, &key]);
    let without_second = |bootstrap: &mut Value| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
        filters[1]["typed_config"]["cluster"] = json!("mysql");
    };
    let envoy = Envoy::start(sides.options(&database).edit(without_second));
    assert_eq!(Client::connect(address(&envoy)).next_packet(), None);
    assert_eq!(results(&envoy, "downstream"), result("failed", 1));

    let other_rules = |bootstrap: &mut Value| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
        let rules = json!({"rules": [{"match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql"}]});
        filters[0]["typed_config"]["filter_config"]["value"] = json!(rules.to_string());
    };
    let envoy = Envoy::start(sides.options(&database).edit(other_rules));
    assert_eq!(Client::connect(address(&envoy)).next_packet(), None);
    envoy.wait_log("event=client_tls result=failed");
}

mod needs_mysqld {
    use super::*;
    use firstword_testing::mysqld::{MySql, SHA256_USER};

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_session_between_a_client_and_a_mysql_server_with_tls_is_visible() {
        let sides = Sides::new();
        let [cert, key, required] = sides.server.options();
        let database = MySql::start(&[&cert, &key, &required]);
        let envoy = Envoy::start(sides.options(&database));
        let (login, trust) = (Login::new(CLASSIC), sides.client());
        // Without this the server knows the hash of the password, and does not ask for it.
        database.sql("FLUSH PRIVILEGES");
        for _ in 0..3 {
            assert_eq!(use_tls(&envoy, &login, &trust), None);
        }
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(SHA256_USER, PASSWORD), &trust), None);
        assert_eq!(use_tls(&envoy, &Login::new(CLASSIC).user(USER, "wrong"), &trust), Some(1045));
        for side in ["downstream", "upstream"] {
            assert_eq!(results(&envoy, side), result("established", 5));
        }
        let metrics = envoy.stable(QUIET);
        assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
        assert_eq!(sum(&metrics, "plaintext_full_auth_total", &[]), 0, "the password was in TLS");
        assert_eq!(sum(&metrics, "hazards_total", &[]), 0);
    }
}
