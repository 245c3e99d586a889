//! Whole sessions of real peers, as they were captured.

use std::collections::BTreeMap;

use firstword::VERSION;
use firstword::event::Sender;
use serde_json::json;

use crate::bootstrap::{MYSQL, PLAIN, configured, shipped, with_plain};
use crate::ledger::{Ledger, assert_clean, ours};
use crate::support::envoy::Envoy;
use crate::support::peer::Server;
use crate::support::prometheus::{Metrics, Sample};
use crate::support::wait_for;
use crate::traffic::{Chunks, Pair, captured, sent, session};

/// Every series of the filter after [`session`] through `envoy/mysql.yaml` as it is. `+` is any positive number, `*` any.
const EXPORT: &str = r#"
affected_rows_total 5
bytes_total{sender="client"} 474
bytes_total{sender="server"} 497
commands_in_flight 0
commands_total{command="ping"} 1
commands_total{command="query"} 6
commands_total{command="quit"} 1
connections_active{protocol="mysql"} 0
connections_closed_total{by="client",phase="command"} 1
connections_total{protocol="mysql"} 1
errors_total{errno="1146"} 1
greeting_duration_microseconds_sum +
greeting_duration_seconds_bucket{le="+Inf"} 1
greeting_duration_seconds_bucket{le="0.00025"} *
greeting_duration_seconds_bucket{le="0.001"} *
greeting_duration_seconds_bucket{le="0.005"} *
greeting_duration_seconds_bucket{le="0.025"} *
greeting_duration_seconds_bucket{le="0.1"} *
greeting_duration_seconds_bucket{le="0.5"} *
greeting_duration_seconds_bucket{le="2.5"} *
greeting_duration_seconds_bucket{le="10"} 1
greeting_duration_seconds_count 1
greetings_total{flavor="mariadb",release="10.11"} 1
handshakes_total{result="aborted"} 0
handshakes_total{result="error"} 0
handshakes_total{result="ok"} 1
handshakes_total{result="tls"} 0
opaque_total{reason="clone"} 0
opaque_total{reason="compressed"} 0
opaque_total{reason="configured"} 0
opaque_total{reason="desync"} 0
opaque_total{reason="late_start"} 0
opaque_total{reason="memory"} 0
opaque_total{reason="not_mysql"} 0
opaque_total{reason="replication"} 0
opaque_total{reason="tls"} 0
rows_total 4
"#;

/// The series of the VM itself.
const OF_THE_VM: [(&str, f64); 4] = [
    ("firstword_heartbeat_total", f64::NAN),
    ("firstword_series", f64::NAN),
    ("firstword_series_overflow_total", 0.0),
    ("firstword_vm_memory_bytes", f64::NAN),
];

#[test]
fn the_shipped_file_counts_a_session_exactly() {
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()));
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    envoy.wait_metric("firstword_connections_closed_total", &[], 1.0);

    let metrics = wait_for_all_exports(&envoy);
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    for sample in ours(&metrics) {
        if let Some((_, value)) = OF_THE_VM.iter().find(|(name, _)| *name == sample.name) {
            assert!(sample.labels.is_empty() && (value.is_nan() || *value == sample.value), "{sample:?}");
            continue;
        }
        if sample.name == "firstword_build_info" {
            let commit = sample.labels.get("commit").map(String::as_str).unwrap_or_default();
            let version = sample.labels.get("version").map(String::as_str);
            assert!(!commit.is_empty() && version == Some(VERSION), "{sample:?}");
            assert_eq!((sample.labels.len(), sample.value), (2, 1.0), "{sample:?}");
            continue;
        }
        assert_eq!(found.insert(line(sample), sample.value), None, "exported twice: {sample:?}");
    }
    let lines = EXPORT.lines().filter_map(|line| line.rsplit_once(' '));
    let expected: BTreeMap<String, &str> = lines.map(|(series, value)| (series.to_owned(), value)).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (series, value) in &found {
        let holds = match expected[series] {
            "+" => *value > 0.0,
            "*" => (0.0..=1.0).contains(value),
            number => number.parse() == Ok(*value),
        };
        assert!(holds, "{series} {value}, expected {}", expected[series]);
    }

    assert!(metrics.get("firstword_heartbeat_total", &[]) > Some(0.0));
    // Two VMs: the worker's, and the main thread's, which sees no connection.
    let pages = metrics.get("firstword_vm_memory_bytes", &[]).unwrap() / 65_536.0;
    assert!(pages >= 2.0 && pages.fract() == 0.0, "{pages} pages");
    // Each VM counts the series it has defined. What connections define is the worker's, what speaks of the VM is in both.
    #[allow(clippy::cast_precision_loss)]
    let defined = (ours(&metrics).count() + OF_THE_VM.len() + 1) as f64;
    assert_eq!(metrics.get("firstword_series", &[]), Some(defined));
    assert_clean(&envoy.log());
}

/// The series of the histogram come with the others, but the gauge of series in a second step.
fn wait_for_all_exports(envoy: &Envoy) -> Metrics {
    let mut ledger = Ledger::new(envoy, MYSQL);
    ledger.rest();
    ledger.finish();
    envoy.prometheus()
}

/// As Prometheus writes it, without the prefix and the two labels that every series of a connection has.
fn line(sample: &Sample) -> String {
    let mut labels = sample.labels.clone();
    let scope = [("direction", "unspecified"), ("destination", MYSQL)];
    for (key, value) in scope {
        assert_eq!(labels.remove(key).as_deref(), Some(value), "{sample:?}");
    }
    let name = sample.name.strip_prefix("firstword_").unwrap_or(&sample.name);
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

/// What one connection with these chunks must add to `bytes_total`.
fn bytes(chunks: &Chunks) -> String {
    let sum = |sender| sent(chunks, sender);
    format!(
        "bytes_total{{sender=client}} {}\nbytes_total{{sender=server}} {}\n",
        sum(Sender::Client),
        sum(Sender::Server)
    )
}

const GREETED: &str = "
    connections_total{protocol=mysql} 1
    greeting_duration_seconds_count 1
    greetings_total{flavor=mariadb,release=10.11} 1
";

/// Captures, and what each adds besides [`GREETED`] and [`bytes`].
const CAPTURES: [(&str, &str); 4] = [
    (
        "mariadb-text",
        "connections_closed_total{by=client,phase=command} 1
         handshakes_total{result=ok} 1
         commands_total{command=ping} 1
         commands_total{command=query} 6
         commands_total{command=quit} 1
         errors_total{errno=1146} 1
         rows_total 4
         affected_rows_total 5
         packets_total{sender=client} 9
         packets_total{sender=server} 20
         result_sets_total 2",
    ),
    (
        "mariadb-prepared",
        "connections_closed_total{by=client,phase=command} 1
         handshakes_total{result=ok} 1
         commands_total{command=query} 1
         commands_total{command=stmt_prepare} 2
         commands_total{command=stmt_execute} 3
         commands_total{command=stmt_close} 1
         commands_total{command=quit} 1
         errors_total{errno=1064} 1
         rows_total 13
         packets_total{sender=client} 9
         packets_total{sender=server} 38
         result_sets_total 4",
    ),
    (
        "mariadb-refused",
        "connections_closed_total{by=client,phase=authentication} 1
         handshakes_total{result=error} 1
         packets_total{sender=client} 2
         packets_total{sender=server} 2",
    ),
    (
        "mariadb-cli-compressed",
        "connections_closed_total{by=client,phase=opaque} 1
         handshakes_total{result=ok} 1
         opaque_total{reason=compressed} 1
         packets_total{sender=client} 1
         packets_total{sender=server} 2",
    ),
];

/// Whole, and with every byte in a callback of its own, which splits every header in every way.
#[test]
fn any_cut_of_the_bytes_counts_the_same() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
    for (name, counted) in CAPTURES {
        let chunks = captured(name);
        for play in [Pair::play, Pair::play_bytes] {
            let mut pair = Pair::open(address, &server);
            play(&mut pair, &chunks);
            pair.close();
            ledger.expect(&format!("{GREETED}{}{counted}", bytes(&chunks)));
        }
    }
    ledger.finish();
}

/// The greeting arrives while the client is silent. How fast is reported, not judged.
#[test]
fn the_greeting_waits_for_nobody() {
    const CONNECTIONS: usize = 101;
    let server = Server::start();
    let envoy = Envoy::start(shipped(server.address()).edit(with_plain));
    let greeting = &session()[..1];
    let mut medians = Vec::new();
    for listener in [PLAIN, MYSQL] {
        let address = envoy.listener_addr(listener);
        let mut times: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let begin = std::time::Instant::now();
                let mut pair = Pair::open(address, &server);
                pair.play(greeting);
                begin.elapsed()
            })
            .collect();
        times.sort();
        medians.push(times[CONNECTIONS / 2]);
    }
    println!(
        "greeting after: {:?} by tcp_proxy alone, {:?} with the filter (medians)",
        medians[0], medians[1]
    );
    wait_for("count of connections", std::time::Duration::from_secs(20), || {
        let closed = [("phase", "handshake"), ("by", "client")];
        (envoy.metric("firstword_connections_closed_total", &closed) == Some(101.0)).then_some(())
    });
    assert_clean(&envoy.log());
}
