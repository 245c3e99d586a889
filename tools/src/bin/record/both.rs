//! Captures that are recorded from both servers: the commands, in every dialect of the responses.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Studio;
use firstword_testing::client::{Client, Login, Response};
use firstword_testing::database::{Database, USER};
use firstword_testing::packets::packet;
use firstword_testing::wait_for;

/// Creates the tables and procedures that each capture uses.
pub(crate) fn fixtures(server: &Database) {
    let statements = [
        "DROP TABLE IF EXISTS demo.t, demo.loaded",
        "CREATE TABLE demo.t (id INT PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO demo.t VALUES (1, 'one'), (2, NULL), (3, 'three')",
        "CREATE TABLE demo.loaded (id INT PRIMARY KEY, name VARCHAR(20))",
        "DROP PROCEDURE IF EXISTS demo.several",
        "CREATE PROCEDURE demo.several() BEGIN SELECT 1; SELECT * FROM t; DO 1; UPDATE t SET name = 'x'; END",
        "DROP PROCEDURE IF EXISTS demo.out_parameters",
        "CREATE PROCEDURE demo.out_parameters(IN a INT, OUT b INT, INOUT c INT) \
         BEGIN SELECT a; SET b = a + 1, c = c + a; END",
        "DROP PROCEDURE IF EXISTS demo.fails",
        "CREATE PROCEDURE demo.fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END",
        "DROP PROCEDURE IF EXISTS demo.handled",
        "CREATE PROCEDURE demo.handled() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SELECT 'handled'; \
         SELECT IF(id = 3, (SELECT 1 UNION SELECT 2), id) FROM t ORDER BY id; SELECT 'behind'; END",
        "DROP PROCEDURE IF EXISTS demo.open_cursor",
        "CREATE PROCEDURE demo.open_cursor() BEGIN DECLARE a INT; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id; \
         SELECT 'not open'; OPEN c; FETCH c INTO a; SELECT a; SELECT id FROM t WHERE FALSE; SELECT id, name FROM t; \
         UPDATE t SET name = 'x' WHERE id = a; CLOSE c; SELECT 'closed'; END",
    ];
    for statement in statements {
        server.sql(statement);
    }
}

/// A dialect of the responses, which depends on capabilities.
pub(crate) struct Dialect {
    /// Suffix of the captures' names.
    pub(crate) name: &'static str,
    /// The login that requests the dialect.
    pub(crate) login: Login,
    /// The first statement. Empty if there is none.
    pub(crate) first: &'static str,
}

impl Dialect {
    fn log_in(&self, client: Client) -> Client {
        let mut client = client.log_in(&self.login).expect("a login");
        if !self.first.is_empty() {
            client.query(self.first).expect("OK");
        }
        client
    }
}

/// Prefix of the capture's name, its description, and the steps of the client.
type Scenario = (&'static str, &'static str, fn(&mut Client));

/// Records the captures that depend on the dialect.
pub(crate) fn record_dialect(studio: &Studio, dialect: &Dialect) {
    let scenarios: [Scenario; 9] = [
        ("commands", "one command after the other", commands),
        ("removed", "commands that were removed, internal, or never existed; an empty packet", removed),
        ("statements", "COM_QUERY with every kind of answer", statements),
        ("prepared", "prepared statements, cursors, bad ids", prepared),
        ("procedures", "procedures with several results and OUT parameters, both protocols", procedures),
        ("cursors", "cursors of routines and of prepared statements", cursors),
        ("handlers", "result sets that end by an error which a routine handles", handlers),
        ("pipelined", "several commands in one write", pipelined),
        ("infile", "LOAD DATA LOCAL, with the file and without", local_infile),
    ];
    for (name, what, scenario) in scenarios {
        studio.raw(&format!("{name}-{}", dialect.name), &format!("{what} ({})", dialect.name), |client| {
            let mut client = dialect.log_in(client);
            scenario(&mut client);
            client.quit();
        });
    }
}

fn commands(client: &mut Client) {
    let mut single = |payload: &[u8], errno: Option<u16>| {
        client.command(payload);
        assert_eq!(client.single().errno(), errno, "{payload:02x?}");
    };
    single(b"\x02demo", None);
    single(b"\x02nosuch", Some(1049));
    // COM_STATISTICS, COM_DEBUG, COM_PING.
    for byte in [0x09, 0x0d, 0x0e] {
        single(&[byte], None);
    }
    // COM_SET_OPTION: off, on, neither.
    single(&[0x1b, 1, 0], None);
    single(&[0x1b, 0, 0], None);
    single(&[0x1b, 9, 0], Some(1047));
    // COM_RESET_CONNECTION.
    single(&[0x1f], None);
    single(b"\x02demo", None);
    client.query("SELECT DATABASE()").expect("a row");
}

/// Sends commands that a server may no longer support. The capture shows the responses.
fn removed(client: &mut Client) {
    // COM_CREATE_DB, COM_DROP_DB, COM_REFRESH (tables), COM_FIELD_LIST of a table, of some of its columns, of no table.
    for payload in [&b"\x05made"[..], b"\x06made", b"\x07\x04"] {
        client.command(payload);
        client.single();
    }
    for payload in [&b"\x04t\0"[..], b"\x04t\0na%", b"\x04nosuch\0"] {
        client.command(payload);
        client.until_eof();
    }
    // COM_PROCESS_INFO; COM_PROCESS_KILL of an unknown connection.
    client.command(&[0x0a]);
    client.results();
    client.command(&[0x0c, 0xff, 0xff, 0xff, 0x7f]);
    client.single();
    // Commands that are internal or unknown to both servers.
    for byte in [0x00, 0x0b, 0x0f, 0x10, 0x13, 0x14, 0x1d, 0x22, 0x7f, 0xf0, 0xfb, 0xfc, 0xfd, 0xfe, 0xff] {
        client.command(&[byte]);
        client.single();
    }
    client.command(&[]);
    client.single();
}

fn statements(client: &mut Client) {
    client.query("DO 1").expect("OK");
    client.query("SELECT 1").expect("a row");
    client.query("SELECT NULL, '', 'x' UNION ALL SELECT 'a', NULL, NULL").expect("rows that begin with NULL");
    client.query("SELECT * FROM t WHERE FALSE").expect("no rows");
    client.query("SELECT REPEAT('x', 300), REPEAT('y', 3000)").expect("a long row");
    client.query("SELECT FROM").expect_errno(1064);
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    client.query("SELECT IF(id = 3, (SELECT 1 UNION SELECT 2), id) FROM t ORDER BY id").expect_errno(1242);
    client.query("INSERT INTO t VALUES (4, 'four'), (5, 'five')").expect("two rows");
    client.query("INSERT IGNORE INTO t VALUES (4, 'four'), (6, 'six')").expect("one row, one warning");
    client.query("UPDATE t SET name = 'x' WHERE id > 2").expect("an update");
    client.query("DELETE FROM t WHERE id > 3").expect("a deletion");
    client.query("INSERT INTO t VALUES (1, 'again')").expect_errno(1062);
    client.query("SELECT 1 / 0, CAST('x' AS SIGNED)").expect("two warnings");
    client.query("SHOW WARNINGS").expect("warnings");
    client.query("SELECT * FROM t WHERE name = 'x'").expect("no index used");
    client.query("SET long_query_time = 0").expect("OK");
    client.query("SELECT COUNT(*) FROM t").expect("slow, as said");
    client.query("SET long_query_time = 10").expect("OK");
    client.query("BEGIN").expect("OK");
    client.query("SELECT * FROM t").expect("rows in a transaction");
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    client.query("COMMIT").expect("OK");
    client.query("/* a */ -- b\n # c\n (SELECT 2)").expect("comments first");
    client.query("SELECT 1; DO 2; SELECT 3, 4; DO 5").expect("four results");
    client.query("SELECT 1; SELECT FROM; SELECT 3").expect_errno(1064);
    client.query("DO 1; SELECT * FROM nosuch; SELECT 3").expect_errno(1146);
    client.query("").expect_errno(1065);
}

fn prepared(client: &mut Client) {
    let both = client.prepare("SELECT ?, id FROM t WHERE id > ? ORDER BY id").statement_id();
    for least in ["0", "2", "9"] {
        client.execute(both, 0, &["x", least]).expect("rows");
    }
    // COM_STMT_SEND_LONG_DATA twice, then COM_STMT_EXECUTE.
    client.command(&[&[0x18], &both.to_le_bytes()[..], &[0, 0], b"in two "].concat());
    client.command(&[&[0x18], &both.to_le_bytes()[..], &[0, 0], b"pieces"].concat());
    client.execute(both, 0, &["", "0"]);
    reset(client, both).expect("OK");
    client.execute(both, 0, &["x", "0"]).expect("rows");
    close(client, both);

    let neither = client.prepare("DO 1").statement_id();
    client.execute(neither, 0, &[]).expect("OK");
    let parameters = client.prepare("INSERT INTO t VALUES (?, ?)").statement_id();
    client.execute(parameters, 0, &["7", "seven"]).expect("OK");
    client.execute(parameters, 0, &["7", "seven"]).expect_errno(1062);
    let columns = client.prepare("SELECT id, name FROM t ORDER BY id").statement_id();
    client.execute(columns, 0, &[]).expect("rows");
    client.prepare("SELECT FROM").expect_errno(1064);
    client.prepare("SELECT * FROM nosuch").expect_errno(1146);

    // Cursors: rows in two parts, closed early, and without rows.
    client.execute(columns, 1, &[]).expect("a cursor");
    fetch(client, columns, 2).expect("two rows");
    fetch(client, columns, 100).expect("the rest");
    client.execute(columns, 1, &[]).expect("a cursor");
    fetch(client, columns, 1).expect("a row");
    reset(client, columns).expect("OK");
    let empty = client.prepare("SELECT id FROM t WHERE id > 100").statement_id();
    client.execute(empty, 1, &[]).expect("a cursor without rows");
    fetch(client, empty, 1);
    client.execute(neither, 1, &[]).expect("no cursor");
    close(client, empty);

    // A statement without a cursor, and an unknown statement.
    fetch(client, neither, 1);
    fetch(client, 999, 1);
    client.execute(999, 0, &[]).expect_errno(1243);
    reset(client, 999).expect_errno(1243);
    client.command(&[0x18, 0xe7, 3, 0, 0, 0, 0, b'x']);
    close(client, 999);
    for statement in [neither, parameters, columns] {
        close(client, statement);
    }
    // The response to COM_PING follows the error of the long data, if the server sends one.
    client.command(&[0x0e]);
    client.single().expect("OK");
}

fn reset(client: &mut Client, statement: u32) -> Response {
    client.command(&[&[0x1a], &statement.to_le_bytes()[..]].concat());
    client.single()
}

fn close(client: &mut Client, statement: u32) {
    client.command(&[&[0x19], &statement.to_le_bytes()[..]].concat());
}

fn fetch(client: &mut Client, statement: u32, rows: u32) -> Response {
    client.command(&[&[0x1c], &statement.to_le_bytes()[..], &rows.to_le_bytes()].concat());
    client.until_eof()
}

fn procedures(client: &mut Client) {
    client.query("CALL several()").expect("two result sets and an OK");
    client.query("CALL fails()").expect_errno(1644);
    client.query("SET @c = 10").expect("OK");
    client.query("CALL out_parameters(1, @b, @c)").expect("a result set and an OK");
    client.query("SELECT @b, @c").expect("a row");
    for (call, arguments) in [
        ("CALL several()", &[][..]),
        ("CALL out_parameters(?, ?, ?)", &["1", "0", "10"]),
        ("CALL fails()", &[]),
    ] {
        let statement = client.prepare(call).statement_id();
        client.execute(statement, 0, arguments);
        client.execute(statement, 1, arguments);
        close(client, statement);
    }
    client.query("CALL several(); CALL out_parameters(1, @b, @c); SELECT 1").expect("all their results");
}

/// Responses to other commands while a cursor is open.
fn cursors(client: &mut Client) {
    client.query("CALL open_cursor()").expect("six results");
    client.query("CALL open_cursor(); SELECT 1").expect("seven results");
    let call = client.prepare("CALL open_cursor()").statement_id();
    client.execute(call, 0, &[]).expect("six results");

    let columns = client.prepare("SELECT id, name FROM t ORDER BY id").statement_id();
    let other = client.prepare("SELECT id FROM t ORDER BY id DESC").statement_id();
    client.execute(columns, 1, &[]).expect("a cursor");
    client.query("SELECT 1").expect("a row");
    client.query("DO 1").expect("OK");
    fetch(client, columns, 1).expect("a row");
    client.query("CALL open_cursor()").expect("six results");
    client.execute(other, 1, &[]).expect("another cursor");
    client.execute(call, 0, &[]).expect("six results");
    fetch(client, other, 2).expect("two rows");
    fetch(client, columns, 1).expect("a row");
    client.query("SELECT * FROM t").expect("rows");
    fetch(client, columns, 9).expect("the last row");
    fetch(client, other, 9).expect("the last row");
    client.execute(columns, 1, &[]).expect("a cursor");
    close(client, columns);
    client.query("SELECT 2").expect("a row");
}

/// Errors after the start of a result set that a routine handles. The client does not see them: the server ends the result set.
fn handlers(client: &mut Client) {
    client.query("CALL handled()").expect("four results");
    client.query("CALL handled(); SELECT 1").expect("five results");
    let call = client.prepare("CALL handled()").statement_id();
    client.execute(call, 0, &[]).expect("four results");
    client.query("SELECT 2").expect("a row");
}

fn pipelined(client: &mut Client) {
    let select = client.query_payload("SELECT id, name FROM t");
    let nosuch = client.query_payload("SELECT * FROM nosuch");
    let set = client.query_payload("SET @a = 1");
    client.pipeline(&[&set, &select, &nosuch, &select, b"\x0e", b"\x02demo"]);
    client.results().expect("OK");
    client.results().expect("rows");
    client.results().expect_errno(1146);
    client.results().expect("rows");
    client.single().expect("OK");
    client.single().expect("OK");

    let statement = client.prepare("SELECT ? FROM t").statement_id();
    let id = statement.to_le_bytes();
    let long_data = [&[0x18], &id[..], &[0, 0], b"long"].concat();
    let execute = client.execute_payload(statement, 0, &["x"], &[]);
    let close = [&[0x19], &id[..]].concat();
    // The first and the last but one have no response.
    client.pipeline(&[&long_data, &execute, &execute, &close, b"\x0e"]);
    client.results();
    client.results();
    client.single().expect("OK");

    // The reset of a connection pool, with the next commands; a command cut within its header.
    client.pipeline(&[b"\x1f", b"\x02demo", &set]);
    for _ in 0..3 {
        client.single().expect("OK");
    }
    let ping = packet(0, &[0x0e]);
    client.send(&[&ping, &ping[..2]].concat());
    client.single().expect("OK");
    client.send(&ping[2..]);
    client.single().expect("OK");
}

fn local_infile(client: &mut Client) {
    const LOAD: &str = "LOAD DATA LOCAL INFILE 'some.csv' INTO TABLE loaded FIELDS TERMINATED BY ','";
    let upload = |client: &mut Client, statement: &str, parts: &[&[u8]]| {
        assert_eq!(client.query(statement).0[0][0], 0xfb);
        for part in parts {
            client.write(part);
        }
        client.write(&[]);
        client.results()
    };
    upload(client, LOAD, &[b"1,one\n2,two\n", b"3,th", b"ree\n"]).expect("three rows");
    // The client refuses the request, or has no such file.
    upload(client, LOAD, &[]).expect("no rows");
    upload(client, LOAD, &[b"4,four,too,many\n1,again\n"]).expect("warnings");
    // Fails at the first row, before the end of the file.
    let fails = "LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded (id) SET name = (SELECT 1 UNION SELECT 2)";
    upload(client, fails, &[b"5\n", b"6\n", b"7\n"]).expect_errno(1242);
    client.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE nosuch").expect_errno(1146);
    upload(client, &format!("{LOAD}; SELECT COUNT(*) FROM loaded"), &[b"9,nine\n"]).expect("rows after it");
    client.query("SELECT 1").expect("a row");
}

/// Makes the server send every kind of session state in OK packets.
pub(crate) fn track_session(client: &mut Client, gtids: &str) {
    let statements = [
        gtids,
        "SET session_track_schema = 1, session_track_state_change = 1, session_track_system_variables = '*'",
        "SET session_track_transaction_info = 'CHARACTERISTICS'",
        "SET NAMES latin1",
        "SET @a = 1",
        "SET time_zone = '+00:00'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "START TRANSACTION",
        "SELECT * FROM t",
        "COMMIT",
        "USE mysql",
        "USE demo",
        "BEGIN",
        "INSERT INTO t VALUES (20, 'twenty')",
        "COMMIT",
        "SELECT 1; USE demo; DO 3",
        "CALL several()",
    ];
    for statement in statements {
        client.query(statement).expect(statement);
    }
    // COM_INIT_DB, COM_RESET_CONNECTION.
    client.command(b"\x02mysql");
    client.single().expect("OK");
    client.command(&[0x1f]);
    client.single().expect("OK");
}

/// Sends COM_REGISTER_SLAVE, then COM_BINLOG_DUMP that ends at the end of the log.
pub(crate) fn replicate(client: &mut Client, log: &str) {
    client.query("SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'").expect("OK");
    register_replica(client);
    client.command(&binlog_dump(1, log));
    client.until_eof().expect("events");
    assert_eq!(client.next_packet(), None, "a dump ends the connection");
}

pub(crate) fn register_replica(client: &mut Client) {
    let texts = [b"\x04host".as_slice(), b"\x04user", b"\x00"].concat();
    client.command(&[&[0x15, 7, 0, 0, 0], texts.as_slice(), &[0xea, 0x0c], &[0; 8]].concat());
    client.single().expect("OK");
}

/// COM_BINLOG_DUMP from the start of the log. With flag 1 it ends at the end of the log.
pub(crate) fn binlog_dump(flags: u8, log: &str) -> Vec<u8> {
    [&[0x12, 4, 0, 0, 0, flags, 0, 7, 0, 0, 0], log.as_bytes()].concat()
}

/// Records the captures that do not depend on the dialect.
pub(crate) fn record_once(studio: &Studio, login: &Login, refused: &Login) {
    killed(studio, login);
    studio.raw("wait-timeout", "idle for longer than wait_timeout", |client| {
        let mut client = client.log_in(login).expect("a login");
        client.query("SET wait_timeout = 1").expect("OK");
        while client.next_packet().is_some() {}
    });
    studio.raw("closed-after-greeting", "closes after the greeting, as health checks do", |mut client| {
        client.packet();
    });
    studio.raw("refused", "a wrong password", |client| {
        assert_eq!(client.log_in(refused).err(), Some(1045));
    });
    studio.raw("nosuch-database", "a database that does not exist", |client| {
        assert_eq!(client.log_in(&login.clone().database("nosuch")).err(), Some(1049));
    });
    studio.raw("no-quit", "closes without COM_QUIT", |client| {
        client.log_in(login).expect("a login").query("SELECT 1").expect("a row");
    });
    studio.raw("gone-while-running", "goes away while a statement runs", |client| {
        let mut client = client.log_in(login).expect("a login");
        start_sleeping(studio.server, &mut client);
    });
    studio.raw(
        "quit-out-of-order",
        "COM_QUIT with the id behind the last response, as Connector/Python 26.10's asyncio does",
        |client| {
            let mut client = client.log_in(login).expect("a login");
            client.query("SELECT 1").expect("a row");
            client.write(&[1]);
            while client.next_packet().is_some() {}
        },
    );
    change_user(studio, login);
}

/// Records connections and statements that are killed.
fn killed(studio: &Studio, login: &Login) {
    studio.raw("kill-self", "COM_PROCESS_KILL of the own connection", |client| {
        let mut client = client.log_in(login).expect("a login");
        client.command(&[&[0x0c], &client.thread_id.to_le_bytes()[..]].concat());
        client.single();
        // New servers do not support it.
        if !client.is_closed() {
            client.quit();
        }
    });
    studio.raw("kill-query-self", "KILL of the own connection", |client| {
        let mut client = client.log_in(login).expect("a login");
        let kill = client.query_payload(&format!("KILL {}", client.thread_id));
        client.command(&kill);
        while client.next_packet().is_some() {}
    });
    studio.raw("killed-idle", "killed by another session while idle", |client| {
        let mut client = client.log_in(login).expect("a login");
        client.query("SELECT 1").expect("a row");
        studio.server.sql(&format!("KILL {}", client.thread_id));
        while client.next_packet().is_some() {}
    });
    studio.raw("killed-running", "killed by another session while a statement runs", |client| {
        let mut client = client.log_in(login).expect("a login");
        start_sleeping(studio.server, &mut client);
        studio.server.sql(&format!("KILL {}", client.thread_id));
        while client.next_packet().is_some() {}
    });
    studio.raw("killed-statement", "its statement killed by another session", |client| {
        let mut client = client.log_in(login).expect("a login");
        start_sleeping(studio.server, &mut client);
        studio.server.sql(&format!("KILL QUERY {}", client.thread_id));
        client.results();
        client.command(&[0x0e]);
        client.single().expect("OK");
        client.quit();
    });
}

fn start_sleeping(server: &Database, client: &mut Client) {
    let sleep = client.query_payload("SELECT SLEEP(2)");
    client.command(&sleep);
    let id = client.thread_id;
    wait_for("statement that runs", Duration::from_secs(5), || {
        let running = server.sql(&format!(
            "SELECT 1 FROM information_schema.processlist WHERE id = {id} AND state = 'User sleep'"
        ));
        (!running.is_empty()).then_some(())
    });
}

fn change_user(studio: &Studio, login: &Login) {
    studio.raw("change-user", "COM_CHANGE_USER to itself and to another database", |client| {
        let mut client = client.log_in(login).expect("a login");
        let plugin = client.plugin.clone();
        client.query("SET @a = 1").expect("OK");
        client.change_user(login, &plugin).expect("the same user");
        client.query("SELECT @a, DATABASE()").expect("a row");
        client.change_user(&login.clone().database(""), &plugin).expect("without a database");
        client.query("SELECT DATABASE()").expect("a row");
        client.quit();
    });
    studio.raw("change-user-switch", "COM_CHANGE_USER with another plugin than the user has", |client| {
        let mut client = client.log_in(login).expect("a login");
        client.change_user(login, "mysql_clear_password").expect("the same user");
        client.query("SELECT 1").expect("a row");
        client.quit();
    });
    studio.raw("change-user-refused", "COM_CHANGE_USER with a wrong password, four times", |client| {
        let mut client = client.log_in(login).expect("a login");
        let plugin = client.plugin.clone();
        let wrong = login.clone().user(USER, "wrong");
        for _ in 0..4 {
            if !client.is_closed() {
                client.change_user(&wrong, &plugin);
            }
        }
    });
}

/// Records an error instead of a greeting, from a server with this `max_connections`.
pub(crate) fn record_too_many(studio: &Studio, login: &Login, max_connections: usize) {
    let held: Vec<_> = (0..max_connections).map(|_| Client::login(studio.server.addr(), login)).collect();
    studio.raw("too-many-connections", "when max_connections are open", |client| {
        assert_eq!(client.log_in(login).err(), Some(1040));
    });
    for client in held {
        client.quit();
    }
}

/// Records the shutdown of the server while the connection is idle.
pub(crate) fn record_shutdown(studio: &Studio, login: &Login) {
    studio.raw("shutdown-while-idle", "the server is shut down", |client| {
        let mut client = client.log_in(login).expect("a login");
        client.query("SELECT 1").expect("a row");
        let id = i32::try_from(studio.server.process_id()).expect("a process id");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("a signal to a child process");
        while client.next_packet().is_some() {}
    });
}

/// Records the command-line client of either product.
pub(crate) fn record_command_line(studio: &Studio, name: &str, program: &Path, arguments: &[&str]) {
    let shown = program.file_name().expect("a name").to_string_lossy();
    studio.record(name, &format!("{shown} {}", arguments.join(" ")), |address| {
        crate::command_line(program, address, arguments);
    });
}
