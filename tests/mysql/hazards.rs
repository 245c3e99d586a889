//! Hazards, provoked with real servers, clients and health checks. Each is counted once, only as its own kind, and logged
//! once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use firstword::event::HazardKind;
use serde_json::json;

use crate::counts::{QUIET, address, on_both_servers, options, start_envoy, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::{Database, PASSWORD, RESOLVE};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::{MySql, NO_TLS, SHA256_USER};
use firstword_testing::packets::packet;
use firstword_testing::prometheus::Metrics;
use firstword_testing::proxies::Proxy;
use firstword_testing::wait_for;

on_both_servers! {
    ordinary_sessions_are_no_hazard an_idle_session_closed_by_the_server_is_a_hazard
    an_idle_session_closed_by_envoy_is_a_hazard too_many_connections_are_a_hazard
    a_host_without_an_account_is_a_hazard packets_over_the_maximum_are_a_hazard
    health_checks_without_a_login_are_a_hazard a_password_in_clear_text_is_a_hazard
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Asserts that exactly these hazards were counted, and that one line was logged for each kind.
fn assert_hazards(envoy: &Envoy, expected: &[(&str, u64)]) -> Metrics {
    let metrics = envoy.stable(QUIET);
    let log = envoy.log();
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    assert_eq!(sums_by(&metrics, "hazards_total", "kind"), expected, "{log}");
    let series = metrics.select("firstword_hazards_total", &[("destination", "mysql")]).count();
    assert_eq!(series, HazardKind::ALL.len());
    let lines = log.lines().filter_map(|line| line.split_once("event=hazard kind=")).map(|(_, rest)| rest);
    let mut logged: Vec<_> = lines.filter_map(|line| line.split_once(' ')).map(|(kind, _)| kind).collect();
    logged.sort_unstable();
    assert_eq!(logged, expected.keys().collect::<Vec<_>>(), "{log}");
    metrics
}

/// Logs in without the filter, because MySQL caches a hash of the password after the first login.
fn cache_password(database: &Database) {
    Client::login(database.addr(), &Login::new(CLASSIC)).quit();
}

fn client(envoy: &Envoy) -> Client {
    Client::login(address(envoy), &Login::new(CLASSIC))
}

fn ordinary_sessions_are_no_hazard(database: &Database) {
    cache_password(database);
    let envoy = start_envoy(database);
    let mut client = client(&envoy);
    client.query("SELECT 1").expect("a row");
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    let statement = client.prepare("SELECT ?").statement_id();
    client.execute(statement, 0, &["x"]).expect("a row");
    client.quit();
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC).user("nobody", "")).err();
    assert_eq!(refused, Some(1045));
    assert_hazards(&envoy, &[]);
}

fn an_idle_session_closed_by_the_server_is_a_hazard(database: &Database) {
    cache_password(database);
    database.sql("SET GLOBAL wait_timeout = 2");
    let envoy = start_envoy(database);
    let mut idle = client(&envoy);
    // MySQL sends an error (4031), MariaDB only closes.
    while idle.next_packet().is_some() {}
    drop(idle);
    let metrics = assert_hazards(&envoy, &[("idle_closed_by_server", 1)]);
    let notices = if database.is_mysql() { 1 } else { 0 };
    assert_eq!(sum(&metrics, "server_notices_total", &[("errno", "4031")]), notices);
}

fn an_idle_session_closed_by_envoy_is_a_hazard(database: &Database) {
    cache_password(database);
    let envoy = Envoy::start(options(database).edit(|bootstrap| {
        let chain = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0];
        chain["filters"][1]["typed_config"]["idle_timeout"] = json!("2s");
    }));
    let mut idle = client(&envoy);
    idle.query("SELECT 1").expect("a row");
    assert!(idle.next_packet().is_none());
    let metrics = assert_hazards(&envoy, &[("idle_closed_by_proxy", 1)]);
    assert_eq!(sum(&metrics, "connections_closed_total", &[("closed_by", "proxy"), ("phase", "command")]), 1);
    assert!(envoy.log().contains(" idle_s="), "{}", envoy.log());
}

/// The server reserves its last connection for administrators. It refuses other clients of that one after the handshake.
fn too_many_connections_are_a_hazard(database: &Database) {
    database.sql("CREATE USER plain@'%' IDENTIFIED BY 'app'");
    let plain = Login::new(CLASSIC).user("plain", PASSWORD).database("");
    Client::login(database.addr(), &plain).quit();
    database.sql("SET GLOBAL max_connections = 10");
    let envoy = start_envoy(database);
    let mut held = Vec::new();
    let refused = loop {
        match Client::connect(address(&envoy)).log_in(&plain) {
            Ok(client) => held.push(client),
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, 1040);
    let metrics = assert_hazards(&envoy, &[("too_many_connections", 1)]);
    let errors = ["pre_handshake_errors_total", "handshake_errors_total"]
        .map(|name| sum(&metrics, name, &[("errno", "1040")]));
    assert_eq!(errors.iter().sum::<u64>(), 1, "{errors:?}");
}

fn a_host_without_an_account_is_a_hazard(database: &Database) {
    // Number the hosts, because two accounts can have the same user name.
    for (number, user) in
        (1..).zip(database.sql("SELECT user, host FROM mysql.user WHERE host IN ('%', '127.0.0.1')"))
    {
        database.sql(&format!("RENAME USER '{0}'@'{1}' TO '{0}'@'192.0.2.{number}'", user[0], user[1]));
    }
    database.sql("FLUSH PRIVILEGES");
    let envoy = start_envoy(database);
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)).err();
    assert_eq!(refused, Some(1130));
    assert_hazards(&envoy, &[("host_not_allowed", 1)]);
}

fn packets_over_the_maximum_are_a_hazard(database: &Database) {
    cache_password(database);
    let envoy = start_envoy(database);
    client(&envoy).query("CREATE TABLE demo.large (a LONGTEXT)").expect("a table");
    database.sql("SET GLOBAL max_allowed_packet = 65536");
    let mut sender = client(&envoy);
    let statement = sender.query_payload(&format!("SELECT '{}'", "x".repeat(70_000)));
    // Send only the beginning, because the server decides by the header, and may reset if more bytes arrive.
    sender.send(&packet(0, &statement)[..4096]);
    sender.closes();
    drop(sender);
    assert_hazards(&envoy, &[("packet_too_large", 1)]);
    // The result of a function is an error only if it is stored.
    let mut receiver = client(&envoy);
    receiver.query("SELECT REPEAT('x', 70000)").expect("a warning");
    receiver.query("INSERT INTO demo.large SELECT REPEAT('x', 70000)").expect_errno(1301);
    receiver.quit();
    assert_hazards(&envoy, &[("packet_too_large", 2)]);
}

/// HAProxy's `mysql-check` without a user reads the greeting and leaves.
fn health_checks_without_a_login_are_a_hazard(database: &Database) {
    let envoy = start_envoy(database);
    let before = database.status("Aborted_connects");
    let proxy = Proxy::haproxy(&format!(
        "listen mysql\n  bind 127.0.0.1:<mysql>\n  option mysql-check\n  server envoy {} check inter 100ms\n",
        address(&envoy)
    ));
    wait_for("three probes", PATIENCE, || {
        let probes = envoy.metric("firstword_hazards_total", &[("kind", "unanswered_greeting")]);
        (probes >= Some(3.0)).then_some(())
    });
    drop(proxy);
    let metrics = envoy.stable(QUIET);
    let probes = sum(&metrics, "hazards_total", &[("kind", "unanswered_greeting")]);
    assert_eq!(sum(&metrics, "hazards_total", &[]), probes);
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "aborted")]), probes);
    // The server's count is the same.
    wait_for("the server's count", PATIENCE, || {
        (database.status("Aborted_connects") - before == probes).then_some(())
    });
    let log = envoy.log();
    for count in [1, 10, 100] {
        let logged = log.matches(&format!(" count={count} ")).count();
        assert_eq!(logged, usize::from(probes >= count), "{log}");
    }
}

/// Runs health checks until the server blocks the host, and with it a correct client.
fn assert_host_blocked(database: &Database) {
    const MAX_ERRORS: u64 = 3;
    database.sql(&format!("SET GLOBAL max_connect_errors = {MAX_ERRORS}"));
    // Connect from 127.0.0.2, because MariaDB and MySQL never block 127.0.0.1.
    let envoy = Envoy::start(options(database).edit(|bootstrap| {
        let address = json!({"source_address": {"address": "127.0.0.2", "port_value": 0}});
        bootstrap["static_resources"]["clusters"][0]["upstream_bind_config"] = address;
    }));
    let before = database.status("Aborted_connects");
    for probe in 1..=MAX_ERRORS {
        assert_eq!(Client::connect(address(&envoy)).packet()[0], 10);
        wait_for("the server's count", PATIENCE, || {
            (database.status("Aborted_connects") - before == probe).then_some(())
        });
    }
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)).err();
    assert_eq!(refused, Some(1129));
    assert_hazards(&envoy, &[("unanswered_greeting", MAX_ERRORS), ("host_blocked", 1)]);
}

#[test]
fn a_host_blocked_by_mariadb_is_a_hazard() {
    assert_host_blocked(&MariaDb::start(&[RESOLVE]));
}

mod needs_mysqld {
    use super::*;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_host_blocked_by_mysql_is_a_hazard() {
        assert_host_blocked(&MySql::start(&[NO_TLS, RESOLVE]));
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn full_authentication_without_tls_is_a_hazard() {
        let database = MySql::start(&[NO_TLS]);
        let envoy = start_envoy(&database);
        for _ in 0..3 {
            Client::login(address(&envoy), &Login::new(CLASSIC)).quit();
        }
        let metrics = assert_hazards(&envoy, &[("full_auth_without_tls", 1)]);
        assert_eq!(sum(&metrics, "plaintext_full_auth_total", &[]), 1);
        for _ in 0..3 {
            Client::login(address(&envoy), &Login::new(CLASSIC).user(SHA256_USER, PASSWORD)).quit();
        }
        assert_hazards(&envoy, &[("full_auth_without_tls", 4)]);
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_login_without_required_tls_is_a_hazard() {
        let database = MySql::start(&[]);
        cache_password(&database);
        // The server sends this error only if it has cached the password.
        database.sql("SET GLOBAL require_secure_transport = ON");
        let envoy = start_envoy(&database);
        assert_eq!(Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)).err(), Some(3159));
        let metrics = assert_hazards(&envoy, &[("tls_required", 1)]);
        assert_eq!(sum(&metrics, "handshake_errors_total", &[("errno", "3159")]), 1);
    }
}

/// Runs MariaDB's command-line client, which has the plugins of libmariadb. Returns whether it logged in.
fn cli(address: SocketAddr, user: &str, arguments: &[&str]) -> bool {
    let output = Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--skip-ssl", "-h127.0.0.1", "-p secret", "-eSELECT 1"])
        .args([format!("-P{}", address.port()), format!("-u{user}")])
        .args(arguments)
        .output()
        .expect("the client of MariaDB");
    output.status.success()
}

/// A client can send the password in clear text before the server requests a plugin.
fn a_password_in_clear_text_is_a_hazard(database: &Database) {
    database.sql("CREATE USER offers@'%' IDENTIFIED BY ' secret'");
    Client::login(database.addr(), &Login::new(CLASSIC).user("offers", " secret").database("")).quit();
    let envoy = start_envoy(database);
    assert!(cli(address(&envoy), "offers", &[]));
    assert_hazards(&envoy, &[]);
    assert!(cli(address(&envoy), "offers", &["--default-auth=mysql_clear_password"]));
    assert_hazards(&envoy, &[("clear_password", 1)]);
}

/// MariaDB's PAM plugin requests either of two client plugins. It does so before it looks for the user.
#[test]
fn a_password_in_clear_text_for_pam_is_a_hazard() {
    for (option, plugin) in
        [("--pam-use-cleartext-plugin=1", "mysql_clear_password"), ("--pam-use-cleartext-plugin=0", "dialog")]
    {
        let database = MariaDb::start(&["--plugin-load-add=auth_pam_v1", option]);
        database.sql("CREATE USER pam@'%' IDENTIFIED VIA pam USING 'other'");
        let envoy = start_envoy(&database);
        assert!(!cli(address(&envoy), "pam", &[]));
        let metrics = assert_hazards(&envoy, &[("clear_password", 1)]);
        assert_eq!(sum(&metrics, "auth_switches_total", &[("plugin", plugin)]), 1);
    }
}

#[test]
fn a_login_with_mysql_old_password_is_a_hazard() {
    let database = MariaDb::start(&["--secure-auth=0", "--old-passwords=1"]);
    database.sql("CREATE USER old@'%' IDENTIFIED VIA mysql_old_password USING '6f8c114b58f2ce9e'");
    let envoy = start_envoy(&database);
    let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC).user("old", PASSWORD)).err();
    assert_eq!(refused, Some(1045));
    assert_hazards(&envoy, &[("old_password", 1)]);
}
