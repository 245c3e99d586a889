//! The servers that other tests take for oracles count what a client does, and nothing the monitor does.

// A panic is how a test reports.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};
use support::database::{DATABASE, Database, PASSWORD, USER};
use support::mariadb::{self, MariaDb};
#[cfg(feature = "mysqld")]
use support::mysqld::{MySql, NO_TLS};

fn session(server: &Database) {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(server.port())
        .prefer_socket(false)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        // Else it asks for the server's variables.
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

fn counts_a_session(server: &Database) {
    let before = server.oracle();
    assert_eq!(server.oracle().since(&before).bytes_sent, 0, "the monitor is left out");
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
    counts_a_session(&server);
}

#[cfg(feature = "mysqld")]
#[test]
fn mysql_counts_a_session() {
    let server = MySql::start(&[NO_TLS]);
    let before = server.oracle();
    counts_a_session(&server);
    let counts = server.oracle_when_alone().since(&before).counts;
    assert_eq!((counts.commands["ping"], counts.affected_rows, counts.warnings), (1, Some(3), Some(0)));
}
