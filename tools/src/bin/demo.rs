//! `make demo`: runs one MySQL session directly and one through Envoy with the filter, and compares the counts of both sides.
//!
//! Exits with 1 if the sessions or the counts differ.

// A tool may read the clock, and reports failures through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::disallowed_methods, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::{DATABASE, GENERAL_LOG, MariaDb, PASSWORD, USER};
use firstword_testing::prometheus::Metrics;
use firstword_testing::wait_for;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    // The handler only sets a flag, so that `demo` returns, ends the servers and removes their directories.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).expect("a handler for Ctrl-C");
    match demo() {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// True if everything agrees. `None` if interrupted.
fn demo() -> Option<bool> {
    println!("Starting MariaDB and Envoy ...");
    let database = MariaDb::start(&GENERAL_LOG);
    check_interrupt()?;
    let envoy = Envoy::start(EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr()));
    let proxied = envoy.listener_addr("mysql");
    check_interrupt()?;

    let greetings = (greeting_time(database.addr()), greeting_time(proxied));
    println!("Running one session directly, and the same one through Envoy ...");
    let direct = session(database.addr());
    check_interrupt()?;

    // The session's Quit must be in the log before it is emptied.
    wait_for("end of the direct session", PATIENCE, || database.logged().contains_key("Quit").then_some(()));
    database.clear_log();
    let before = Counts::take(&database, &envoy);
    let results = session(proxied);
    wait_for("end of the session through Envoy", PATIENCE, || {
        database.logged().contains_key("Quit").then_some(())
    });
    let after = Counts::take(&database, &envoy);
    check_interrupt()?;

    let same = print_session(&direct, &results, greetings);
    let equal = print_counts(&before, &after, &database.logged());
    print_greeting_time(&after.filter);
    println!();
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        keep(&database, &envoy, proxied);
    } else {
        println!("To try it by hand: KEEP=1 make demo");
    }
    Some(same && equal)
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than two ticks of the filter, after which it has exported its counts.
const QUIET: Duration = Duration::from_millis(1500);

/// `None` if Ctrl-C was pressed.
fn check_interrupt() -> Option<()> {
    (!INTERRUPTED.load(Ordering::Relaxed)).then_some(())
}

/// Median time from the connect to the first byte of the server. Without support for server-first protocols it never arrives.
fn greeting_time(address: SocketAddr) -> Duration {
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            stream.read_exact(&mut [0]).expect("a greeting");
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Results of one session at the client.
#[derive(PartialEq)]
struct SessionResults {
    server: String,
    rows: Vec<(u32, String)>,
    prepared: Vec<u64>,
    error: String,
    large: usize,
    checksum: u64,
}

/// A result of 20 MiB. Its first row is larger than a packet can be (16 MiB).
const LARGE: &str = "SELECT REPEAT(MD5(seq), IF(seq = 1, 17, 1) * 32768) FROM seq_1_to_4";

fn session(address: SocketAddr) -> SessionResults {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        // Without it the driver uses the server's Unix socket, and so bypasses TCP and Envoy.
        .prefer_socket(false)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some(DATABASE));
    let mut client = Conn::new(options).expect("a login");
    client.ping().expect("a response to a ping");
    let server = client.query_first("SELECT VERSION()").expect("a row").expect("one row");
    let rows = client
        .query("SELECT 1, 'first' UNION ALL SELECT 2, 'word' UNION ALL SELECT 3, NULL IS NULL")
        .expect("rows");
    let prepared = [7_u64, 1 << 40]
        .map(|number| client.exec_first("SELECT ? * 2", (number,)).expect("a row").expect("one row"))
        .to_vec();
    let error = match client.query_drop("SELECT * FROM no_such_table") {
        Err(mysql::Error::MySqlError(error)) => error.to_string(),
        other => panic!("a table that does not exist: {other:?}"),
    };
    let mut hasher = DefaultHasher::new();
    let mut large = 0;
    for row in client.query_iter(LARGE).expect("a large result") {
        let value: Vec<u8> = mysql::from_row(row.expect("a large row"));
        large += value.len();
        hasher.write(&value);
    }
    // When the client is dropped, it closes its prepared statement and sends COM_QUIT.
    SessionResults { server, rows, prepared, error, large, checksum: hasher.finish() }
}

/// Counts of both sides at one moment.
struct Counts {
    filter: Metrics,
    server: BTreeMap<String, u64>,
}

impl Counts {
    fn take(database: &MariaDb, envoy: &Envoy) -> Self {
        // First the filter, because its counts settle later than the server's.
        let filter = envoy.stable(QUIET);
        let names = ["Connections", "Bytes_received", "Bytes_sent", "Com_admin_commands", "Rows_sent"];
        Self { filter, server: database.statuses(&names) }
    }
}

fn print_session(direct: &SessionResults, proxied: &SessionResults, greetings: (Duration, Duration)) -> bool {
    let mut same = true;
    let mut row = |what: &str, left: String, right: String| {
        let equal = left == right;
        same &= equal;
        let right = if equal { "the same".into() } else { format!("{right}   DIFFERENT") };
        println!("  {what:<20}{left:<44}{right}");
    };
    println!("\n  {:<20}{:<44}through Envoy\n", "", "directly");
    row("server", direct.server.clone(), proxied.server.clone());
    row("query", format!("{:?}", direct.rows), format!("{:?}", proxied.rows));
    row("prepared statement", format!("{:?}", direct.prepared), format!("{:?}", proxied.prepared));
    row("error", error_number(&direct.error), error_number(&proxied.error));
    let large =
        |results: &SessionResults| format!("{} bytes, checksum {:016x}", results.large, results.checksum);
    row("large result", large(direct), large(proxied));
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    println!("  {:<20}{:<44}{}", "time to greeting", millis(greetings.0), millis(greetings.1));
    // The table does not print all results.
    same && direct == proxied
}

/// The number and the SQL state at the start of an error message.
fn error_number(message: &str) -> String {
    message.split(':').next().unwrap_or_default().to_owned()
}

/// Commands: the filter's label, and the name in the general log.
const COMMANDS: [(&str, &str); 5] = [
    ("query", "Query"),
    ("stmt_prepare", "Prepare"),
    ("stmt_execute", "Execute"),
    ("stmt_close", "Close stmt"),
    ("quit", "Quit"),
];

fn print_counts(before: &Counts, after: &Counts, logged: &BTreeMap<String, u64>) -> bool {
    let filter = |name: &str, labels: &[(&str, &str)]| {
        let then = before.filter.get(name, labels).unwrap_or(0.0);
        after.filter.get(name, labels).map(|now| now - then)
    };
    let server = |name: &str| {
        let at = |counts: &Counts| counts.server.get(name).copied().unwrap_or_default();
        at(after) - at(before)
    };

    let mut equal = true;
    let mut row = |what: &str, counted: Option<f64>, expected: u64, source: &str| {
        // Counts are far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let agrees = counted.unwrap_or(0.0) == expected as f64;
        equal &= agrees;
        let counted = counted.map_or("-".into(), |value| value.to_string());
        let verdict = if agrees { "" } else { "   DIFFERENT" };
        println!("  {what:<26}{counted:>12}{expected:>12}   {source}{verdict}");
    };
    println!("\n  {:<26}{:>12}{:>12}   where the server counts it\n", "", "the filter", "the server");
    row(
        "connections",
        filter("firstword_connections_total", &[("protocol", "mysql")]),
        server("Connections"),
        "Connections",
    );
    row(
        "greetings of MariaDB",
        filter("firstword_greetings_total", &[("flavor", "mariadb")]),
        server("Connections"),
        "Connections: each was greeted",
    );
    let sent = |sender| filter("firstword_bytes_total", &[("sender", sender)]);
    let note = "without the monitor's own session";
    row(
        "bytes from the client",
        sent("client"),
        server("Bytes_received"),
        &format!("Bytes_received, {note}"),
    );
    row("bytes from the server", sent("server"), server("Bytes_sent"), &format!("Bytes_sent, {note}"));
    for (command, word) in COMMANDS {
        let counted = filter("firstword_commands_total", &[("command", command)]);
        let expected = logged.get(word).copied().unwrap_or_default();
        row(&format!("command {command}"), counted, expected, &format!("general log, {word}"));
    }
    let pings = filter("firstword_commands_total", &[("command", "ping")]);
    row(
        "command ping",
        pings,
        server("Com_admin_commands"),
        "Com_admin_commands: the general log leaves pings out",
    );
    let commands = logged.values().sum::<u64>() - logged.get("Connect").copied().unwrap_or_default();
    let all = filter("firstword_commands_total", &[]);
    row(
        "all commands",
        all,
        commands + server("Com_admin_commands"),
        "general log without Connect, which is a login, and pings",
    );
    row("rows", filter("firstword_rows_total", &[]), server("Rows_sent"), "Rows_sent");
    row(
        "error 1146",
        filter("firstword_errors_total", &[("errno", "1146")]),
        1,
        "the one the client saw: MariaDB counts no errors",
    );
    row(
        "uninspected connections",
        filter("firstword_opaque_total", &[]),
        0,
        "none: no TLS, no compression, nothing unknown",
    );
    equal
}

fn print_greeting_time(metrics: &Metrics) {
    let part = |suffix: &str| metrics.get(&format!("firstword_greeting_duration_{suffix}"), &[]);
    if let (Some(count), Some(sum)) = (part("seconds_count"), part("microseconds_sum")) {
        println!(
            "\n  The filter saw {count} greetings in all, {:.2} ms after the client connected on average.",
            sum / count / 1000.0
        );
    }
}

fn keep(database: &MariaDb, envoy: &Envoy, proxied: SocketAddr) {
    println!(
        "  through Envoy   mariadb -h {} -P {} -u {USER} -p{PASSWORD} {DATABASE}",
        proxied.ip(),
        proxied.port()
    );
    println!(
        "  directly        mariadb -h 127.0.0.1 -P {} -u {USER} -p{PASSWORD} {DATABASE}",
        database.port()
    );
    println!("  metrics         http://{}/stats/prometheus?filter=firstword", envoy.admin_addr());
    println!("  Envoy's admin   http://{}/", envoy.admin_addr());
    println!("Ctrl-C ends it.");
    while check_interrupt().is_some() {
        sleep(Duration::from_millis(100));
    }
    println!();
}
