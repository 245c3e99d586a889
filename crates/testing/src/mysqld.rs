//! A private MySQL: its own data directory, socket and port.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use super::database::{Counts, Database, Recipe, joined, run};
#[allow(unused_imports, reason = "each test uses a part of this")]
pub use super::database::{DATABASE, PASSWORD, USER};

/// A user with the password of `USER`, and with sha256_password. `USER` has caching_sha2_password. The server has no other
/// authentication plugin for TCP.
pub const SHA256_USER: &str = "sha256";

/// Option for [`MySql::start`] that turns TLS off, so that the filter can inspect clients that prefer it.
pub const NO_TLS: &str = "--tls-version=";

/// Options for a small server without durability, because the data is removed after the test.
const COMMON: [&str; 7] = [
    "--innodb-redo-log-capacity=16M",
    "--innodb-buffer-pool-size=32M",
    "--innodb-data-file-path=ibdata1:5M:autoextend",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--innodb-use-native-aio=0",
    "--secure-file-priv=",
];

/// Statements that set up the template, one on each line.
const SETUP: &str = "\
CREATE DATABASE demo;
CREATE USER app@'%' IDENTIFIED WITH caching_sha2_password BY 'app';
CREATE USER sha256@'%' IDENTIFIED WITH sha256_password BY 'app';
GRANT ALL ON *.* TO app@'%', sha256@'%';
";

/// Names of commands in `performance_schema`, by our label. It counts COM_QUERY by the kinds of its statements.
const EVENTS: [(&str, &str); 25] = [
    ("sleep", "Sleep"),
    ("quit", "Quit"),
    ("init_db", "Init DB"),
    ("field_list", "Field List"),
    ("create_db", "Create DB"),
    ("drop_db", "Drop DB"),
    ("refresh", "Refresh"),
    ("shutdown", "Shutdown"),
    ("statistics", "Statistics"),
    ("process_info", "Processlist"),
    ("process_kill", "Kill"),
    ("debug", "Debug"),
    ("ping", "Ping"),
    ("change_user", "Change user"),
    ("binlog_dump", "Binlog Dump"),
    ("binlog_dump_gtid", "Binlog Dump GTID"),
    ("register_slave", "Register Replica"),
    ("stmt_prepare", "Prepare"),
    ("stmt_execute", "Execute"),
    ("stmt_send_long_data", "Long Data"),
    ("stmt_close", "Close stmt"),
    ("stmt_reset", "Reset stmt"),
    ("set_option", "Set option"),
    ("stmt_fetch", "Fetch"),
    ("reset_connection", "Reset Connection"),
];

/// A running server. When it is dropped, the server ends and its data is removed.
pub struct MySql(Database);

impl MySql {
    /// Starts a server with further options (`--wait-timeout=3`), and waits until it accepts connections.
    pub fn start(options: &[&str]) -> Self {
        let recipe = Recipe {
            name: "MySQL",
            program: super::mysqld(),
            common: &COMMON,
            serving: vec!["--mysqlx=OFF".into(), "--event-scheduler=OFF".into()],
            port_taken: "Do you already have another mysqld server running on port",
            setup: SETUP,
            initialise,
            status_schema: "performance_schema",
            // The server stops counting the monitor's statements.
            monitor: &[
                "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID()",
            ],
            count,
        };
        Self(Database::start(recipe, options))
    }
}

impl Deref for MySql {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.0
    }
}

impl DerefMut for MySql {
    fn deref_mut(&mut self) -> &mut Database {
        &mut self.0
    }
}

fn count(server: &Database) -> Counts {
    let events = server.counts(
        "SELECT EVENT_NAME, COUNT_STAR FROM performance_schema.events_statements_summary_global_by_event_name \
         WHERE COUNT_STAR > 0",
    );
    let named = |event: &str| events.get(&format!("statement/com/{event}")).copied().unwrap_or(0);
    let mut commands: BTreeMap<_, _> = EVENTS.map(|(label, event)| (label.into(), named(event))).into();
    let statements = events.iter().filter(|(event, _)| event.starts_with("statement/sql/"));
    commands.insert("query".into(), statements.map(|(_, count)| count).sum());
    // The table also has warnings and notes. Their numbers do not show their kind.
    let errors = server.counts(
        "SELECT ERROR_NUMBER, SUM_ERROR_RAISED - SUM_ERROR_HANDLED \
         FROM performance_schema.events_errors_summary_global_by_error \
         WHERE ERROR_NUMBER IS NOT NULL AND SUM_ERROR_RAISED > SUM_ERROR_HANDLED",
    );
    let sums = server.sql(
        "SELECT SUM(SUM_ROWS_SENT), SUM(SUM_ROWS_AFFECTED), SUM(SUM_WARNINGS), SUM(SUM_ERRORS) \
         FROM performance_schema.events_statements_summary_global_by_event_name",
    );
    let sum = |index: usize| sums[0][index].parse().expect("a sum");
    Counts {
        commands,
        errors: errors.into_iter().map(|(errno, n)| (errno.parse().expect("an errno"), n)).collect(),
        rows: sum(0),
        affected_rows: Some(sum(1)),
        warnings: Some(sum(2)),
        failed: Some(sum(3)),
    }
}

fn initialise(recipe: &Recipe, data: &Path) {
    let setup = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(setup.path(), SETUP).expect("statements for --init-file");
    let mut arguments = recipe.arguments(data);
    arguments.extend(["--initialize-insecure".into(), joined("--init-file=", setup.path())]);
    run(&recipe.program, arguments);
    // The server's identity. A server that runs on a copy of the template creates its own.
    std::fs::remove_file(data.join("auto.cnf")).expect("the server's identity");
}
