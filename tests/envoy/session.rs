//! Captured sessions of real peers, played whole and byte by byte.

use std::collections::BTreeMap;
use std::time::Instant;

use firstword::VERSION;
use firstword::event::Sender;
use firstword::metrics::Profile;
use serde_json::json;

use crate::bootstrap::{MYSQL, PLAIN, add_plain_listener, configured, shipped};
use crate::counter_diff::{CounterDiff, assert_clean, ours, wait_for_flushes};
use crate::session_counts::{self, with_full_profile};
use crate::traffic::{Chunks, Pair, captured, sent, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;
use firstword_testing::prometheus::Sample;
use firstword_testing::shell::is_native;

/// Every series of the filter after [`session`] through the unchanged `envoy/mysql.yaml`, except [`HISTOGRAMS`]. `+` is any
/// positive number.
///
/// `firstword_series` counts each series in each VM that has defined it. The worker's VM has defined all series. The main
/// thread's VM sees no connection, and has defined only the series about the VM.
const EXPORT: &str = r#"
firstword_affected_rows_total{destination="mysql",direction="unspecified"} 5
firstword_build_info{commit="COMMIT",version="VERSION"} 1
firstword_bytes_total{destination="mysql",direction="unspecified",sender="client"} 474
firstword_bytes_total{destination="mysql",direction="unspecified",sender="server"} 497
firstword_commands_in_flight{destination="mysql",direction="unspecified"} 0
firstword_commands_stalled{destination="mysql",direction="unspecified"} 0
firstword_commands_total{command="ping",destination="mysql",direction="unspecified"} 1
firstword_commands_total{command="query",destination="mysql",direction="unspecified"} 6
firstword_commands_total{command="quit",destination="mysql",direction="unspecified"} 1
firstword_connections_active{destination="mysql",direction="unspecified",protocol="mysql"} 0
firstword_connections_closed_total{closed_by="client",destination="mysql",direction="unspecified",phase="command"} 1
firstword_connections_total{destination="mysql",direction="unspecified",protocol="mysql"} 1
firstword_eof_hazard_clients_total{destination="mysql",direction="unspecified"} 0
firstword_errors_total{destination="mysql",direction="unspecified",errno="1146"} 1
firstword_greeting_timeouts_total{destination="mysql",direction="unspecified"} 0
firstword_greetings_total{destination="mysql",direction="unspecified",flavor="mariadb",release="10.11"} 1
firstword_handshakes_total{destination="mysql",direction="unspecified",result="aborted"} 0
firstword_handshakes_total{destination="mysql",direction="unspecified",result="error"} 0
firstword_handshakes_total{destination="mysql",direction="unspecified",result="ok"} 1
firstword_handshakes_total{destination="mysql",direction="unspecified",result="tls"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="clear_password"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="full_auth_without_tls"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="host_blocked"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="host_not_allowed"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="idle_closed_by_proxy"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="idle_closed_by_server"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="local_infile_undecidable"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="local_infile_unsolicited"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="old_password"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="packet_too_large"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="split_eof"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="tls_required"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="too_many_connections"} 0
firstword_hazards_total{destination="mysql",direction="unspecified",kind="unanswered_greeting"} 0
firstword_config_rejected{} 0
firstword_connection_state_bytes{} 0
firstword_heartbeat_total{} +
firstword_local_infile_blocked_total{destination="mysql",direction="unspecified"} 0
firstword_local_infile_total{destination="mysql",direction="unspecified"} 0
firstword_no_index_used_total{destination="mysql",direction="unspecified"} 1
firstword_opaque_total{destination="mysql",direction="unspecified",reason="clone"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="compressed"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="configured"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="desync"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="late_start"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="memory"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="not_mysql"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="replication"} 0
firstword_opaque_total{destination="mysql",direction="unspecified",reason="tls"} 0
firstword_plaintext_full_auth_total{destination="mysql",direction="unspecified"} 0
firstword_prepare_eof_held_total{destination="mysql",direction="unspecified"} 0
firstword_prepare_eof_lost_total{destination="mysql",direction="unspecified"} 0
firstword_prepare_eof_splits_total{destination="mysql",direction="unspecified"} 0
firstword_prepared_statements_open{destination="mysql",direction="unspecified"} 0
firstword_protection_lost_total{destination="mysql",direction="unspecified",reason="desync"} 0
firstword_protection_lost_total{destination="mysql",direction="unspecified",reason="memory"} 0
firstword_protection_lost_total{destination="mysql",direction="unspecified",reason="not_mysql"} 0
firstword_rows_total{destination="mysql",direction="unspecified"} 4
firstword_series_overflow_total{} 0
firstword_series{} 128
firstword_server_first_detected_total{destination="mysql",direction="unspecified",protocol="mysql"} 1
firstword_slow_flag_total{destination="mysql",direction="unspecified"} 0
firstword_statements_total{destination="mysql",direction="unspecified",verb="ddl"} 1
firstword_statements_total{destination="mysql",direction="unspecified",verb="insert"} 1
firstword_statements_total{destination="mysql",direction="unspecified",verb="select"} 3
firstword_statements_total{destination="mysql",direction="unspecified",verb="update"} 1
firstword_transactions_open{destination="mysql",direction="unspecified"} 0
firstword_vm_memory_bytes{} +
firstword_warnings_total{destination="mysql",direction="unspecified"} 0
"#;

/// The histograms: name, own label, number of durations.
const HISTOGRAMS: [(&str, &str, f64); 4] = [
    ("command_duration", r#"command="other","#, 1.0),
    ("command_duration", r#"command="query","#, 6.0),
    ("greeting_duration", "", 1.0),
    ("handshake_duration", "", 1.0),
];

/// Bounds of the buckets. Every duration of a session is below the last finite bound.
const BOUNDS: [&str; 11] =
    ["0.00025", "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "10", "+Inf"];

/// The series of one of [`HISTOGRAMS`]: its buckets in the order of their bounds, its count, its sum.
fn histogram(name: &str, own: &str) -> (Vec<String>, String, String) {
    let labels = format!(r#"{own}destination="mysql",direction="unspecified""#);
    let buckets = BOUNDS.map(|le| format!(r#"firstword_{name}_seconds_bucket{{{labels},le="{le}"}}"#));
    let count = format!("firstword_{name}_seconds_count{{{labels}}}");
    (buckets.to_vec(), count, format!("firstword_{name}_microseconds_sum{{{labels}}}"))
}

#[test]
fn the_shipped_file_counts_a_session_exactly() {
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()));
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    envoy.wait_metric("firstword_connections_closed_total", &[], 1.0);
    // Wait, because a scrape can happen during a flush.
    wait_for_flushes(&envoy);

    let metrics = envoy.prometheus();
    let series: Vec<_> = ours(&metrics).map(|sample| (line(sample), sample.value)).collect();
    let mut found: BTreeMap<_, _> = series.iter().cloned().collect();
    assert_eq!(found.len(), series.len(), "a series is exported twice: {series:#?}");
    for (name, own, durations) in HISTOGRAMS {
        let (buckets, count, sum) = histogram(name, own);
        let mut value = |series: &String| found.remove(series).unwrap_or_else(|| panic!("no {series}"));
        let within: Vec<_> = buckets.iter().map(&mut value).collect();
        let counts = within.iter().all(|value| *value >= 0.0 && value.fract() == 0.0);
        assert!(counts && within.is_sorted(), "{name}: {within:?}");
        assert_eq!(within[BOUNDS.len() - 2..], [durations; 2], "{name}");
        assert_eq!(value(&count), durations, "{count}");
        assert!(value(&sum) > 0.0, "{sum}");
    }
    let expected: BTreeMap<_, _> = EXPORT.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    assert!(found.keys().eq(expected.keys()), "{found:#?}\nexpected: {expected:#?}");
    for (series, value) in &found {
        let holds = match expected[series.as_str()] {
            "+" => *value > 0.0 || is_native() && series.contains("vm_memory"),
            number => number.parse() == Ok(*value),
        };
        assert!(holds, "{series} {value}");
    }
    // The sum of two VMs. The native module has none.
    let pages = metrics.get("firstword_vm_memory_bytes", &[]).unwrap() / 65_536.0;
    assert!((pages >= 2.0 || is_native()) && pages.fract() == 0.0, "{pages} pages");
    assert_clean(&envoy.log());
}

/// The series in the format of Prometheus, without the values that change with every build.
fn line(sample: &Sample) -> String {
    let label = |(key, value): (&String, &String)| match key.as_str() {
        "commit" => "commit=\"COMMIT\"".to_owned(),
        "version" if value == VERSION => "version=\"VERSION\"".to_owned(),
        _ => format!("{key}=\"{value}\""),
    };
    let labels: Vec<_> = sample.labels.iter().map(label).collect();
    format!("{}{{{}}}", sample.name, labels.join(","))
}

/// Counts of `bytes_total` for one connection with these chunks.
fn bytes(chunks: &Chunks) -> String {
    let sum = |sender| sent(chunks, sender);
    format!(
        "bytes_total{{sender=client}} {}\nbytes_total{{sender=server}} {}\n",
        sum(Sender::Client),
        sum(Sender::Server)
    )
}

/// Counts of a connection on which the server has sent a greeting and its decision about the login.
const GREETED: &str = "
    connections_total{protocol=mysql} 1
    greeting_duration_seconds_count 1
    greetings_total{flavor=mariadb,release=10.11} 1
    server_first_detected_total{protocol=mysql} 1
    handshake_duration_seconds_count 1
";

/// Captures, and the counts of each in addition to [`GREETED`], [`bytes`], and the durations of its commands.
const CAPTURES: [(&str, &str); 3] = [
    (
        "session-prepared",
        "connections_closed_total{closed_by=client,phase=command} 1
         handshakes_total{result=ok} 1
         clients_total{client=rust-mysql,client_series=28.0} 1
         command_duration_seconds_count{command=query,verb=select} 1
         command_duration_seconds_count{command=stmt_prepare,verb=select} 2
         command_duration_seconds_count{command=stmt_execute,verb=select} 3
         commands_total{command=query} 1
         commands_total{command=stmt_prepare} 2
         commands_total{command=stmt_execute} 3
         commands_total{command=stmt_close} 1
         commands_total{command=quit} 1
         statements_total{verb=select} 4
         errors_total{errno=1064} 1
         rows_total 13
         no_index_used_total 2
         packets_total{sender=client} 9
         packets_total{sender=server} 38
         result_sets_total 4",
    ),
    (
        "session-refused",
        "connections_closed_total{closed_by=client,phase=authentication} 1
         handshakes_total{result=error} 1
         clients_total{client=rust-mysql,client_series=28.0} 1
         handshake_errors_total{errno=1045,plugin=mysql_native_password} 1
         packets_total{sender=client} 2
         packets_total{sender=server} 2",
    ),
    (
        "session-cli-compressed",
        "connections_closed_total{closed_by=client,phase=opaque} 1
         handshakes_total{result=ok} 1
         clients_total{client=libmariadb,client_series=3.3} 1
         opaque_total{reason=compressed} 1
         compressed_bytes_total{sender=client} 32
         compressed_bytes_total{sender=server} 61
         packets_total{sender=client} 1
         packets_total{sender=server} 2",
    ),
];

/// Each capture is sent whole, and with each byte in its own callback, which splits every header.
#[test]
fn a_session_sent_byte_by_byte_has_the_same_counts() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let captures = CAPTURES.map(|(name, counts)| {
        let chunks = captured(name);
        let counts = format!("{GREETED}{}{}", bytes(&chunks), with_full_profile(counts));
        (name, chunks, counts)
    });
    let text = ("session-text", session(), session_counts::session(Profile::Full));
    for (name, chunks, counts) in captures.into_iter().chain([text]) {
        for by_bytes in [false, true] {
            let mut pair = Pair::open(address, &server);
            if by_bytes {
                pair.play_bytes(&chunks);
            } else {
                pair.play(&chunks);
            }
            // Byte by byte, the EOF after the columns of a prepared statement arrives later than they do.
            let is_split = by_bytes && name == "session-prepared";
            let split = if is_split { "prepare_eof_splits_total 1\n" } else { "" };
            pair.close();
            diff.expect(&format!("{split}{counts}"));
        }
    }
    diff.finish();
}

/// The greeting arrives while the client is silent. The test prints how fast, and asserts nothing about it.
#[test]
fn a_silent_client_receives_the_greeting() {
    const CONNECTIONS: usize = 101;
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()).edit(add_plain_listener));
    let greeting = &session()[..1];
    let mut medians = Vec::new();
    for listener in [PLAIN, MYSQL] {
        let address = envoy.listener_addr(listener);
        let mut times: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let begin = Instant::now();
                let mut pair = Pair::open(address, &server);
                pair.play(greeting);
                let time = begin.elapsed();
                pair.close();
                time
            })
            .collect();
        times.sort();
        medians.push(times[CONNECTIONS / 2]);
    }
    println!(
        "greeting after: {:?} by tcp_proxy alone, {:?} with the filter (medians)",
        medians[0], medians[1]
    );
    // The filter's counts are complete.
    let left = [("phase", "handshake"), ("closed_by", "client")];
    envoy.wait_metric("firstword_connections_closed_total", &left, 101.0);
    // The filter reports them as health checks.
    let log = envoy.log();
    let others = log.lines().filter(|line| !line.contains("event=hazard kind=unanswered_greeting "));
    assert_clean(&others.collect::<Vec<_>>().join("\n"));
}
