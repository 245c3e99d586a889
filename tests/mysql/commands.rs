//! Commands and responses that few clients use, from our own client of the protocol.

use crate::counts::{KnownDifferences, QUIET, address, assert_equal, on_both_servers, start_envoy, sum};
use firstword_testing::client::{
    CLASSIC, Client, DEPRECATE_EOF, Login, OPTIONAL_METADATA, QUERY_ATTRIBUTES, SESSION_TRACK,
};
use firstword_testing::database::{Database, PASSWORD, USER};

on_both_servers! {
    results_of_every_shape_are_counted rows_of_cursors_are_counted reset_and_changed_sessions_are_counted
    local_infile_is_counted pipelined_commands_are_counted packets_of_forty_megabytes_are_counted
}

/// Capabilities without and with those that change the format of results. A server accepts those that it knows.
const DIALECTS: [u32; 3] = [
    CLASSIC,
    CLASSIC | DEPRECATE_EOF | SESSION_TRACK,
    CLASSIC | DEPRECATE_EOF | SESSION_TRACK | OPTIONAL_METADATA | QUERY_ATTRIBUTES,
];

fn results_of_every_shape_are_counted(database: &Database) {
    let envoy = start_envoy(database);
    let before = database.oracle();
    let mut further_statements = 0;
    for capabilities in DIALECTS {
        let mut client = Client::login(address(&envoy), &Login::new(capabilities));
        client.query("CREATE TABLE shapes (id INT PRIMARY KEY, text LONGTEXT)").expect("a table");
        client
            .query("INSERT INTO shapes VALUES (1, NULL), (2, 'two'), (3, REPEAT('x', 70000))")
            .expect("rows");
        client.query("SELECT * FROM shapes").expect("rows");
        client.query("SELECT text FROM shapes WHERE id = 1").expect("a row that begins with NULL");
        client.query("SELECT 1 FROM shapes WHERE FALSE").expect("no row");
        client
            .query("SELECT 1; SELECT * FROM shapes; DELETE FROM shapes WHERE id = 3")
            .expect("three results");
        further_statements += 2;
        client.query("SELECT 1; SELECT * FROM nosuch; SELECT 2").expect_errno(1146);
        further_statements += 1;
        client.query(
            "CREATE PROCEDURE shapes_of(INOUT n INT) BEGIN SELECT * FROM shapes; SELECT n; SET n = n + 1; END",
        )
        .expect("a procedure");
        client.query("SET @n = 1").expect("a variable");
        client.query("CALL shapes_of(@n)").expect("two results");
        let call = client.prepare("CALL shapes_of(?)").expect("a statement").statement_id();
        client.execute(call, 0, &["4"]).expect("two results and the parameter");
        let select = client.prepare("SELECT * FROM shapes WHERE id = ?").expect("a statement").statement_id();
        for id in ["1", "2", "9"] {
            client.execute(select, 0, &[id]).expect("rows");
        }
        client.command(&[&[0x1a], &select.to_le_bytes()[..]].concat());
        client.single().expect("a reset");
        client.command(&[&[0x19], &select.to_le_bytes()[..]].concat());
        client.prepare("INSERT INTO shapes VALUES (?, ?)").expect("a statement without columns");
        client.command(b"\x09");
        client.single().expect("statistics");
        client.command(b"\x0e");
        client.single().expect("a pong");
        client.query("DROP PROCEDURE shapes_of").expect("a drop");
        client.query("DROP TABLE shapes").expect("a drop");
        client.quit();
    }
    assert_equal(
        database,
        &before,
        &envoy,
        KnownDifferences { further_statements, rows_counted_twice: 12, ..KnownDifferences::default() },
    );
}

fn rows_of_cursors_are_counted(database: &Database) {
    let envoy = start_envoy(database);
    let before = database.oracle();
    for capabilities in DIALECTS {
        let mut client = Client::login(address(&envoy), &Login::new(capabilities));
        client.query("CREATE TABLE many (id INT PRIMARY KEY)").expect("a table");
        let rows: Vec<_> = (0..25).map(|id| format!("({id})")).collect();
        client.query(&format!("INSERT INTO many VALUES {}", rows.join(","))).expect("rows");
        let statement = client.prepare("SELECT * FROM many").expect("a statement").statement_id();
        client.execute(statement, 1, &[]).expect("a cursor");
        for _ in 0..3 {
            client.command(&[&[0x1c], &statement.to_le_bytes()[..], &10_u32.to_le_bytes()].concat());
            client.until_eof().expect("some rows");
        }
        client.query("DROP TABLE many").expect("a drop");
        client.quit();
    }
    assert_equal(
        database,
        &before,
        &envoy,
        KnownDifferences { rows_fetched: 75, ..KnownDifferences::default() },
    );
}

fn reset_and_changed_sessions_are_counted(database: &Database) {
    let envoy = start_envoy(database);
    for capabilities in DIALECTS {
        let login = Login::new(capabilities);
        let mut client = Client::login(address(&envoy), &login);
        let plugin = client.plugin.clone();
        client.prepare("SELECT 1").expect("a statement");
        client.command(b"\x1f");
        client.single().expect("a reset");
        client.query("BEGIN").expect("a transaction");
        client.query("SELECT 1").expect("a row");
        client.prepare("SELECT 2").expect("a statement");
        client.change_user(&login, &plugin).expect("the same user");
        client.command(b"\x02information_schema");
        client.single().expect("a schema");
        client.command(b"\x02nosuch");
        client.single().expect_errno(1049);
        client.command(b"\x1b\x01\0");
        client.single().expect("multi-statements off");
        client.query("SELECT 1; SELECT 2").expect_errno(1064);
        // Not in the comparison of counts, because MariaDB does not log a COM_STMT_PREPARE that fails.
        client.prepare("SELECT nothing FROM demo.nosuch").expect_errno(1146);
        client.change_user(&login.clone().user(USER, "wrong"), &plugin).expect_errno(1045);
    }
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1045")]), 3);
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1049")]), 3);
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1064")]), 3);
    assert_eq!(sum(&metrics, "errors_total", &[("errno", "1146")]), 3);
    assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 6);
    assert_eq!(sum(&metrics, "prepared_statements_open", &[]), 0);
    assert_eq!(sum(&metrics, "transactions_open", &[]), 0);
}

fn local_infile_is_counted(database: &Database) {
    database.sql("SET GLOBAL local_infile = 1");
    let envoy = start_envoy(database);
    let before = database.oracle();
    let mut requests = 0;
    for capabilities in DIALECTS {
        let mut client = Client::login(address(&envoy), &Login::new(capabilities).user(USER, PASSWORD));
        client.query("CREATE TABLE filled (id INT PRIMARY KEY)").expect("a table");
        let load = "LOAD DATA LOCAL INFILE 'any' INTO TABLE filled";
        for file in [&["1\n2\n", "3\n"][..], &[], &["4\n"]] {
            let request = client.query(load);
            assert_eq!(
                request.0.last().and_then(|packet| packet.first()),
                Some(&0xfb),
                "a request for a file"
            );
            requests += 1;
            for piece in file {
                client.write(piece.as_bytes());
            }
            client.write(b"");
            client.single().expect("the end of the file");
        }
        client.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE nosuch").expect_errno(1146);
        client.query("SELECT * FROM filled").expect("rows");
        client.query("DROP TABLE filled").expect("a drop");
        client.quit();
    }
    assert_equal(database, &before, &envoy, KnownDifferences::default());
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "local_infile_total", &[]), requests);
}

fn pipelined_commands_are_counted(database: &Database) {
    let envoy = start_envoy(database);
    let before = database.oracle();
    for capabilities in DIALECTS {
        let mut client = Client::login(address(&envoy), &Login::new(capabilities));
        let statements = ["SELECT 1", "SELECT * FROM nosuch", "SELECT REPEAT('x', 100000)", "DO 1"];
        for _ in 0..20 {
            let payloads: Vec<_> = statements.iter().map(|text| client.query_payload(text)).collect();
            let mut all: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            all.push(b"\x0e");
            client.pipeline(&all);
            client.results().expect("a row");
            client.results().expect_errno(1146);
            client.results().expect("a long row");
            client.results().expect("an OK");
            client.single().expect("a pong");
        }
        client.quit();
    }
    assert_equal(database, &before, &envoy, KnownDifferences::default());
}

fn packets_of_forty_megabytes_are_counted(database: &Database) {
    database.sql("SET GLOBAL max_allowed_packet = 128 * 1024 * 1024");
    let envoy = start_envoy(database);
    let before = database.oracle();
    let mut client = Client::login(address(&envoy), &Login::new(CLASSIC));
    let response = client.query("SELECT REPEAT('x', 40000000)").expect("a long row");
    assert_eq!(response.0.iter().map(Vec::len).max(), Some(40_000_009));
    let text = "y".repeat(40_000_000);
    let response = client.query(&format!("SELECT LENGTH('{text}')")).expect("a length");
    assert!(response.0.contains(&b"\x0840000000".to_vec()));
    client.quit();
    assert_equal(database, &before, &envoy, KnownDifferences::default());
}
