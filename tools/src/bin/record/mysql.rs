//! Captures of a real MySQL.

use std::path::PathBuf;

use crate::Studio;
use crate::both::{self, Dialect};
use firstword_testing::client::{
    CLASSIC, DEPRECATE_EOF, EXPIRED_PASSWORDS, Login, OPTIONAL_METADATA, QUERY_ATTRIBUTES, SESSION_TRACK,
};
use firstword_testing::database::USER;
use firstword_testing::mysqld::{MySql, NO_TLS, SHA256_USER};
use firstword_testing::root;

const MODERN: u32 = CLASSIC | DEPRECATE_EOF | SESSION_TRACK | QUERY_ATTRIBUTES;

fn dialects() -> [Dialect; 5] {
    let none = "SET resultset_metadata = NONE";
    [
        ("classic", CLASSIC, ""),
        ("deprecate-eof", MODERN, ""),
        ("full-metadata", MODERN | OPTIONAL_METADATA, ""),
        ("no-metadata", MODERN | OPTIONAL_METADATA, none),
        ("no-metadata-classic", CLASSIC | OPTIONAL_METADATA, none),
    ]
    .map(|(name, capabilities, first)| Dialect { name, login: Login::new(capabilities), first })
}

pub(crate) fn record() {
    let server = MySql::start(&[NO_TLS, "--local-infile=1", "--log-bin=log", "--server-id=1"]);
    let studio = Studio::new(&server, "mysql");
    authentication(&studio);
    for dialect in dialects() {
        both::record_dialect(&studio, &dialect);
    }
    both::record_once(&studio, &Login::new(MODERN), &Login::new(MODERN).user(USER, "wrong"));
    mysql_only(&studio);
    command_line(&studio);
    drop(server);

    let few = MySql::start(&[NO_TLS, "--max-connections=10"]);
    both::record_too_many(&Studio::without_counts(&few, "mysql"), &Login::new(MODERN), 10);
    drop(few);
    let server = MySql::start(&[]);
    let studio = Studio::without_counts(&server, "mysql");
    both::record_command_line(&studio, "tls", &client(), &["demo", "--ssl-mode=REQUIRED", "-e", "SELECT 1"]);
    both::record_shutdown(&studio, &Login::new(MODERN));
}

fn authentication(studio: &Studio) {
    for statement in [
        "CREATE USER nopass@'%' IDENTIFIED BY ''",
        "CREATE USER locked@'%' IDENTIFIED BY 'app' ACCOUNT LOCK",
        "CREATE USER expired@'%' IDENTIFIED BY 'app' PASSWORD EXPIRE",
        "GRANT ALL ON *.* TO nopass@'%', expired@'%'",
    ] {
        studio.server.sql(statement);
    }
    let modern = || Login::new(MODERN);
    let accepted = [
        (
            "auth-caching-sha2-full",
            "caching_sha2_password, the whole password under the server's key",
            modern(),
        ),
        ("auth-caching-sha2-fast", "caching_sha2_password, known already", modern()),
        (
            "auth-sha256",
            "sha256_password under the server's key, by a switch",
            modern().user(SHA256_USER, "app"),
        ),
        (
            "auth-sha256-first",
            "sha256_password, which the client begins with",
            modern().user(SHA256_USER, "app").plugin("sha256_password"),
        ),
        ("auth-empty", "no password", modern().user("nopass", "")),
        ("auth-switch", "another plugin than the server's", modern().plugin("mysql_native_password")),
    ];
    for (name, what, login) in accepted {
        studio.raw(name, what, |client| {
            client.log_in(&login).expect("a login").quit();
        });
    }
    let refused = [
        (
            "auth-sha256-refused",
            "sha256_password with a wrong password",
            modern().user(SHA256_USER, "wrong"),
            1045,
        ),
        ("auth-nobody", "a user that does not exist", modern().user("nobody", "app"), 1045),
        ("auth-locked", "a locked account", modern().user("locked", "app"), 3118),
        ("auth-expired", "an expired password", modern().user("expired", "app"), 1862),
    ];
    for (name, what, login, errno) in refused {
        studio.raw(name, what, |client| assert_eq!(client.log_in(&login).err(), Some(errno)));
    }
    studio.raw("auth-expired-sandbox", "an expired password, for a client that can change it", |client| {
        let login = Login::new(MODERN | EXPIRED_PASSWORDS).user("expired", "app").database("");
        let mut client = client.log_in(&login).expect("a login");
        client.query("SELECT 1").expect_errno(1820);
        client.quit();
    });
    studio.server.sql("SET GLOBAL require_secure_transport = 1");
    studio.raw("tls-required", "without TLS where it is required", |client| {
        assert_eq!(client.log_in(&modern()).err(), Some(3159));
    });
    studio.server.sql("SET GLOBAL require_secure_transport = 0");
}

/// Records the captures that MariaDB does not have, or has in another form.
fn mysql_only(studio: &Studio) {
    cursor_and_none(studio);
    let modern = Login::new(MODERN);
    studio.raw("session-track", "session state in OK packets", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        both::track_session(&mut client, "SET session_track_gtids = OWN_GTID");
        client.quit();
    });
    studio.raw("query-attributes", "attributes in front of statements and behind parameters", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        let attributes =
            [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("a", "b")];
        for attributes in [&attributes[..1], &attributes] {
            let query = client.query_with_attributes("SELECT 1", attributes);
            client.command(&query);
            client.results().expect("a row");
        }
        for (statement, parameters) in [("SELECT 1", &[][..]), ("SELECT ? + ?", &["1", "2"])] {
            let statement = client.prepare(statement).statement_id();
            let execute = client.execute_payload(statement, 0, parameters, &attributes);
            client.command(&execute);
            client.results().expect("a row");
        }
        client.quit();
    });
    replicas(studio);
    studio.raw("protocol-320", "HandshakeResponse320", |mut client| {
        client.packet();
        client.write(b"\x05\x20\xff\xff\xffapp\x0012345678\x00");
        // Bad handshake, without an SQL state.
        client.single().expect_errno(1043);
    });
    for (name, byte) in [("clone", 0x20), ("group-replication", 0x21)] {
        studio.raw(name, "a command whose plugin is not there", |client| {
            let mut client = client.log_in(&modern).expect("a login");
            client.command(&[byte]);
            client.single();
        });
    }
}

/// Records replicas.
fn replicas(studio: &Studio) {
    let modern = Login::new(MODERN);
    for (name, capabilities) in [("classic", CLASSIC), ("deprecate-eof", MODERN)] {
        studio.raw(&format!("binlog-{name}"), "a replica that takes what there is", |client| {
            // A short log.
            studio.server.sql("RESET BINARY LOGS AND GTIDS");
            studio.server.sql("INSERT INTO demo.t VALUES (30, 'thirty')");
            let mut client = client.log_in(&Login::new(capabilities)).expect("a login");
            both::replicate(&mut client, "log.000001");
        });
    }
    studio.raw("binlog-gtid", "COM_BINLOG_DUMP_GTID up to the end of the log", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        client.query("SET @source_binlog_checksum = 'NONE'").expect("OK");
        // Flag 1 (end at the end of the log), no name, position 4, an empty set of GTIDs.
        let place = [&[0; 4][..], &4_u64.to_le_bytes(), &[8, 0, 0, 0], &[0; 8]].concat();
        client.command(&[&[0x1e, 1, 0, 7, 0, 0, 0], place.as_slice()].concat());
        client.until_eof().expect("events");
        assert_eq!(client.next_packet(), None, "the end");
    });
    studio.raw("binlog-refused", "a replica that asks for a log that is not there", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        client.command(&both::binlog_dump(0, "nosuch.000001"));
        client.until_eof().expect_errno(1236);
        assert_eq!(client.next_packet(), None, "the end");
    });
    studio.raw("binlog-killed", "a replica that waits for more, until it is killed", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        client.query("SET @source_binlog_checksum = 'NONE'").expect("OK");
        both::register_replica(&mut client);
        client.command(&both::binlog_dump(0, "log.000001"));
        for _ in 0..3 {
            client.packet();
        }
        studio.server.sql(&format!("KILL {}", client.thread_id));
        while client.next_packet().is_some() {}
    });
}

/// Records a statement that is executed with a cursor, and then without one. MySQL 9.7 then sends an OK packet instead of the
/// rows and of the EOF packets around them. No client can read that response.
fn cursor_and_none(studio: &Studio) {
    for (name, capabilities) in [("classic", CLASSIC), ("deprecate-eof", MODERN)] {
        let what = "a statement executed with a cursor, and then without";
        studio.raw(&format!("cursor-and-none-{name}"), what, |client| {
            let mut client = client.log_in(&Login::new(capabilities)).expect("a login");
            let statement = client.prepare("SELECT id, name FROM t").statement_id();
            client.execute(statement, 1, &[]).expect("a cursor");
            let again = client.execute_payload(statement, 0, &[], &[]);
            client.command(&again);
            let response: Vec<_> = (0..4).map(|_| client.packet()).collect();
            assert_eq!((response[0].as_slice(), response[3][0], response[3].len()), (&[2][..], 0, 7));
        });
    }
}

fn client() -> PathBuf {
    root().join("target/tools/mysql")
}

fn command_line(studio: &Studio) {
    let plain = |arguments: &[&'static str]| [&["demo", "--ssl-mode=DISABLED"], arguments].concat();
    let shown = "SHOW TABLES; SELECT REPEAT('x', 3000) AS long_row; SELECT 1";
    let missing = "LOAD DATA LOCAL INFILE '/nosuch/file' INTO TABLE loaded";
    let cases: [(&str, &[&str]); 4] = [
        ("cli", &["-e", shown]),
        ("cli-compressed", &["--compression-algorithms=zlib", "-e", "SELECT 1"]),
        ("cli-zstd", &["--compression-algorithms=zstd", "-e", "SELECT 1"]),
        ("cli-missing-file", &["--local-infile=1", "-e", missing]),
    ];
    for (name, arguments) in cases {
        both::record_command_line(studio, name, &client(), &plain(arguments));
    }
}
