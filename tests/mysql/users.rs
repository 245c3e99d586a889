//! Accounts in filter state, for the filters after ours: Envoy's RBAC filter and its access log.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::counts::address;
use firstword_testing::client::{CLASSIC, COMPRESS, Client, DEPRECATE_EOF, Login, SESSION_TRACK, SSL};
use firstword_testing::database::{Database, PASSWORD, joined};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{GENERAL_LOG, MariaDb};
use firstword_testing::packets::packet;
use firstword_testing::shell::is_native;
use firstword_testing::{temp_dir, wait_for};

/// Accounts of the server in addition to `app`. `envoy/rbac-by-user.yaml` allows `app` and `report`.
const ACCOUNTS: [&str; 2] = ["report", "admin"];
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

fn database(options: &[&str]) -> MariaDb {
    let database = MariaDb::start(&[&GENERAL_LOG[..], options].concat());
    for account in ACCOUNTS {
        database.sql(&format!("CREATE USER {account}@'%' IDENTIFIED BY '{PASSWORD}'"));
        database.sql(&format!("GRANT ALL ON *.* TO {account}@'%'"));
    }
    database
}

fn rbac_options(database: &Database) -> EnvoyOptions {
    EnvoyOptions::new("envoy/rbac-by-user.yaml").upstream("mysql", database.addr())
}

fn start_with_rbac(database: &Database) -> Envoy {
    Envoy::start(rbac_options(database))
}

/// The filters of the listener.
fn filters(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
}

fn denied(envoy: &Envoy) -> u64 {
    envoy.stats(r"^mysql_users\.rbac\.denied$").values().sum()
}

/// Number of logins and changes of user to this account, as counted by the server.
fn accepted(database: &Database, account: &str) -> usize {
    let log = database
        .sql("SELECT argument FROM mysql.general_log WHERE command_type IN ('Connect', 'Change user')");
    log.iter().filter(|row| row[0].starts_with(&format!("{account}@"))).count()
}

fn login(account: &str) -> Login {
    Login::new(CLASSIC).user(account, PASSWORD)
}

/// Waits until Envoy has read this number of bytes from all clients.
fn wait_received(envoy: &Envoy, bytes: u64) {
    wait_for("bytes in Envoy", PATIENCE, || {
        let received: u64 = envoy.stats(r"^tcp\.mysql\.downstream_cx_rx_bytes_total$").values().sum();
        (received >= bytes).then_some(())
    });
}

#[test]
fn rbac_judges_a_login_cut_at_every_byte() {
    let database = database(&[]);
    let envoy = start_with_rbac(&database);
    let mut received: u64 = 0;
    for account in ["app", "admin"] {
        let mut cut = 1;
        loop {
            let login = login(account);
            let mut client = Client::connect(address(&envoy));
            let response = packet(1, &client.response(&login).expect("a greeting"));
            if cut >= response.len() {
                break;
            }
            let (begin, rest) = response.split_at(cut);
            client.send(begin);
            received += begin.len() as u64;
            // Otherwise, both pieces could arrive together.
            wait_received(&envoy, received);
            client.send(rest);
            if account == "app" {
                client.sequence_id = 2;
                let response = client.authenticate("mysql_native_password", PASSWORD);
                assert_eq!(response.errno(), None, "{account} cut at {cut}");
                client.quit();
                received += rest.len() as u64 + 5;
            } else {
                assert_eq!(client.next_packet(), None, "{account} cut at {cut}");
            }
            cut += 1;
        }
        let expected = if account == "app" { 0 } else { cut as u64 - 1 };
        assert_eq!(denied(&envoy), expected, "{account}");
        assert!(cut > 100, "{account}: {cut}");
    }
    assert_eq!(accepted(&database, "admin"), 0, "the server has seen no login of it");
    assert!(accepted(&database, "app") > 100);
}

#[test]
fn rbac_judges_a_change_of_user() {
    let database = database(&[]);
    let envoy = start_with_rbac(&database);
    let mut client = Client::login(address(&envoy), &login("app"));
    client.change_user(&login("report"), "mysql_native_password").expect("another user");
    let user = client.query("SELECT CURRENT_USER()").expect("a row");
    assert!(user.0.iter().any(|packet| packet.ends_with(b"report@%")));
    assert_eq!(denied(&envoy), 0);
    client.command(b"\x11admin\0\0demo\0\x2d\0mysql_native_password\0");
    assert_eq!(client.next_packet(), None, "closed");
    assert_eq!((denied(&envoy), accepted(&database, "admin"), accepted(&database, "report")), (1, 0, 1));

    // With a single decision, a client can change to any account.
    let once = Envoy::start(rbac_options(&database).edit(|bootstrap| {
        let rbac = &mut filters(bootstrap)[1]["typed_config"];
        assert_eq!(rbac["enforcement_type"], "CONTINUOUS");
        rbac["enforcement_type"] = "ONE_TIME_ON_FIRST_BYTE".into();
    }));
    let mut client = Client::login(address(&once), &login("app"));
    client.change_user(&login("admin"), "mysql_native_password").expect("another user");
    client.quit();
    assert_eq!((denied(&once), accepted(&database, "admin")), (0, 1));
}

#[test]
fn a_connection_with_tls_or_compression_is_denied() {
    let certificate = temp_dir();
    let (cert, key) = (certificate.path().join("cert.pem"), certificate.path().join("key.pem"));
    self_signed(&cert, &key);
    let options =
        [joined("--ssl-cert=", &cert), joined("--ssl-key=", &key)].map(|o| o.into_string().unwrap());
    let database = database(&[&options[0], &options[1]]);
    let envoy = start_with_rbac(&database);
    let tls = |address: SocketAddr| {
        let output = Command::new("openssl")
            .args(["s_client", "-starttls", "mysql", "-connect", &address.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("openssl in PATH; run: apt-get install openssl");
        String::from_utf8_lossy(&output.stdout).contains("BEGIN CERTIFICATE")
    };
    assert!(tls(database.addr()), "the server speaks TLS");
    assert!(!tls(address(&envoy)), "no client gets through with TLS");
    assert_eq!(denied(&envoy), 1);

    // OpenSSL also accepts a ClientHello in the framing of SSL 2, after an SSLRequest that names an allowed account.
    let mut framed = Client::connect(address(&envoy));
    let login_with_tls = Login { capabilities: CLASSIC | SSL, ..login("app") };
    let response = framed.response(&login_with_tls).expect("a greeting");
    framed.send(&[packet(1, &response), b"\x80\x2e\x01\x03\x03".to_vec()].concat());
    assert_eq!(framed.next_packet(), None);
    assert_eq!(denied(&envoy), 2);

    let mut compressed =
        Client::login(address(&envoy), &Login { capabilities: CLASSIC | COMPRESS, ..login("app") });
    compressed.send(&[5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x0e]);
    assert_eq!(compressed.next_packet(), None, "the login is allowed, but no compressed bytes after it");
    assert_eq!(denied(&envoy), 3);
    Client::login(address(&envoy), &login("app")).quit();
    assert_eq!(denied(&envoy), 3);
}

/// Some servers accept a PROXY header after their greeting, and the login that follows it.
#[test]
fn an_account_after_a_proxy_header_is_denied() {
    let database = database(&["--proxy-protocol-networks=*"]);
    let hidden = |address: SocketAddr| {
        let mut client = Client::connect(address);
        let response = packet(1, &client.response(&login("admin")).expect("a greeting"));
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 3306\r\n";
        let query = packet(0, b"\x03CREATE DATABASE hidden");
        client.send(&[&header[..], &response, &query].concat());
        client.next_packet()
    };
    assert_eq!(hidden(database.addr()).expect("an OK")[0], 0, "the server accepts it");
    wait_for("the database", PATIENCE, || database.sql("SHOW DATABASES LIKE 'hidden'").pop());
    database.sql("DROP DATABASE hidden");
    let envoy = start_with_rbac(&database);
    assert_eq!(hidden(address(&envoy)), None);
    assert_eq!((denied(&envoy), accepted(&database, "admin")), (1, 1));
    assert_eq!(database.sql("SHOW DATABASES LIKE 'hidden'").len(), 0);
}

/// Creates a denied account without a password, and a table that records each account that runs [`INSERT`].
fn create_witness(database: &Database) {
    database.sql("CREATE USER evil@'%'");
    database.sql("GRANT ALL ON *.* TO evil@'%'");
    database.sql("CREATE TABLE demo.witness (account VARCHAR(80))");
}

const INSERT: &[u8] = b"\x03INSERT INTO demo.witness VALUES (CURRENT_USER())";

fn change_to(account: &str) -> Vec<u8> {
    packet(0, &[b"\x11", account.as_bytes(), b"\0\0demo\0\x2d\0mysql_native_password\0"].concat())
}

/// RBAC decides once per callback. An account that is not the last one in a callback must not avoid the decision.
fn assert_each_account_in_a_callback_is_judged(database: &Database) {
    create_witness(database);
    let secrets: [&[u8]; 3] = [&[], &packet(2, b""), &packet(2, b"\0")];
    let mut denials = 0;
    for inspect in ["full", "requests"] {
        let envoy = Envoy::start(rbac_options(database).edit(|bootstrap| {
            let configuration =
                &mut filters(bootstrap)[0]["typed_config"]["config"]["configuration"]["value"];
            let text = configuration.as_str().expect("a configuration").replace(
                r#""protocol": "mysql""#,
                &format!(r#""protocol": "mysql", "mysql": {{"inspect": "{inspect}"}}"#),
            );
            *configuration = text.into();
        }));
        let mut denied_here = 0;
        for secret in secrets {
            let evil = [change_to("evil"), secret.to_vec(), packet(0, INSERT)].concat();
            // Between two allowed accounts.
            let mut client = Client::login(address(&envoy), &login("app"));
            client.send(&[evil.clone(), change_to("app")].concat());
            assert!(client.closes(), "{inspect}");
            // After the login.
            let mut client = Client::connect(address(&envoy));
            let response = packet(1, &client.response(&login("app")).expect("a greeting"));
            client.send(&[response, evil].concat());
            assert!(client.closes(), "{inspect}");
            denied_here += 2;
        }
        assert_eq!(denied(&envoy), denied_here, "{inspect}");
        denials += denied_here;
    }
    assert_eq!(denials, 12);
    assert_eq!(
        database.sql("SELECT COUNT(*) FROM demo.witness")[0][0],
        "0",
        "no statement ran as the denied account"
    );
}

#[test]
fn each_account_in_a_callback_to_mariadb_is_judged() {
    assert_each_account_in_a_callback_is_judged(&database(&[]));
}

mod needs_mysqld {
    use super::*;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn each_account_in_a_callback_to_mysql_is_judged() {
        use firstword_testing::mysqld::{MySql, NO_TLS};
        assert_each_account_in_a_callback_is_judged(&MySql::start(&[NO_TLS]));
    }
}

fn self_signed(cert: &Path, key: &Path) {
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(' ');
    let output = Command::new("openssl").args(request).arg("-keyout").arg(key).arg("-out").arg(cert).output();
    let output = output.expect("openssl in PATH; run: apt-get install openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Lines of the access log with this type.
fn logged(envoy: &Envoy, kind: &str) -> Vec<Value> {
    let stdout = envoy.stdout();
    let lines = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["type"] == kind).collect()
}

fn fields(line: &Value) -> [String; 6] {
    ["user", "schema", "commands", "errors", "last_errno", "opaque_reason"].map(|key| match &line[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[test]
fn the_access_log_shows_open_and_closed_connections() {
    let database = database(&[]);
    database.sql("CREATE DATABASE stock");
    let options = EnvoyOptions::new("envoy/access-log.yaml").upstream("mysql", database.addr());
    let envoy = Envoy::start(options.edit(|bootstrap| {
        let proxy = &mut filters(bootstrap)[1]["typed_config"];
        assert_eq!(proxy["access_log_options"]["access_log_flush_interval"], "60s");
        proxy["access_log_options"]["access_log_flush_interval"] = "0.1s".into();
    }));
    let capabilities = CLASSIC | DEPRECATE_EOF | SESSION_TRACK;
    let mut client = Client::login(
        address(&envoy),
        &Login { capabilities, ..login("app") }.attribute("_client_version", "1.2"),
    );
    client.query("SELECT 1").expect("a row");
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    let wait_for_open = |expected: [&str; 6]| {
        wait_for("line of the access log", PATIENCE, || {
            let lines = logged(&envoy, "TcpPeriodic");
            lines.last().is_some_and(|line| fields(line) == expected).then_some(())
        });
    };
    wait_for_open(["app", "demo", "2", "1", "1146", "-"]);
    client.query("USE stock").expect("OK");
    wait_for_open(["app", "stock", "3", "1", "1146", "-"]);
    client.change_user(&login("report").database("demo"), "mysql_native_password").expect("another user");
    wait_for_open(["report", "demo", "4", "1", "1146", "-"]);
    client.query("SELECT FROM").expect_errno(1064);
    client.quit();
    let end = wait_for("line of the access log", PATIENCE, || logged(&envoy, "TcpConnectionEnd").pop());
    assert_eq!(fields(&end), ["report", "demo", "6", "2", "1064", "-"]);
    assert_eq!((&end["protocol"], &end["client"]), (&"mysql".into(), &"firstword/1.2".into()), "{end}");
    let version = database.sql("SELECT VERSION()")[0][0].clone();
    // MariaDB before 11.0 adds a prefix to the version in its greeting.
    let greeted = end["server_version"].as_str().unwrap();
    assert_eq!(greeted.strip_prefix("5.5.5-").unwrap_or(greeted), version);
    let thread: u64 = end["thread_id"].as_str().unwrap().parse().unwrap();
    assert!(thread > 0);
    let text = envoy.stdout() + &envoy.log();
    assert!(!text.contains("nosuch") && !text.contains("SELECT"), "{text}");
}

/// Envoy's expressions can compare the state with text, because the wasm module declares it as text. That of the native module
/// is bytes.
#[test]
fn the_access_log_can_be_limited_to_one_user() {
    let database = database(&[]);
    let user = if is_native() { "b'report'" } else { "'report'" };
    let options = EnvoyOptions::new("envoy/access-log.yaml").upstream("mysql", database.addr());
    let envoy = Envoy::start(options.edit(|bootstrap| {
        filters(bootstrap)[1]["typed_config"]["access_log"][0]["filter"]["extension_filter"] = json!({
            "name": "cel",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": format!("filter_state['wasm.firstword.user'] == {user}"),
            },
        });
    }));
    for account in ["app", "report", "admin", "report"] {
        Client::login(address(&envoy), &login(account)).quit();
    }
    let lines = wait_for("lines of the access log", PATIENCE, || {
        let lines = logged(&envoy, "TcpConnectionEnd");
        (lines.len() >= 2).then_some(lines)
    });
    assert_eq!(lines.iter().map(|line| line["user"].clone()).collect::<Vec<_>>(), ["report", "report"]);
}
