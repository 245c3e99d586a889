//! A private MariaDB: its own data directory, socket and port.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row};
use tempfile::TempDir;

use super::process::{Process, in_path, read_log};
use super::{free_port, loopback, temp_dir, wait_for};

/// Who may log in over TCP, and with which password.
pub const USER: &str = "app";
pub const PASSWORD: &str = "app";
/// The database there is.
pub const DATABASE: &str = "demo";

const START: Duration = Duration::from_secs(30);

/// Run once, into the template. Anonymous users would be asked for before `app` is.
const SETUP: &str = "
FLUSH PRIVILEGES;
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE DATABASE demo;
CREATE USER app@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('app');
GRANT ALL ON *.* TO app@'%';
";

/// Small and without durability: the data dies with the test.
const SMALL: [&str; 4] = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-use-native-aio=0",
];

/// A running server; dropped, it ends and its data is gone.
pub struct MariaDb {
    // Before the process: it says QUIT while there is a server.
    monitor: Mutex<Conn>,
    process: Process,
    port: u16,
    dir: TempDir,
}

impl MariaDb {
    /// Starts one with these further options (`--wait-timeout=3`) and waits until it answers.
    pub fn start(options: &[&str]) -> Self {
        let dir = temp_dir();
        copy(&template(), &dir.path().join("data"));
        // The port was free a moment ago. Who loses the race for it starts again with another one.
        for _ in 0..5 {
            if let Some(server) = launch(dir.path(), options) {
                let (process, port, monitor) = server;
                return Self { monitor: Mutex::new(monitor), process, port, dir };
            }
        }
        panic!("MariaDB found no port to listen on:\n{}", read_log(&dir.path().join("error.log")));
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

    /// Runs one statement as root, on the monitor's connection; NULL comes as `NULL`.
    pub fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let mut monitor = self.monitor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let rows: Vec<Row> = monitor.query(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// One of [`MariaDb::statuses`].
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
             FROM information_schema.global_status g JOIN information_schema.session_status s USING (variable_name) \
             WHERE g.variable_name IN ({list})"
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

    /// What others than the monitor did, by the general log's words (`Connect`, `Query`, `Prepare`, `Execute`,
    /// `Close stmt`, `Quit`, ...), since the start or the last [`MariaDb::clear_log`]. Needs [`GENERAL_LOG`] at the start.
    pub fn logged(&self) -> BTreeMap<String, u64> {
        let rows = self.sql(
            "SELECT command_type, COUNT(*) FROM mysql.general_log WHERE thread_id <> CONNECTION_ID() GROUP BY command_type",
        );
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().expect("a count"))).collect()
    }

    /// Empties the general log.
    pub fn clear_log(&self) {
        self.sql("TRUNCATE mysql.general_log");
    }

    /// The server's own log.
    pub fn error_log(&self) -> String {
        read_log(&self.dir.path().join("error.log"))
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Options for [`MariaDb::start`] that keep the general log in a table, where [`MariaDb::logged`] reads it.
pub const GENERAL_LOG: [&str; 2] = ["--general-log=1", "--log-output=TABLE"];

fn text(value: mysql::Value) -> String {
    match value {
        mysql::Value::NULL => "NULL".into(),
        mysql::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// `None`: somebody else took the port.
fn launch(dir: &Path, options: &[&str]) -> Option<(Process, u16, Conn)> {
    let (socket, log) = (dir.join("mysql.sock"), dir.join("error.log"));
    let port = free_port();
    let mut arguments = common(&dir.join("data"));
    arguments.extend([
        joined("--socket=", &socket),
        joined("--pid-file=", &dir.join("mysql.pid")),
        format!("--port={port}").into(),
        "--bind-address=127.0.0.1".into(),
        // Everybody is an address; and a test may abort as many logins as it likes.
        "--skip-name-resolve".into(),
        "--max-connect-errors=1000000".into(),
        "--max-allowed-packet=64M".into(),
    ]);
    // Plug-ins are installed with the package of the service, or unpacked by `make tools`.
    let plugins = super::root().join("target/tools/mariadb-plugins");
    if plugins.exists() {
        arguments.push(joined("--plugin-dir=", &plugins));
    }
    arguments.extend(options.iter().map(OsString::from));
    let mut process = Process::start(&super::mariadbd(), &arguments, &log, &log);
    let monitor = wait_for("MariaDB that answers", START, || {
        if let Some(status) = process.exited() {
            let log = read_log(&log);
            assert!(log.contains("Bind on TCP/IP port"), "MariaDB ended: {status}\n{log}");
            return Some(None);
        }
        let socket = socket.to_str().expect("a path in UTF-8");
        let options = OptsBuilder::new().user(Some("root")).socket(Some(socket)).prefer_socket(true);
        Conn::new(options).ok().map(Some)
    })?;
    Some((process, port, monitor))
}

fn common(data: &Path) -> Vec<OsString> {
    let mut arguments = vec!["--no-defaults".into(), joined("--datadir=", data)];
    arguments.extend(SMALL.map(OsString::from));
    if nix::unistd::geteuid().is_root() {
        // Else it refuses to run as root.
        arguments.push("--user=root".into());
    }
    arguments
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}

/// A data directory to copy, made by the first who needs it: making one takes seconds, a copy a fraction.
fn template() -> PathBuf {
    let version =
        Command::new(super::mariadbd()).arg("--version").output().expect("MariaDB's version").stdout;
    // Another server or another set-up, another template.
    let mut made_of = DefaultHasher::new();
    (version, SETUP, SMALL).hash(&mut made_of);
    let template = super::root().join(format!("target/tools/data-{:016x}", made_of.finish()));

    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !template.exists() {
        // Other processes may do the same now: all finish apart, the first one's name stays.
        let dir =
            tempfile::tempdir_in(super::root().join("target/tools")).expect("a directory below target/tools");
        let data = dir.path().join("data");
        initialise(&data);
        if let Err(e) = std::fs::rename(&data, &template) {
            assert!(template.exists(), "cannot keep MariaDB's data directory: {e}");
        }
    }
    template
}

fn initialise(data: &Path) {
    let install = in_path("mariadb-install-db").expect("mariadb-install-db in PATH; run: make tools");
    let mut command = Command::new(install);
    // Unless forced it gives up where the machine's own name does not resolve, as in a bare container.
    let options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--force"];
    command.args(common(data)).args(options);
    let output = command.output().expect("mariadb-install-db");
    assert!(output.status.success(), "mariadb-install-db: {output:?}");

    let mut server = Command::new(super::mariadbd());
    server.args(common(data)).arg("--bootstrap");
    server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = server.spawn().expect("mariadbd --bootstrap");
    server.stdin.take().expect("a pipe").write_all(SETUP.as_bytes()).expect("statements for --bootstrap");
    let output = server.wait_with_output().expect("the end of mariadbd --bootstrap");
    assert!(output.status.success(), "mariadbd --bootstrap: {output:?}");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-r", "--reflink=auto"]).args([from, to]).status().expect("cp");
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}
