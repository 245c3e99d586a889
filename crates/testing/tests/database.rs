//! The servers that other tests use as oracles count the commands of clients, and not those of the monitor.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use firstword_testing::client::QUERY_ATTRIBUTES;
use firstword_testing::client::{CLASSIC, Client, DEPRECATE_EOF, Login, SESSION_TRACK};
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};
use firstword_testing::mariadb::{self, MariaDb};
use firstword_testing::mysqld::{MySql, NO_TLS, SHA256_USER};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

fn session(server: &Database) {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(server.port())
        .prefer_socket(false)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        // Without it the driver queries the server's variables.
        .max_allowed_packet(Some(64 << 20))
        .db_name(Some(DATABASE));
    let mut connection = Conn::new(options).unwrap();
    connection.query_drop("CREATE TABLE counted (id INT PRIMARY KEY)").unwrap();
    connection.query_drop("INSERT INTO counted VALUES (1), (2), (3)").unwrap();
    let rows: Vec<u64> = connection.query("SELECT id FROM counted").unwrap();
    assert_eq!(rows, [1, 2, 3]);
    connection.query_drop("SELECT * FROM nosuch").unwrap_err();
    connection.query_drop("SELECT FROM").unwrap_err();
    let statement = connection.prep("SELECT ?").unwrap();
    let row: Option<Value> = connection.exec_first(&statement, (1,)).unwrap();
    assert_eq!(row, Some(Value::Int(1)));
    connection.close(statement).unwrap();
    connection.query_drop("DROP TABLE counted").unwrap();
    connection.ping().unwrap();
}

fn assert_session_counted(server: &Database) {
    let before = server.oracle();
    assert_eq!(server.oracle().since(&before).bytes_sent, 0, "of the monitor");
    session(server);
    let oracle = server.oracle_when_alone().since(&before);
    let counts = &oracle.counts;
    assert_eq!(oracle.connections, 1);
    assert!(oracle.bytes_received > 0 && oracle.bytes_sent > oracle.bytes_received, "{oracle:?}");
    for (label, expected) in [
        ("query", 6),
        ("stmt_prepare", 1),
        ("stmt_execute", 1),
        ("stmt_close", 1),
        ("quit", 1),
        ("field_list", 0),
    ] {
        assert_eq!(counts.commands[label], expected, "{label}: {oracle:?}");
    }
    assert_eq!(counts.errors, [(1064, 1), (1146, 1)].into(), "{oracle:?}");
    assert_eq!(counts.rows, 4, "{oracle:?}");
}

#[test]
fn mariadb_counts_a_session() {
    let server = MariaDb::start(&mariadb::COUNTED);
    assert_session_counted(&server);
}

mod needs_mysqld {
    use super::*;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn mysql_counts_a_session() {
        let server = MySql::start(&[NO_TLS]);
        let before = server.oracle();
        assert_session_counted(&server);
        let counts = server.oracle_when_alone().since(&before).counts;
        assert_eq!((counts.commands["ping"], counts.affected_rows, counts.warnings), (1, Some(3), Some(0)));
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn the_raw_client_works_with_mysql() {
        let server = MySql::start(&[]);
        // The first login of a user sends the whole password. The next ones are fast.
        for user in [USER, USER, SHA256_USER] {
            for capabilities in [CLASSIC, MODERN | QUERY_ATTRIBUTES] {
                raw_session(&server, &Login::new(capabilities).user(user, PASSWORD));
            }
        }
    }
}

/// Logs in, requests a result set in the text and in the binary protocol, and quits.
fn raw_session(server: &Database, login: &Login) {
    let mut client = Client::login(server.addr(), login);
    client.query("SELECT 1, 'two' UNION SELECT 2, NULL").expect("rows");
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    let statement = client.prepare("SELECT ? + 1").expect("a statement").statement_id();
    client.execute(statement, 0, &["7"]).expect("a row");
    client.pipeline(&[&[0x0e], &[0x19, 1, 0, 0, 0], &[0x0e]]);
    for _ in 0..2 {
        client.single().expect("a response to COM_PING");
    }
    client.quit();
}

const MODERN: u32 = CLASSIC | DEPRECATE_EOF | SESSION_TRACK;

#[test]
fn the_raw_client_works_with_mariadb() {
    let server = MariaDb::start(&[]);
    for capabilities in [CLASSIC, MODERN] {
        raw_session(&server, &Login::new(capabilities));
    }
    let refused = Client::connect(server.addr()).log_in(&Login::new(CLASSIC).user(USER, "wrong"));
    assert_eq!(refused.err(), Some(1045));
}
