//! The loads, and what one run of a load through one side measures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::process::cpu_time;

use crate::measure::{CONNECTIONS, TABLE_ROWS, sysbench};
use crate::sides::Side;

/// Work of one kind.
pub(crate) struct Load {
    /// Title of its table.
    pub(crate) title: String,
    /// What its rates and its CPU time are for.
    pub(crate) unit: &'static str,
    /// What its times are of. `None` if it measures none.
    pub(crate) timed: Option<&'static str>,
    /// It runs in each round whose number, from 1 on, is a multiple of this. Round 0 is not counted.
    pub(crate) every: usize,
    pub(crate) work: Work,
}

/// Work of a load.
pub(crate) enum Work {
    /// A test of sysbench with this number of events on [`CONNECTIONS`] connections.
    Sysbench { test: &'static str, prepared: bool, events: u32 },
    /// One result with rows of this length in bytes.
    Result { row: u32, rows: u32 },
    /// Connections that each send one query and COM_QUIT: this number on each of [`CONNECTIONS`] threads.
    Sessions { each: u32 },
}

/// Figures of one run.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// CPU time of the proxy for each unit, in microseconds. `None` without a proxy.
    pub(crate) cpu: Option<f64>,
    /// Units in a second.
    pub(crate) rate: f64,
    /// Percentiles 50, 95 and 99 of the times, in microseconds.
    pub(crate) times: Option<[f64; 3]>,
    /// Number of units.
    pub(crate) units: f64,
}

/// All loads. The short run has a smaller large result.
pub(crate) fn loads(is_quick: bool) -> Vec<Load> {
    let sysbench = |title: &str, test, timed, prepared, events| Load {
        title: title.to_owned(),
        unit: "query",
        timed: Some(timed),
        every: 1,
        work: Work::Sysbench { test, prepared, events },
    };
    let result = |title: String, every, row, rows| Load {
        title,
        unit: "MiB",
        timed: None,
        every,
        work: Work::Result { row, rows },
    };
    let mebibytes = if is_quick { 64 } else { 1024 };
    vec![
        sysbench("Point selects, as text", "oltp_point_select", "a query", false, 4000),
        sysbench("Point selects, prepared", "oltp_point_select", "a query", true, 4000),
        sysbench("sysbench's oltp_read_write, as text", "oltp_read_write", "a transaction", false, 150),
        result("32 MiB in rows of 100 KiB".to_owned(), 1, 100 << 10, 320),
        result(
            format!("One result of {mebibytes} MiB in rows of 1 KiB"),
            if is_quick { 2 } else { 6 },
            1 << 10,
            mebibytes << 10,
        ),
        Load {
            title: "Connect, one query, quit".to_owned(),
            unit: "connection",
            timed: Some("a connection"),
            every: 1,
            work: Work::Sessions { each: 40 },
        },
    ]
}

impl Load {
    /// Runs the load once.
    pub(crate) fn run(&self, side: &Side) -> Sample {
        let before = side.proxy().map(cpu_time);
        let (units, rate, times) = match self.work {
            Work::Sysbench { test, prepared, events } => queries(side.address, test, prepared, events),
            Work::Result { row, rows } => result(side.address, row, rows),
            Work::Sessions { each } => sessions(side.address, each),
        };
        let cpu = side.proxy().map(cpu_time).zip(before).map(|(after, before)| after - before);
        Sample { cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / units), rate, times, units }
    }
}

type Figures = (f64, f64, Option<[f64; 3]>);

fn queries(address: SocketAddr, test: &str, prepared: bool, events: u32) -> Figures {
    let mode = if prepared { "--db-ps-mode=auto" } else { "--db-ps-mode=disable" };
    let events = format!("--events={events}");
    let report = sysbench(address, test, "run", &[mode, "--time=0", &events, "--histogram=on"]);
    let (queries, rate) = count(&report).unwrap_or_else(|| panic!("no queries in {report}"));
    let times = histogram(&report);
    assert!(!times.is_empty(), "no histogram in {report}");
    (queries, rate, Some(percentiles(&times)))
}

/// Parses the line `queries: 12345 (1234.50 per sec.)`.
fn count(report: &str) -> Option<(f64, f64)> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("queries:"))?;
    let mut words = line.split([' ', '(', ')']).filter(|word| !word.is_empty());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Parses the lines `0.125 |*** 42` of a histogram: a time in milliseconds, and the number of events. Returns microseconds.
fn histogram(report: &str) -> Vec<(f64, u64)> {
    let bucket = |line: &str| {
        let (time, rest) = line.split_once('|')?;
        let time: f64 = time.trim().parse().ok()?;
        Some((time * 1e3, rest.trim_start_matches('*').trim().parse().ok()?))
    };
    report.lines().filter_map(bucket).collect()
}

/// Percentiles 50, 95 and 99 of times and their numbers, in order of time.
fn percentiles(times: &[(f64, u64)]) -> [f64; 3] {
    let all: u64 = times.iter().map(|(_, count)| count).sum();
    [50, 95, 99].map(|percent| {
        let mut before = 0;
        let at = |(_, count): &&(f64, u64)| {
            before += count;
            before * 100 >= all * percent
        };
        times.iter().find(at).expect("a time").0
    })
}

/// Reads one result, and forgets it at once, because a client that keeps rows is slower than each of the proxies.
fn result(address: SocketAddr, row: u32, rows: u32) -> Figures {
    let tables = if rows > TABLE_ROWS { "sbtest1 AS a, sbtest1 AS b" } else { "sbtest1" };
    let statement = format!("SELECT REPEAT('x', {row}) FROM {tables} LIMIT {rows}");
    let mut client = Client::login(address, &Login::new(CLASSIC));
    let query = client.query_payload(&statement);
    let began = Instant::now();
    client.command(&query);
    let length = client.skip_result() as f64;
    let elapsed = began.elapsed().as_secs_f64();
    client.quit();
    assert!(length > f64::from(row) * f64::from(rows), "a result of {length} bytes");
    let mebibytes = length / f64::from(1 << 20);
    (mebibytes, mebibytes / elapsed, None)
}

fn sessions(address: SocketAddr, each: u32) -> Figures {
    let login = Login::new(CLASSIC);
    let session = || {
        let began = Instant::now();
        let mut client = Client::login(address, &login);
        client.query("SELECT 1").expect("a result");
        client.quit();
        began.elapsed()
    };
    let began = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| (0..each).map(|_| session()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("all sessions")).collect()
    });
    let (count, elapsed) = (times.len() as f64, began.elapsed());
    times.sort_unstable();
    let times: Vec<_> = times.into_iter().map(|time| (time.as_secs_f64() * 1e6, 1)).collect();
    (count, count / elapsed.as_secs_f64(), Some(percentiles(&times)))
}
