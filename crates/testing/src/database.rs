//! The common parts of a private MariaDB and a private MySQL: a copied data directory, a port, a socket, and a monitor
//! connection that reads the server's counters.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::process::{Process, read_log};
use super::{free_port, loopback, temp_dir, wait_for};

/// The user that may log in over TCP.
pub const USER: &str = "app";
pub const PASSWORD: &str = "app";
/// The only database for tests.
pub const DATABASE: &str = "demo";

/// Option that makes the server look up and remember the names of its clients' hosts. That is the default of both servers, and
/// `Recipe::launch` omits the option, because MySQL takes even `=0` for `=1`.
pub const RESOLVE: &str = "--skip-name-resolve=0";

const START: Duration = Duration::from_secs(60);

/// Instructions to create and start servers of one kind.
pub struct Recipe {
    pub name: &'static str,
    pub program: PathBuf,
    /// Options of every run, without `--datadir`.
    pub common: &'static [&'static str],
    /// Options of every run except the one that makes the template.
    pub serving: Vec<OsString>,
    /// Text in the error log if another process has the port.
    pub port_taken: &'static str,
    /// Statements that set up the template.
    pub setup: &'static str,
    /// Makes the template's data directory.
    pub initialise: fn(&Recipe, &Path),
    /// Schema of the tables of status variables.
    pub status_schema: &'static str,
    /// First statements of the monitor.
    pub monitor: &'static [&'static str],
    /// Reads the part of an [`Oracle`] that differs between the servers.
    pub count: fn(&Database) -> Counts,
}

impl Recipe {
    /// Options that every start of the program needs.
    pub fn arguments(&self, data: &Path) -> Vec<OsString> {
        let mut arguments = vec!["--no-defaults".into(), joined("--datadir=", data)];
        arguments.extend(self.common.iter().map(OsString::from));
        if nix::unistd::geteuid().is_root() {
            // Without it the server refuses to run as root.
            arguments.push("--user=root".into());
        }
        arguments
    }

    /// A data directory to copy. The first caller creates it, because that takes seconds and a copy takes a fraction.
    fn template(&self) -> PathBuf {
        let version = Command::new(&self.program).args(["--no-defaults", "--version"]).output();
        let version = version.unwrap_or_else(|e| panic!("{}'s version: {e}", self.name)).stdout;
        // Another server or set-up needs another template.
        let mut made_of = DefaultHasher::new();
        (version, self.setup, self.common).hash(&mut made_of);
        let tools = super::root().join("target/tools");
        let template = tools.join(format!("data-{:016x}", made_of.finish()));

        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !template.exists() {
            // Other processes may do the same now. Each has its own directory, and the first rename wins.
            let dir = tempfile::tempdir_in(tools).expect("a directory below target/tools");
            let data = dir.path().join("data");
            (self.initialise)(self, &data);
            if let Err(e) = std::fs::rename(&data, &template) {
                assert!(template.exists(), "cannot keep {}'s data directory: {e}", self.name);
            }
        }
        template
    }

    /// Starts a server. `None` if another process took the port.
    fn launch(&self, dir: &Path, options: &[&str]) -> Option<(Process, u16, Conn)> {
        let (socket, log) = (dir.join("mysql.sock"), dir.join("error.log"));
        let port = free_port();
        let mut arguments = self.arguments(&dir.join("data"));
        arguments.extend([
            joined("--socket=", &socket),
            joined("--pid-file=", &dir.join("mysql.pid")),
            format!("--port={port}").into(),
            "--bind-address=127.0.0.1".into(),
            // Tests may abort any number of logins.
            "--max-connect-errors=1000000".into(),
            "--max-allowed-packet=64M".into(),
        ]);
        if !options.contains(&RESOLVE) {
            // Hosts of accounts are addresses.
            arguments.push("--skip-name-resolve".into());
        }
        arguments.extend(self.serving.iter().cloned());
        arguments.extend(options.iter().filter(|option| **option != RESOLVE).map(OsString::from));
        let mut process = Process::start(&self.program, &arguments, &log, &log);
        let monitor = wait_for(&format!("{} that accepts connections", self.name), START, || {
            if let Some(status) = process.exit_status() {
                let log = read_log(&log);
                assert!(log.contains(self.port_taken), "{} ended: {status}\n{log}", self.name);
                return Some(None);
            }
            let socket = socket.to_str().expect("a path in UTF-8");
            let options = OptsBuilder::new().user(Some("root")).socket(Some(socket)).prefer_socket(true);
            Conn::new(options).ok().map(Some)
        })?;
        Some((process, port, monitor))
    }
}

/// Counts of a server, without its monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oracle {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub connections: u64,
    pub counts: Counts,
}

/// The part of an [`Oracle`] that each kind of server reports in its own way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of commands by the filter's label, with zeros, for each command that this kind of server counts. MySQL counts a
    /// `query` for each of its statements.
    pub commands: BTreeMap<String, u64>,
    /// Number of errors by errno, without zeros. MySQL counts warnings among them.
    pub errors: BTreeMap<u16, u64>,
    pub rows: u64,
    /// `None` if this kind of server does not count them. So with `warnings` and `failed`.
    pub affected_rows: Option<u64>,
    pub warnings: Option<u64>,
    /// Number of statements and other commands that ended with an error.
    pub failed: Option<u64>,
}

impl Oracle {
    /// The counts since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let (now, then) = (&self.counts, &earlier.counts);
        let both = |now: Option<u64>, then: Option<u64>| Some(now? - then?);
        Self {
            bytes_received: self.bytes_received - earlier.bytes_received,
            bytes_sent: self.bytes_sent - earlier.bytes_sent,
            connections: self.connections - earlier.connections,
            counts: Counts {
                commands: now
                    .commands
                    .iter()
                    .map(|(label, n)| (label.clone(), n - then.commands[label]))
                    .collect(),
                errors: now
                    .errors
                    .iter()
                    .map(|(errno, n)| (*errno, n - then.errors.get(errno).unwrap_or(&0)))
                    .filter(|(_, n)| *n > 0)
                    .collect(),
                rows: now.rows - then.rows,
                affected_rows: both(now.affected_rows, then.affected_rows),
                warnings: both(now.warnings, then.warnings),
                failed: both(now.failed, then.failed),
            },
        }
    }
}

/// A running server. When it is dropped, the server ends and its data is removed.
pub struct Database {
    // Declared, and so dropped, before the process, because it sends COM_QUIT.
    monitor: Mutex<Conn>,
    process: Process,
    port: u16,
    dir: TempDir,
    recipe: Recipe,
}

impl Database {
    /// Starts a server with further options, and waits until it accepts connections.
    pub fn start(recipe: Recipe, options: &[&str]) -> Self {
        let dir = temp_dir();
        copy(&recipe.template(), &dir.path().join("data"));
        // Another process may have taken a port that was free. Then the server starts again with another port.
        for _ in 0..5 {
            if let Some((process, port, monitor)) = recipe.launch(dir.path(), options) {
                let server = Self { monitor: Mutex::new(monitor), process, port, dir, recipe };
                for statement in server.recipe.monitor {
                    server.sql(statement);
                }
                return server;
            }
        }
        panic!("{} found no port to listen on:\n{}", recipe.name, read_log(&dir.path().join("error.log")));
    }

    /// True for MySQL, false for MariaDB.
    pub fn is_mysql(&self) -> bool {
        self.recipe.name == "MySQL"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The Unix socket. On it root logs in without a password.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("mysql.sock")
    }

    /// A file in the data directory.
    pub fn data_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// Runs one statement as root, on the monitor's connection. NULL becomes the text `NULL`.
    pub fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let mut monitor = self.monitor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let rows: Vec<Row> = monitor.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// The result of a statement whose rows are a name and a number.
    pub fn counts(&self, statement: &str) -> BTreeMap<String, u64> {
        let rows = self.sql(statement).into_iter();
        rows.map(|row| (row[0].clone(), row[1].parse().expect("a count"))).collect()
    }

    /// One value of [`Database::statuses`].
    pub fn status(&self, name: &str) -> u64 {
        self.statuses(&[name])[name]
    }

    /// Values of `SHOW GLOBAL STATUS` without the monitor's own share: the same statement subtracts the values of its session.
    /// Counters that sessions do not have, as `Connections`, include the monitor's login.
    pub fn statuses(&self, names: &[&str]) -> BTreeMap<String, u64> {
        let list =
            names.iter().map(|name| format!("'{}'", name.to_uppercase())).collect::<Vec<_>>().join(",");
        // Subtract only counters that sessions have. For others the session's value is the server's, and the result would be 0.
        let rows = self.sql(&format!(
            "SELECT g.variable_name, g.variable_value - IF(g.variable_name REGEXP \
             '^(BYTES_|COM_|ROWS_|QUESTIONS$|EMPTY_QUERIES$|FEATURE_)', s.variable_value, 0) \
             FROM {0}.global_status g JOIN {0}.session_status s USING (variable_name) \
             WHERE g.variable_name IN ({list})",
            self.recipe.status_schema
        ));
        names
            .iter()
            .map(|&name| {
                let row = rows.iter().find(|row| row[0].eq_ignore_ascii_case(name));
                let value = row.and_then(|row| row[1].parse::<f64>().ok());
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let value = value.unwrap_or_else(|| panic!("no status {name}: {rows:?}")) as u64;
                (name.to_owned(), value)
            })
            .collect()
    }

    /// The counts so far. Compare two of them with [`Oracle::since`].
    pub fn oracle(&self) -> Oracle {
        let statuses = self.statuses(&["Bytes_received", "Bytes_sent", "Connections"]);
        Oracle {
            bytes_received: statuses["Bytes_received"],
            bytes_sent: statuses["Bytes_sent"],
            connections: statuses["Connections"],
            counts: (self.recipe.count)(self),
        }
    }

    /// Waits until no session but the monitor's is left. A server ends a session shortly after the client sees it.
    pub fn wait_until_alone(&self, patience: Duration) {
        wait_for("server without other sessions", patience, || {
            (self.status("Threads_connected") == 1).then_some(())
        });
    }

    /// The counts when no other session is left.
    pub fn oracle_when_alone(&self) -> Oracle {
        self.wait_until_alone(Duration::from_secs(20));
        self.oracle()
    }

    /// The server's error log.
    pub fn error_log(&self) -> String {
        read_log(&self.dir.path().join("error.log"))
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn text(value: mysql::Value) -> String {
    match value {
        mysql::Value::NULL => "NULL".into(),
        mysql::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

pub fn joined(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}

/// Runs a program to its end. Panics with its output if it fails.
pub fn run<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&text));
}

fn copy(from: &Path, to: &Path) {
    run(Path::new("cp"), [OsStr::new("-r"), OsStr::new("--reflink=auto"), from.as_os_str(), to.as_os_str()]);
}
