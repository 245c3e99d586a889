//! What a private MariaDB and a private MySQL have in common: a data directory copied from a template, a port and a
//! socket of its own, a monitor that asks the server what it counted.

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

/// Who may log in over TCP, and with which password.
pub const USER: &str = "app";
pub const PASSWORD: &str = "app";
/// The database there is.
pub const DATABASE: &str = "demo";

/// Makes the server look up the names of its clients' hosts, and remember the hosts. That is what both do unless told
/// otherwise; MySQL takes even `=0` for being told so.
pub const RESOLVE: &str = "--skip-name-resolve=0";

const START: Duration = Duration::from_secs(60);

/// How to make and start servers of one kind.
pub struct Recipe {
    pub name: &'static str,
    pub program: PathBuf,
    /// Options of every run, `--datadir` left out.
    pub common: &'static [&'static str],
    /// Options of every run but the one that makes the template.
    pub serving: Vec<OsString>,
    /// What the error log says when somebody else has the port.
    pub port_taken: &'static str,
    /// What the template is made of besides the program and `common`.
    pub setup: &'static str,
    /// Makes the template's data directory.
    pub initialise: fn(&Recipe, &Path),
    /// Where the tables of status variables are.
    pub status_schema: &'static str,
    /// What the monitor says first.
    pub monitor: &'static [&'static str],
    /// The part of an [`Oracle`] that is asked for differently.
    pub count: fn(&Database) -> Counts,
}

impl Recipe {
    /// The options that any start of the program needs.
    pub fn arguments(&self, data: &Path) -> Vec<OsString> {
        let mut arguments = vec!["--no-defaults".into(), joined("--datadir=", data)];
        arguments.extend(self.common.iter().map(OsString::from));
        if nix::unistd::geteuid().is_root() {
            // Else it refuses to run as root.
            arguments.push("--user=root".into());
        }
        arguments
    }

    /// A data directory to copy, made by the first who needs it: making one takes seconds, a copy a fraction.
    fn template(&self) -> PathBuf {
        let version = Command::new(&self.program).args(["--no-defaults", "--version"]).output();
        let version = version.unwrap_or_else(|e| panic!("{}'s version: {e}", self.name)).stdout;
        // Another server or another set-up, another template.
        let mut made_of = DefaultHasher::new();
        (version, self.setup, self.common).hash(&mut made_of);
        let tools = super::root().join("target/tools");
        let template = tools.join(format!("data-{:016x}", made_of.finish()));

        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !template.exists() {
            // Other processes may do the same now: all finish apart, the first one's name stays.
            let dir = tempfile::tempdir_in(tools).expect("a directory below target/tools");
            let data = dir.path().join("data");
            (self.initialise)(self, &data);
            if let Err(e) = std::fs::rename(&data, &template) {
                assert!(template.exists(), "cannot keep {}'s data directory: {e}", self.name);
            }
        }
        template
    }

    /// `None`: somebody else took the port.
    fn launch(&self, dir: &Path, options: &[&str]) -> Option<(Process, u16, Conn)> {
        let (socket, log) = (dir.join("mysql.sock"), dir.join("error.log"));
        let port = free_port();
        let mut arguments = self.arguments(&dir.join("data"));
        arguments.extend([
            joined("--socket=", &socket),
            joined("--pid-file=", &dir.join("mysql.pid")),
            format!("--port={port}").into(),
            "--bind-address=127.0.0.1".into(),
            // A test may abort as many logins as it likes.
            "--max-connect-errors=1000000".into(),
            "--max-allowed-packet=64M".into(),
        ]);
        if !options.contains(&RESOLVE) {
            // Everybody is an address.
            arguments.push("--skip-name-resolve".into());
        }
        arguments.extend(self.serving.iter().cloned());
        arguments.extend(options.iter().filter(|option| **option != RESOLVE).map(OsString::from));
        let mut process = Process::start(&self.program, &arguments, &log, &log);
        let monitor = wait_for(&format!("{} that answers", self.name), START, || {
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

/// What a server itself counted, the monitor left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oracle {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub connections: u64,
    pub counts: Counts,
}

/// The part of it that each kind of server tells in its own way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By the filter's label: each one this kind of server can tell about, zeros included. MySQL counts a `query` for each
    /// of its statements.
    pub commands: BTreeMap<String, u64>,
    /// Errors by their numbers, none with a zero. MySQL counts warnings among them.
    pub errors: BTreeMap<u16, u64>,
    pub rows: u64,
    /// `None`: this kind of server does not count it.
    pub affected_rows: Option<u64>,
    pub warnings: Option<u64>,
    /// Statements and other commands that ended with an error.
    pub failed: Option<u64>,
}

impl Oracle {
    /// What was counted after `earlier`.
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

/// A running server; dropped, it ends and its data is gone.
pub struct Database {
    // Before the process: it says QUIT while there is a server.
    monitor: Mutex<Conn>,
    process: Process,
    port: u16,
    dir: TempDir,
    recipe: Recipe,
}

impl Database {
    /// Starts one with these further options and waits until it answers.
    pub fn start(recipe: Recipe, options: &[&str]) -> Self {
        let dir = temp_dir();
        copy(&recipe.template(), &dir.path().join("data"));
        // The port was free a moment ago. Who loses the race for it starts again with another one.
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

    /// It is MySQL, not MariaDB.
    pub fn is_mysql(&self) -> bool {
        self.recipe.name == "MySQL"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The Unix socket, where root logs in without a password.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("mysql.sock")
    }

    /// A file in the data directory.
    pub fn data_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// Runs one statement as root, on the monitor's connection; NULL comes as `NULL`.
    pub fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let mut monitor = self.monitor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let rows: Vec<Row> = monitor.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// The rows of a statement that gives a name and a number.
    pub fn counts(&self, statement: &str) -> BTreeMap<String, u64> {
        let rows = self.sql(statement).into_iter();
        rows.map(|row| (row[0].clone(), row[1].parse().expect("a count"))).collect()
    }

    /// One of [`Database::statuses`].
    pub fn status(&self, name: &str) -> u64 {
        self.statuses(&[name])[name]
    }

    /// `SHOW GLOBAL STATUS` without what the monitor, the one connection that asks, has itself caused: its session's values
    /// are taken off in the same statement. Its logging in stays in counters that sessions do not have (`Connections`,
    /// once, before anybody can ask).
    pub fn statuses(&self, names: &[&str]) -> BTreeMap<String, u64> {
        let list =
            names.iter().map(|name| format!("'{}'", name.to_uppercase())).collect::<Vec<_>>().join(",");
        // The session's value of what only the server has is the server's: nothing would be left.
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

    /// What it counted so far. Take one before and one after: [`Oracle::since`].
    pub fn oracle(&self) -> Oracle {
        let statuses = self.statuses(&["Bytes_received", "Bytes_sent", "Connections"]);
        Oracle {
            bytes_received: statuses["Bytes_received"],
            bytes_sent: statuses["Bytes_sent"],
            connections: statuses["Connections"],
            counts: (self.recipe.count)(self),
        }
    }

    /// The same once all others have gone: a server counts a session's end a moment after the client sees it.
    pub fn oracle_when_alone(&self) -> Oracle {
        wait_for("server without other sessions", Duration::from_secs(20), || {
            (self.status("Threads_connected") == 1).then_some(())
        });
        self.oracle()
    }

    /// The server's own log.
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

/// Runs a program that makes data and ends; panics with what it said when it fails.
pub fn run<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&said));
}

fn copy(from: &Path, to: &Path) {
    run(Path::new("cp"), [OsStr::new("-r"), OsStr::new("--reflink=auto"), from.as_os_str(), to.as_os_str()]);
}
