//! `make demo`: one MySQL session directly and once through Envoy with the filter, and what each side counted.
//!
//! Ends with 1 when the two sessions saw different things, or when the filter and the server counted differently.

// A program to look at: it has a clock, and what goes wrong ends it.
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
    // Only noted: the servers end in order, and their directories go, when `demo` returns.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).expect("a handler for Ctrl-C");
    match demo() {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// Whether everything agreed; `None` when interrupted.
fn demo() -> Option<bool> {
    println!("Starting MariaDB and Envoy ...");
    let database = MariaDb::start(&GENERAL_LOG);
    go_on()?;
    let envoy = Envoy::start(EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", database.addr()));
    let proxied = envoy.listener_addr("mysql");
    go_on()?;

    let greetings = (greeting_time(database.addr()), greeting_time(proxied));
    println!("Running one session directly, and the same one through Envoy ...");
    let direct = session(database.addr());
    go_on()?;

    // The session's Quit must be in the log before it is emptied.
    wait_for("end of the direct session", PATIENCE, || database.logged().contains_key("Quit").then_some(()));
    database.clear_log();
    let before = Counts::take(&database, &envoy);
    let seen = session(proxied);
    wait_for("end of the session through Envoy", PATIENCE, || {
        database.logged().contains_key("Quit").then_some(())
    });
    let after = Counts::take(&database, &envoy);
    go_on()?;

    let same = print_session(&direct, &seen, greetings);
    let equal = print_counts(&before, &after, &database.logged());
    println!();
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        keep(&database, &envoy, proxied);
    } else {
        println!("To try it by hand: KEEP=1 make demo");
    }
    Some(same && equal)
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than two ticks of the filter: what it counted has been exported.
const QUIET: Duration = Duration::from_millis(1500);

fn go_on() -> Option<()> {
    (!INTERRUPTED.load(Ordering::Relaxed)).then_some(())
}

/// From connecting to the first byte from the server, the median of some: here a client that is to speak first would hang.
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

/// What a client sees of one session.
#[derive(PartialEq)]
struct Seen {
    server: String,
    rows: Vec<(u32, String)>,
    prepared: Vec<u64>,
    error: String,
    large: usize,
    checksum: u64,
}

/// The first row is larger than a packet can be (16 MiB); 20 MiB in all.
const LARGE: &str = "SELECT REPEAT(MD5(seq), IF(seq = 1, 17, 1) * 32768) FROM seq_1_to_4";

fn session(address: SocketAddr) -> Seen {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        // Else the crate finds the server's Unix socket and leaves TCP, and Envoy, out.
        .prefer_socket(false)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some(DATABASE));
    let mut client = Conn::new(options).expect("a login");
    client.ping().expect("an answer to a ping");
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
    // Dropped, the client closes its prepared statement and says QUIT.
    Seen { server, rows, prepared, error, large, checksum: hasher.finish() }
}

/// What both sides have counted at one moment.
struct Counts {
    filter: Metrics,
    server: BTreeMap<String, u64>,
}

impl Counts {
    fn take(database: &MariaDb, envoy: &Envoy) -> Self {
        // First the filter, for it settles later than the server.
        let filter = envoy.stable(QUIET);
        let names = ["Connections", "Bytes_received", "Bytes_sent", "Com_admin_commands", "Rows_sent"];
        Self { filter, server: database.statuses(&names) }
    }
}

fn print_session(direct: &Seen, seen: &Seen, greetings: (Duration, Duration)) -> bool {
    let mut same = true;
    let mut row = |what: &str, left: String, right: String| {
        let equal = left == right;
        same &= equal;
        let right = if equal { "the same".into() } else { format!("{right}   DIFFERENT") };
        println!("  {what:<20}{left:<44}{right}");
    };
    println!("\n  {:<20}{:<44}through Envoy\n", "", "directly");
    row("server", direct.server.clone(), seen.server.clone());
    row("query", format!("{:?}", direct.rows), format!("{:?}", seen.rows));
    row("prepared statement", format!("{:?}", direct.prepared), format!("{:?}", seen.prepared));
    row("error", first(&direct.error), first(&seen.error));
    let large = |seen: &Seen| format!("{} bytes, checksum {:016x}", seen.large, seen.checksum);
    row("large result", large(direct), large(seen));
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    println!("  {:<20}{:<44}{}", "time to greeting", millis(greetings.0), millis(greetings.1));
    // Whatever the table leaves out.
    same && direct == seen
}

/// Error messages are long; their number and state say what they are.
fn first(message: &str) -> String {
    message.split(':').next().unwrap_or_default().to_owned()
}

/// Commands, as the filter's label and the general log have them.
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

    let part = |suffix: &str| after.filter.get(&format!("firstword_greeting_duration_{suffix}"), &[]);
    if let (Some(count), Some(sum)) = (part("seconds_count"), part("microseconds_sum")) {
        println!(
            "\n  The filter saw {count} greetings in all, {:.2} ms after the client connected on average.",
            sum / count / 1000.0
        );
    }
    equal
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
    while go_on().is_some() {
        sleep(Duration::from_millis(100));
    }
    println!();
}
