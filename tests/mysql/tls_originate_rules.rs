//! What else a rule does on connections whose TLS to the server the native module starts: accounts, PROXY headers, held and
//! blocked packets.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::counts::{QUIET, address, sum};
use crate::judged_accounts::judge_accounts;
use crate::record_relay;
use crate::tls_modes::Mode::Originate;
use crate::tls_modes::Sides;
use firstword_testing::client::{CLASSIC, Client, Login, SSL};
use firstword_testing::database::PASSWORD;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::{GENERAL_LOG, MariaDb};
use firstword_testing::packets::{MARIADB_CAPABILITIES, handshake_v10, ok, packet};
use firstword_testing::tls_session::TlsSession;
use firstword_testing::{loopback, temp_dir, wait_for};

/// Length of an EOF packet.
const EOF_LEN: usize = 9;
/// Length of the server's buffer, which it sends when it is full.
const SERVER_BUFFER: usize = 1024;

/// The configuration of a rule that starts TLS, with further settings of the rule.
fn rule(more: &Value) -> Value {
    let mut rule = json!({
        "name": "orders", "match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql", "tls": {"upstream": "originate"},
    });
    rule.as_object_mut().expect("a rule").extend(more.as_object().expect("settings").clone());
    json!({"rules": [rule]})
}

/// Number of logins and changes of user to this account, as counted by the server.
fn logins(database: &MariaDb, account: &str) -> usize {
    let log = database
        .sql("SELECT argument FROM mysql.general_log WHERE command_type IN ('Connect', 'Change user')");
    log.iter().filter(|row| row[0].starts_with(&format!("{account}@"))).count()
}

#[test]
fn accounts_are_judged_and_logged() {
    let sides = Sides::new();
    let database = sides.mariadb(&GENERAL_LOG);
    database.sql(&format!("CREATE USER admin@'%' IDENTIFIED BY '{PASSWORD}'"));
    database.sql("CREATE DATABASE shop");
    let directory = temp_dir();
    let log = directory.path().join("access.log");
    let mut configuration = rule(&json!({}));
    configuration["access_log"] = json!(["user", "schema", "commands"]);
    let format = "%FILTER_STATE(firstword.user:PLAIN)% %FILTER_STATE(firstword.schema:PLAIN)% %UPSTREAM_TLS_VERSION% \
                  %FILTER_STATE(firstword.commands:PLAIN)%";
    let options = sides.options(Originate, &database).configuration(configuration);
    let envoy = Envoy::start(options.edit(|bootstrap| {
        judge_accounts(&mut bootstrap["static_resources"]["listeners"][0], &log, format);
    }));
    let lines = |count: usize| {
        wait_for("lines of the access log", Duration::from_secs(20), || {
            let text = std::fs::read_to_string(&log).ok()?;
            (text.lines().count() == count).then_some(text)
        })
    };
    let denied = || envoy.stats(r"^mysql_users\.rbac\.denied$").values().sum::<u64>();

    let mut allowed = Client::login(address(&envoy), &Login::new(CLASSIC));
    allowed.query("SELECT 1").expect("a row");
    // COM_INIT_DB.
    allowed.command(b"\x02shop");
    allowed.single().expect("an OK");
    allowed.quit();
    assert_eq!(lines(1), "app shop TLSv1.3 3\n");
    assert_eq!((denied(), logins(&database, "app")), (0, 1));

    // A change to an account that is not allowed ends the connection.
    let mut changed = Client::login(address(&envoy), &Login::new(CLASSIC));
    changed.command(b"\x11admin\0\0demo\0\x2d\0mysql_native_password\0");
    assert_eq!(changed.next_packet(), None);
    assert_eq!(lines(2).lines().last(), Some("admin demo TLSv1.3 1"));

    let refused = Login::new(CLASSIC).user("admin", PASSWORD);
    let mut denied_client = Client::connect(address(&envoy));
    let payload = denied_client.response(&refused).expect("a greeting");
    denied_client.write(&payload);
    assert_eq!(denied_client.next_packet(), None);
    let lines = lines(3);
    let last = lines.lines().last().expect("a line");
    assert!(last.starts_with("admin "), "{last}");
    assert_eq!((denied(), logins(&database, "admin")), (2, 0), "the server has seen no login of it");
}

/// The server believes only a header that precedes everything.
#[test]
fn the_header_precedes_the_request_for_tls() {
    let sides = Sides::new();
    let database = sides.mariadb(&["--proxy-protocol-networks=*"]);
    let send = json!({"proxy_protocol": {"send": {"mode": "with_first_client_bytes"}}});
    let options = sides.options(Originate, &database).configuration(rule(&send));
    let envoy = Envoy::start(options);
    let client = Client::connect_from(Some("127.0.0.9".parse().unwrap()), address(&envoy));
    let port = client.local_addr().port();
    let mut client = client.log_in(&Login::new(CLASSIC)).expect("a login");
    let seen = client.query("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()");
    let expected = format!("127.0.0.9:{port}");
    let seen = seen.0.concat();
    assert!(seen.windows(expected.len()).any(|text| text == expected.as_bytes()), "{}", seen.escape_ascii());
    let cipher = client.query("SHOW STATUS LIKE 'Ssl_cipher'").0.concat();
    assert!(cipher.windows(4).any(|text| text == b"TLS_"), "{}", cipher.escape_ascii());
    client.quit();
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "proxy_protocol_sent_total", &[]), 1);
}

/// Statements whose responses to COM_STMT_PREPARE end in an EOF that the server's buffer cuts, each at another place.
fn statements(client: &mut Client) -> Vec<String> {
    let of = |columns: usize, last: usize| {
        let short = (1..columns).map(|_| format!("1 AS {}", "c".repeat(20)));
        let all: Vec<_> = short.chain([format!("1 AS {}", "d".repeat(last))]).collect();
        format!("SELECT {}", all.join(","))
    };
    let mut len = |statement: &str| {
        let response = client.prepare(statement).expect("a statement");
        response.0.iter().map(|packet| packet.len() + 4).sum::<usize>()
    };
    let columns = (1..60).find(|columns| len(&of(*columns, 60)) > SERVER_BUFFER + EOF_LEN).expect("columns");
    let lengths = (1..=60).map(|last| of(columns, last));
    let is_cut = |len: usize| (SERVER_BUFFER + 1..=SERVER_BUFFER + EOF_LEN).contains(&len);
    lengths.filter(|statement| is_cut(len(statement))).collect()
}

#[test]
fn a_split_eof_in_tls_is_held() {
    let sides = Sides::new();
    let database = sides.mariadb(&["--net-buffer-length=1024"]);
    let relay = record_relay::start(database.addr());
    for (setting, held) in [("off", 0), ("always", EOF_LEN as u64)] {
        let hold = rule(&json!({"mysql": {"hold_split_eof": setting}}));
        let options = sides.options(Originate, &database).upstream("mysql", relay);
        let envoy = Envoy::start(options.configuration(hold));
        let mut client = Client::login(address(&envoy), &Login::new(CLASSIC));
        let statements = statements(&mut client);
        assert_eq!(statements.len(), EOF_LEN, "one for each cut");
        client.quit();
        let before = envoy.stable(QUIET);
        let mut client = Client::login(address(&envoy), &Login::new(CLASSIC));
        for statement in &statements {
            client.prepare(statement).expect("a statement");
        }
        client.quit();
        let metrics = envoy.stable(QUIET);
        let count = |name: &str| sum(&metrics, name, &[]) - sum(&before, name, &[]);
        assert_eq!(count("prepare_eof_splits_total"), EOF_LEN as u64, "{setting}");
        assert_eq!(count("prepare_eof_held_total"), held, "{setting}");
        assert_eq!((count("prepare_eof_lost_total"), count("opaque_total")), (0, 0), "{setting}");
    }
}

/// The client's statement names no file, and the server requests one.
#[test]
fn a_request_for_a_file_in_tls_is_blocked() {
    let sides = Sides::new();
    let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
    let server = listener.local_addr().expect("a bound address");
    let greeting = packet(0, &handshake_v10("5.5.5-10.11.19-MariaDB", MARIADB_CAPABILITIES | SSL));
    for blocks in [false, true] {
        let block = rule(&json!({"mysql": {"block_local_infile": blocks}}));
        let envoy = Envoy::start(sides.options_to(Originate, server).configuration(block));
        let file = std::thread::scope(|scope| {
            let rogue = scope.spawn(|| {
                let mut session = TlsSession::accept(&listener, &greeting, sides.server.directory());
                session.packet().expect("a handshake response");
                session.send(&packet(3, &ok()));
                session.packet().expect("a statement");
                session.send(&packet(1, b"\xfb/etc/hostname"));
                session.packet().ok()
            });
            let mut client = Client::login(address(&envoy), &Login::new(CLASSIC));
            let response = client.query("SELECT 1");
            if blocks {
                response.expect_errno(3948);
                assert_eq!(client.next_packet(), None, "the connection ends");
            } else {
                assert_eq!(response.0.last(), Some(&b"\xfb/etc/hostname".to_vec()));
                client.write(b"secret");
            }
            rogue.join().expect("the server")
        });
        assert_eq!(file, (!blocks).then(|| b"secret".to_vec()));
        let metrics = envoy.stable(QUIET);
        assert_eq!(sum(&metrics, "local_infile_total", &[]), 1);
        assert_eq!(sum(&metrics, "local_infile_blocked_total", &[]), u64::from(blocks));
        assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    }
}

mod needs_mysqld {
    use super::*;
    const PLUGIN: &str = "caching_sha2_password";

    /// The filter takes no part in the exchange of passwords after the login.
    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_change_of_user_needs_the_password_in_the_cache_of_the_server() {
        let sides = Sides::new();
        let database = sides.mysql(&[]);
        database.sql(&format!("CREATE USER other@'%' IDENTIFIED WITH {PLUGIN} BY '{PASSWORD}'"));
        database.sql("GRANT ALL ON *.* TO other@'%'");
        let envoy = Envoy::start(sides.options(Originate, &database));
        let other = Login::new(CLASSIC).user("other", PASSWORD);
        let changed = || {
            let mut client = Client::login(address(&envoy), &Login::new(CLASSIC));
            client.change_user(&other, PLUGIN).errno()
        };
        assert_eq!(changed(), Some(1045));
        Client::login(address(&envoy), &other).quit();
        assert_eq!(changed(), None);
        let metrics = envoy.stable(QUIET);
        assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
        assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 2);
    }
}
