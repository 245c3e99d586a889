//! Captures of a real MariaDB.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::Studio;
use crate::both::{self, Dialect};
use firstword_testing::client::{
    CLASSIC, Client, DEPRECATE_EOF, Login, MARIADB_BULK, MARIADB_CACHE_METADATA, MARIADB_PROGRESS,
    PLUGIN_AUTH, SESSION_TRACK,
};
use firstword_testing::database::{RESOLVE, USER};
use firstword_testing::mariadb::{COUNTED, MariaDb};
use firstword_testing::mysqld::MySql;

const MODERN: u32 = CLASSIC | DEPRECATE_EOF | SESSION_TRACK;

fn dialects() -> [Dialect; 4] {
    let extended = MARIADB_BULK | MARIADB_CACHE_METADATA;
    [
        ("classic", Login::new(CLASSIC)),
        ("deprecate-eof", Login::new(MODERN)),
        ("cached-metadata", Login::new(MODERN).extended(extended)),
        ("cached-metadata-classic", Login::new(CLASSIC).extended(extended)),
    ]
    .map(|(name, login)| Dialect { name, login, first: "" })
}

pub(crate) fn record() {
    let options = [
        "--local-infile=1",
        "--log-bin=log",
        "--server-id=1",
        "--plugin-load-add=auth_ed25519",
        "--secure-auth=0",
    ];
    let server = MariaDb::start(&[&COUNTED[..], &options].concat());
    let studio = Studio::new(&server, "mariadb");
    authentication(&studio);
    for dialect in dialects() {
        both::record_dialect(&studio, &dialect);
        if dialect.login.extended == 0 {
            blocks(&studio, &dialect);
        } else {
            bulk(&studio, &dialect);
        }
    }
    both::record_once(&studio, &Login::new(MODERN), &Login::new(MODERN).user(USER, "wrong"));
    mariadb_only(&studio);
    drivers(&studio);
    protocol_320(&studio);
    let client = Path::new("mariadb");
    let shown = "SHOW TABLES; SELECT REPEAT('x', 10000) AS long_row; SELECT 1";
    both::record_command_line(&studio, "cli", client, &["demo", "--skip-ssl", "-e", shown]);
    both::record_command_line(
        &studio,
        "cli-compressed",
        client,
        &["demo", "--skip-ssl", "--compress", "-e", "SELECT 1"],
    );
    let load = "LOAD DATA LOCAL INFILE '/nosuch/file' INTO TABLE loaded";
    both::record_command_line(
        &studio,
        "cli-missing-file",
        client,
        &["demo", "--skip-ssl", "--local-infile", "-e", load],
    );
    drop(server);

    let few = MariaDb::start(&["--max-connections=10"]);
    both::record_too_many(&Studio::without_counts(&few, "mariadb"), &Login::new(MODERN), 10);
    drop(few);
    let strict = MariaDb::start(&[RESOLVE, "--max-connect-errors=1"]);
    host_blocked(&Studio::without_counts(&strict, "mariadb"));
    both::record_shutdown(&Studio::without_counts(&strict, "mariadb"), &Login::new(MODERN));
    drop(strict);
    shutdown();
    tls();
}

fn authentication(studio: &Studio) {
    let old = studio.server.sql("SELECT OLD_PASSWORD('app')").concat().concat();
    for statement in [
        "CREATE USER ed25519@'%' IDENTIFIED VIA ed25519 USING PASSWORD('app')",
        &format!("CREATE USER old@'%' IDENTIFIED VIA mysql_old_password USING '{old}'"),
        "CREATE USER nopass@'%'",
        "CREATE USER locked@'%' ACCOUNT LOCK",
        "GRANT ALL ON *.* TO ed25519@'%', old@'%', nopass@'%'",
    ] {
        studio.server.sql(statement);
    }
    let modern = || Login::new(MODERN);
    let accepted: [(&str, &str, Login); 6] = [
        ("auth-native", "mysql_native_password", modern()),
        ("auth-ed25519", "client_ed25519, by a switch", modern().user("ed25519", "app")),
        ("auth-old", "mysql_old_password, by a switch", modern().user("old", "app")),
        (
            "auth-old-switch",
            "mysql_old_password, by the switch in one byte",
            Login::new(CLASSIC & !PLUGIN_AUTH).user("old", "app"),
        ),
        ("auth-empty", "no password", modern().user("nopass", "")),
        ("auth-switch", "another plugin than the server's", modern().plugin("mysql_clear_password")),
    ];
    for (name, what, login) in accepted {
        studio.raw(name, what, |client| {
            client.log_in(&login).expect("a login").quit();
        });
    }
    let refused = [
        (
            "auth-ed25519-refused",
            "client_ed25519 with a wrong password",
            modern().user("ed25519", "wrong"),
            1045,
        ),
        ("auth-locked", "a locked account", modern().user("locked", ""), 4151),
    ];
    for (name, what, login, errno) in refused {
        studio.raw(name, what, |client| assert_eq!(client.log_in(&login).err(), Some(errno)));
    }
    studio.server.sql("SET GLOBAL require_secure_transport = 1");
    studio.raw("tls-required", "without TLS where it is required", |client| {
        // MySQL has error 3159 for the same setting.
        assert_eq!(client.log_in(&modern()).err(), Some(1045));
    });
    studio.server.sql("SET GLOBAL require_secure_transport = 0");
}

/// Records COM_STMT_BULK_EXECUTE, and COM_STMT_EXECUTE of the last prepared statement (-1) in one write with its
/// COM_STMT_PREPARE.
fn bulk(studio: &Studio, dialect: &Dialect) {
    let what =
        format!("COM_STMT_BULK_EXECUTE, and COM_STMT_PREPARE with COM_STMT_EXECUTE (-1) ({})", dialect.name);
    studio.raw(&format!("bulk-{}", dialect.name), &what, |client| {
        let mut client = client.log_in(&dialect.login).expect("a login");
        for insert in ["INSERT INTO t VALUES (?, ?)", "INSERT INTO t VALUES (?, ?) RETURNING id"] {
            let statement = client.prepare(insert).statement_id();
            let rows: &[u8] = if insert.contains("RETURNING") {
                b"\0\x0213\0\x01c\0\x0214\x01"
            } else {
                b"\0\x0211\0\x01a\0\x0212\x01"
            };
            // Flag 128 (types follow), two texts. The second value of the second row is NULL.
            let payload = [&[0xfa], &statement.to_le_bytes()[..], &[128, 0, 0xfe, 0, 0xfe, 0], rows].concat();
            client.command(&payload);
            client.results().expect("rows");
            client.command(&payload);
            client.results().expect_errno(1062);
        }
        client.command(&[0xfa, 0xe7, 3, 0, 0, 128, 0]);
        client.results().expect_errno(1243);
        for prepare in ["SELECT * FROM t", "DO 1", "SELECT FROM"] {
            let execute = client.execute_payload(u32::MAX, 0, &[], &[]);
            client.pipeline(&[&[&[0x16], prepare.as_bytes()].concat(), &execute]);
            client.prepare_response();
            client.results();
        }
        client.quit();
    });
}

/// Records statements with cursors that are not declared in a routine.
fn blocks(studio: &Studio, dialect: &Dialect) {
    let what = format!("BEGIN NOT ATOMIC and loops over cursors ({})", dialect.name);
    studio.raw(&format!("blocks-{}", dialect.name), &what, |client| {
        let mut client = client.log_in(&dialect.login).expect("a login");
        for block in [
            "BEGIN NOT ATOMIC SELECT 1; DO 1; END",
            "BEGIN NOT ATOMIC DECLARE a INT; DECLARE c CURSOR FOR SELECT id FROM t; OPEN c; FETCH c INTO a; SELECT a; \
             SELECT * FROM t; END",
            "FOR row IN (SELECT id, name FROM t ORDER BY id) DO SELECT row.id, row.name; END FOR",
            "BEGIN NOT ATOMIC FOR a IN (SELECT id FROM t) DO FOR b IN (SELECT name FROM t) DO \
             SELECT a.id, b.name; END FOR; END FOR; SELECT 'no cursor'; END",
            "FOR i IN 1..2 DO SELECT i; END FOR",
        ] {
            client.query(block).expect(block);
            let statement = client.prepare(block);
            if statement.errno().is_none() {
                client.execute(statement.statement_id(), 0, &[]).expect(block);
            }
        }
        let select = client.prepare("SELECT id, name FROM t").statement_id();
        client.execute(select, 1, &[]).expect("a cursor");
        client.execute(select, 0, &[]).expect("rows, not the cursor's");
        let fails = "FOR row IN (SELECT id FROM t) DO SELECT row.id; SELECT * FROM nosuch; END FOR";
        client.query(fails).expect_errno(1146);
        client.query("SELECT 1").expect("a row");
        client.quit();
    });
}

/// Records a request for a cursor for a routine that has its own cursor. The rows follow at once, although the status has
/// CURSOR_EXISTS.
fn late_rows(studio: &Studio) {
    for (name, capabilities) in [("classic", CLASSIC), ("deprecate-eof", MODERN)] {
        let what = "CALL of a procedure with an open cursor, by a COM_STMT_EXECUTE that asks for a cursor";
        studio.raw(&format!("late-rows-{name}"), what, |client| {
            let mut client = client.log_in(&Login::new(capabilities)).expect("a login");
            let call = client.prepare("CALL open_cursor()").statement_id();
            client.execute_call(call, 1).expect("six results");
            client.execute_call(call, 0).expect("six results");
            client.quit();
        });
    }
}

/// Records a COM_CHANGE_USER of one byte. The server sends another greeting, and both sides agree on capabilities again.
fn greeted_again(studio: &Studio) {
    let ask = |client: &mut Client, login: &Login| {
        client.command(&[0x11]);
        let payload = client.response(login).expect("a greeting");
        client.write(&payload);
        let plugin = client.plugin.clone();
        client.authenticate(&plugin, &login.password)
    };
    let (classic, modern) = (Login::new(CLASSIC), Login::new(MODERN));
    studio.raw("greeted-again", "COM_CHANGE_USER of one byte: a new greeting, twice", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        client.query("SELECT id FROM t").expect("rows");
        client.prepare("SELECT 1");
        ask(&mut client, &classic.clone().database("")).expect("other capabilities");
        client.query("SELECT DATABASE()").expect("a row, with EOF packets");
        ask(&mut client, &modern.clone().user("ed25519", "app")).expect("another user");
        client.query("SELECT USER()").expect("a row, without");
        client.quit();
    });
    studio.raw("greeted-again-refused", "COM_CHANGE_USER of one byte, and a wrong password", |client| {
        let mut client = client.log_in(&modern).expect("a login");
        // The session continues as the old user, with the capabilities of the new handshake.
        ask(&mut client, &classic.clone().user(USER, "wrong")).expect_errno(1045);
        client.query("SELECT USER()").expect("a row, with EOF packets");
        ask(&mut client, &modern.clone().database("nosuch")).expect_errno(1049);
        client.query("SELECT USER()").expect("a row, without");
        client.quit();
    });
}

/// Records the captures that MySQL does not have, or has in another form.
fn mariadb_only(studio: &Studio) {
    greeted_again(studio);
    late_rows(studio);
    studio.raw("session-track", "session state in OK packets", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        both::track_session(&mut client, "DO 0");
        client.quit();
    });
    studio.raw("bulk-refused", "COM_STMT_BULK_EXECUTE of a client that did not say it can", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        let statement = client.prepare("INSERT INTO t VALUES (?, ?)").statement_id();
        client.command(
            &[&[0xfa], &statement.to_le_bytes()[..], &[128, 0, 0xfe, 0, 0xfe, 0], b"\0\x018\x01"].concat(),
        );
        client.results().expect_errno(1295);
        client.quit();
    });
    let log = studio.server.sql("SHOW MASTER STATUS")[0][0].clone();
    for (name, capabilities) in [("classic", CLASSIC), ("deprecate-eof", MODERN)] {
        studio.raw(&format!("binlog-{name}"), "a replica that takes what there is", |client| {
            // A short log.
            studio.server.sql("RESET MASTER");
            studio.server.sql("INSERT INTO demo.t VALUES (30, 'thirty')");
            let mut client = client.log_in(&Login::new(capabilities)).expect("a login");
            both::replicate(&mut client, &log);
        });
    }
    studio.raw("binlog-refused", "a replica that asks for a log that is not there", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        client.command(&both::binlog_dump(0, "nosuch.000001"));
        client.until_eof().expect_errno(1236);
        assert_eq!(client.next_packet(), None, "the end");
    });
    studio.raw("binlog-gtid", "COM_BINLOG_DUMP_GTID, which is MySQL's", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        client.command(&[0x1e]);
        client.single().expect_errno(1047);
        client.quit();
    });
    studio.raw("binlog-killed", "a replica that waits for more, until it is killed", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        client.query("SET @master_binlog_checksum = 'NONE'").expect("OK");
        both::register_replica(&mut client);
        client.command(&both::binlog_dump(0, &log));
        for _ in 0..3 {
            client.packet();
        }
        studio.server.sql(&format!("KILL {}", client.thread_id));
        while client.next_packet().is_some() {}
    });
    studio.raw("progress", "progress reports, which look like errors", |client| {
        let login = Login::new(MODERN).extended(MARIADB_PROGRESS);
        let mut client = client.log_in(&login).expect("a login");
        client.query("SET progress_report_time = 1").expect("OK");
        let response = client.query("ALTER TABLE t FORCE, ALGORITHM = COPY").expect("OK");
        assert!(response.0.len() > 1, "progress reports come first: {response:?}");
        client.query("SELECT 1").expect("a row");
        client.quit();
    });
}

/// Records a client from before MySQL 4.1. MySQL refuses it with "Bad handshake". MariaDB continues with the OK and EOF packets
/// of that protocol.
fn protocol_320(studio: &Studio) {
    // LONG_PASSWORD and LONG_FLAG. With TRANSACTIONS the OK packets contain the status.
    for (name, capabilities) in [("protocol-320", 0x0005_u16), ("protocol-320-status", 0x2005)] {
        studio.raw(name, "HandshakeResponse320 and what follows", |mut client| {
            let greeting = client.packet();
            client.read_greeting(&greeting);
            let response = [&capabilities.to_le_bytes()[..], &[0xff; 3], b"old\0"].concat();
            let scramble = client.scramble("mysql_old_password", "app");
            client.write(&[response, scramble].concat());
            client.authenticate("mysql_old_password", "app").expect("OK");
            for statement in ["DO 1", "SELECT id, name FROM demo.t", "SELECT FROM", "SELECT 1 LIMIT 0"] {
                client.command(&[b"\x03", statement.as_bytes()].concat());
                // OK, ERR, or two EOFs of one byte.
                let mut eofs = 0;
                while eofs < 2 {
                    match client.packet().as_slice() {
                        [0xfe] => eofs += 1,
                        [0x00 | 0xff, ..] if eofs == 0 && client.sequence_id == 2 => break,
                        _ => {}
                    }
                }
            }
            client.command(&[0x0e]);
            client.single().expect("OK");
            client.quit();
        });
    }
}

/// Records a common driver.
fn drivers(studio: &Studio) {
    let record = |name: &str, scenario: fn(OptsBuilder)| {
        studio.record(&format!("driver-{name}"), "Rust mysql 28", |address| {
            let options = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(address.port());
            let options = options.user(Some("app")).pass(Some("app")).db_name(Some("demo"));
            scenario(options.prefer_socket(false));
        });
    };
    record("text", |options| {
        let mut connection = Conn::new(options).expect("a login");
        connection.query_drop("CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, name TEXT)").expect("a table");
        connection.query_drop("INSERT INTO t VALUES (1, 'one'), (2, NULL), (3, 'three')").expect("rows");
        let rows: Vec<(i32, Option<String>)> = connection.query("SELECT * FROM t").expect("rows");
        assert_eq!(rows.len(), 3);
        connection.query_drop("SELECT * FROM nosuch").expect_err("no such table");
        connection.query_drop("UPDATE t SET name = 'x' WHERE id > 1").expect("an update");
        connection.ping().expect("a response");
    });
    record("prepared", |options| {
        let mut connection = Conn::new(options).expect("a login");
        let statement = connection.prep("SELECT ?, seq FROM seq_1_to_5 WHERE seq > ?").expect("a statement");
        for least in 0..3 {
            let rows: Vec<(String, u64)> = connection.exec(&statement, ("x", least)).expect("rows");
            assert_eq!(rows.len(), 5 - least);
        }
        connection.close(statement).expect("a close");
        connection.prep("SELECT FROM").expect_err("a syntax error");
    });
}

/// Records the error for a blocked host, from a server with `max_connect_errors=1` that looks up hosts. MySQL trusts all of
/// 127.0.0.0/8.
fn host_blocked(studio: &Studio) {
    let source = Some([127, 0, 0, 2].into());
    for _ in 0..3 {
        // The server counts interrupted handshakes.
        let mut client = Client::connect_from(source, studio.server.addr());
        client.packet();
        drop(client);
        sleep(Duration::from_millis(300));
    }
    studio.record_from(
        source,
        "host-blocked",
        "raw packets: from a host with too many aborted logins",
        |address| {
            assert_eq!(Client::connect(address).log_in(&Login::new(MODERN)).err(), Some(1129));
        },
    );
}

/// Records COM_SHUTDOWN, which MySQL no longer supports.
fn shutdown() {
    let server = MariaDb::start(&[]);
    Studio::without_counts(&server, "mariadb").raw("shutdown", "COM_SHUTDOWN", |client| {
        let mut client = client.log_in(&Login::new(MODERN)).expect("a login");
        client.command(&[0x08, 0]);
        while client.next_packet().is_some() {}
    });
}

/// Records a client with TLS. The certificates are those that a MySQL created for itself.
fn tls() {
    let mysql = MySql::start(&[]);
    let file = |option: &str, name: &str| format!("--{option}={}", mysql.data_file(name).display());
    let files = [file("ssl-cert", "server-cert.pem"), file("ssl-key", "server-key.pem")];
    let server = MariaDb::start(&[&files[0], &files[1]]);
    let studio = Studio::without_counts(&server, "mariadb");
    both::record_command_line(&studio, "tls", Path::new("mariadb"), &["demo", "--ssl", "-e", "SELECT 1"]);
}
