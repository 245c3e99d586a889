//! A private MariaDB: its own data directory, socket and port.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::database::{Counts, Database, Recipe, joined, run};
#[allow(unused_imports, reason = "each test uses a part of this")]
pub use super::database::{DATABASE, PASSWORD, USER};
use super::process::{in_path, read_log};

/// Statements that set up the template. They remove anonymous users, whose accounts would match before `app`.
const SETUP: &str = "
FLUSH PRIVILEGES;
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE DATABASE demo;
CREATE USER app@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('app');
GRANT ALL ON *.* TO app@'%';
";

/// Options for a small server without durability, because the data is removed after the test.
const COMMON: [&str; 4] = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-use-native-aio=0",
];

/// Statements that create the tables of the schema `mysql`.
const SYSTEM_TABLES: [&str; 5] = [
    "mariadb_system_tables.sql",
    "mariadb_performance_tables.sql",
    "mariadb_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "mariadb_sys_schema.sql",
];

/// Options for [`MariaDb::start`] that keep the general log in a table, where [`MariaDb::logged`] reads it.
pub const GENERAL_LOG: [&str; 2] = ["--general-log=1", "--log-output=TABLE"];

/// Options for [`MariaDb::start`] that [`Database::oracle`] needs.
pub const COUNTED: [&str; 3] = ["--general-log=1", "--log-output=TABLE", "--plugin-load-add=sql_errlog"];

/// Names of commands in the general log, by our label. The log omits COM_PING and commands that cannot run: with a bad statement
/// id, a statement that cannot be prepared, or an unknown schema.
const LOGGED: [(&str, &str); 17] = [
    ("quit", "Quit"),
    ("init_db", "Init DB"),
    ("query", "Query"),
    ("field_list", "Field List"),
    ("create_db", "Create DB"),
    ("drop_db", "Drop DB"),
    ("refresh", "Refresh"),
    ("statistics", "Statistics"),
    ("process_info", "Processlist"),
    ("debug", "Debug"),
    ("change_user", "Change user"),
    ("binlog_dump", "Binlog Dump"),
    ("register_slave", "Register Slave"),
    ("stmt_prepare", "Prepare"),
    ("stmt_execute", "Execute"),
    ("stmt_close", "Close stmt"),
    ("stmt_reset", "Reset stmt"),
];

/// A running server. When it is dropped, the server ends and its data is removed.
pub struct MariaDb(Database);

impl MariaDb {
    /// Starts a server with further options (`--wait-timeout=3`), and waits until it accepts connections.
    pub fn start(options: &[&str]) -> Self {
        Self::start_by(super::mariadbd(), options)
    }

    /// Starts a server by a program that becomes the server, in another namespace. Only the monitor must be able to reach it.
    pub fn start_by(program: PathBuf, options: &[&str]) -> Self {
        // Plug-ins are installed with the package of the service, or unpacked by `make tools`.
        let plugins = super::root().join("target/tools/mariadb-plugins");
        let serving = plugins.exists().then(|| joined("--plugin-dir=", &plugins)).into_iter().collect();
        Self(Database::start(recipe(program, serving, initialise), options))
    }

    /// Starts a newer server, which has parsec.
    pub fn start_new(options: &[&str]) -> Self {
        Self(Database::start(recipe(super::new_mariadbd(), Vec::new(), initialise_new), options))
    }

    /// Number of commands of other connections than the monitor's, by their name in the general log (`Connect`, `Query`,
    /// `Prepare`, `Close stmt`, ...), since the start or the last [`MariaDb::clear_log`]. Needs [`GENERAL_LOG`] at the start.
    pub fn logged(&self) -> BTreeMap<String, u64> {
        logged(&self.0)
    }

    /// Empties the general log.
    pub fn clear_log(&self) {
        self.sql("TRUNCATE mysql.general_log");
    }
}

impl Deref for MariaDb {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.0
    }
}

impl DerefMut for MariaDb {
    fn deref_mut(&mut self) -> &mut Database {
        &mut self.0
    }
}

fn recipe(program: PathBuf, serving: Vec<OsString>, initialise: fn(&Recipe, &Path)) -> Recipe {
    Recipe {
        name: "MariaDB",
        program,
        common: &COMMON,
        serving,
        port_taken: "Bind on TCP/IP port",
        setup: SETUP,
        initialise,
        status_schema: "information_schema",
        monitor: &[],
        count,
    }
}

fn logged(server: &Database) -> BTreeMap<String, u64> {
    server.counts(
        "SELECT command_type, COUNT(*) FROM mysql.general_log WHERE thread_id <> CONNECTION_ID() GROUP BY command_type",
    )
}

fn count(server: &Database) -> Counts {
    let plugins = server.sql("SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'SQL_ERROR_LOG'");
    let counted = server.sql("SELECT @@general_log") == [["1"]] && !plugins.is_empty();
    assert!(counted, "an oracle needs MariaDb::start(&COUNTED)");
    let logged = logged(server);
    let mut errors = BTreeMap::new();
    // `2026-01-31 12:00:00 app[app] @ localhost [127.0.0.1] ERROR 1064: You have ... : SELECT`. Statements can span lines.
    for line in read_log(&server.data_file("sql_errors.log")).lines() {
        let errno = line.split_once("] ERROR ").and_then(|(_, rest)| rest.split_once(':')?.0.parse().ok());
        if let Some(errno) = errno {
            *errors.entry(errno).or_insert(0) += 1;
        }
    }
    Counts {
        commands: LOGGED.map(|(label, word)| (label.into(), logged.get(word).copied().unwrap_or(0))).into(),
        errors,
        rows: server.status("Rows_sent"),
        affected_rows: None,
        warnings: None,
        failed: None,
    }
}

fn initialise(recipe: &Recipe, data: &Path) {
    let install = in_path("mariadb-install-db").expect("mariadb-install-db in PATH; run: make tools");
    let mut arguments = recipe.arguments(data);
    // Without --force it fails if the machine's own name does not resolve, as in a bare container.
    let options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--force"];
    arguments.extend(options.map(Into::into));
    run(&install, arguments);
    bootstrap(recipe, data, SETUP);
}

/// The statements of `mariadb-install-db`, which would run the server without its launcher.
fn initialise_new(recipe: &Recipe, data: &Path) {
    std::fs::create_dir(data).expect("a data directory");
    let files = super::root().join("target/tools/mariadb-rootfs/usr/share/mariadb");
    let read = |name: &&str| std::fs::read_to_string(files.join(name)).expect("a file of the server");
    let system = SYSTEM_TABLES.iter().map(read).collect::<String>();
    let system = format!("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n{system}");
    bootstrap(recipe, data, &system);
    bootstrap(recipe, data, SETUP);
}

/// Runs statements in a server without network.
fn bootstrap(recipe: &Recipe, data: &Path, statements: &str) {
    let mut server = Command::new(&recipe.program);
    server.args(recipe.arguments(data)).arg("--bootstrap");
    server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = server.spawn().expect("mariadbd --bootstrap");
    server
        .stdin
        .take()
        .expect("a pipe")
        .write_all(statements.as_bytes())
        .expect("statements for --bootstrap");
    let output = server.wait_with_output().expect("the end of mariadbd --bootstrap");
    assert!(output.status.success(), "mariadbd --bootstrap: {output:?}");
}
