//! Clients with TLS and a server that requires TLS: the native module sees the session between them
//! (`envoy/tls-bridge.yaml`).

use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::{Certificates, NAME};
use crate::counts::{QUIET, address, sum};
use crate::judged_accounts::judge_accounts;
use crate::tls_modes::Mode::Bridge;
use crate::tls_modes::{PROXY, Sides, result, results};
use firstword_testing::client::{CLASSIC, Client, Hello, Login, SSL, Tls};
use firstword_testing::database::{Database, PASSWORD};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::packet;
use firstword_testing::{temp_dir, wait_for};

pub(crate) fn log_in(envoy: &Envoy, login: &Login, tls: &Tls, hello: Hello) -> Result<Client, u16> {
    Client::connect(address(envoy)).log_in_with_tls(login, tls, hello)
}

/// The client does not wait between its SSLRequest and its ClientHello, and any cut of them is possible.
#[test]
fn no_login_is_lost() {
    const LOGINS: usize = 340;
    let sides = Sides::new();
    let database = sides.mariadb(&[]);
    let envoy = Envoy::start(sides.options(Bridge, &database).concurrency(2));
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
    let envoy = Envoy::start(sides.options(Bridge, &database));
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
    let database = sides.mariadb(&[]);
    let envoy = Envoy::start(sides.options(Bridge, &database));
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
    let counts = [("failed".to_owned(), 1), ("refused".to_owned(), 1)].into();
    assert_eq!(results(&envoy, "downstream"), counts, "{}", envoy.log());
    assert_eq!(results(&envoy, "upstream").len(), 0);
}

#[test]
fn a_certificate_that_is_not_valid_ends_the_connection() {
    let sides = Sides::new();
    let database = sides.mariadb(&[]);
    // A client that does not trust Envoy.
    let envoy = Envoy::start(sides.options(Bridge, &database));
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
    let envoy = Envoy::start(untrusted.options(Bridge, &database));
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
    let envoy = Envoy::start(sides.options(Bridge, &database));
    let refused = log_in(&envoy, &Login::new(CLASSIC), &sides.client(), Hello::Together).err();
    assert_eq!(refused, Some(1043), "the client gets the error in TLS");
    assert_eq!(results(&envoy, "upstream"), result("not_offered", 1));
}

/// The client's address, which the second listener has from the first.
#[test]
fn the_addresses_of_the_client_are_restored() {
    let sides = Sides::new();
    let database = sides.mariadb(&["--proxy-protocol-networks=*"]);
    let rules = json!({"rules": [{
        "match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql",
        "tls": {"downstream": "terminate", "upstream": "originate"},
        "proxy_protocol": {"send": {"mode": "with_first_client_bytes"}},
    }]});
    let envoy = Envoy::start(sides.options(Bridge, &database).configuration(rules));
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

#[test]
fn accounts_are_judged_and_logged() {
    let sides = Sides::new();
    let database = sides.mariadb(&["--general-log=ON", "--log-output=TABLE"]);
    let tls = json!({"downstream": "terminate", "upstream": "originate"});
    judges_and_logs_accounts(&sides, &database, sides.options(Bridge, &database), &tls, "TLSv1.3");
}

/// Asserts that RBAC judges accounts, and that the access log has them. `upstream`: version of TLS to the server in the log.
pub(crate) fn judges_and_logs_accounts(
    sides: &Sides,
    database: &Database,
    options: EnvoyOptions,
    tls: &Value,
    upstream: &str,
) {
    database.sql(&format!("CREATE USER admin@'%' IDENTIFIED BY '{PASSWORD}'"));
    let directory = temp_dir();
    let log = directory.path().join("access.log");
    let rules = json!({
        "rules": [{"match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql", "tls": tls}],
        "access_log": ["user", "commands"],
    });
    let options = options.configuration(rules);
    let format = "%FILTER_STATE(firstword.user:PLAIN)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_TLS_VERSION% \
                  %UPSTREAM_TLS_VERSION% %FILTER_STATE(firstword.commands:PLAIN)%";
    let envoy = Envoy::start(options.edit(|bootstrap| {
        // The listener that ends TLS.
        judge_accounts(&mut bootstrap["static_resources"]["listeners"][1], &log, format);
    }));
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
    assert_eq!(changed, format!("admin 127.0.0.1 TLSv1.3 {upstream} 2"));
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
    let envoy = Envoy::start(sides.options(Bridge, &database).edit(without_second));
    assert_eq!(Client::connect(address(&envoy)).next_packet(), None);
    assert_eq!(results(&envoy, "downstream"), result("failed", 1));

    let other_rules = |bootstrap: &mut Value| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
        let rules = json!({"rules": [{"match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql"}]});
        filters[0]["typed_config"]["filter_config"]["value"] = json!(rules.to_string());
    };
    let envoy = Envoy::start(sides.options(Bridge, &database).edit(other_rules));
    assert_eq!(Client::connect(address(&envoy)).next_packet(), None);
    envoy.wait_log("event=client_tls result=failed");
}
