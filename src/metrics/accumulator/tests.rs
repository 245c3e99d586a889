use std::collections::BTreeMap;

use super::*;
use crate::event::{ClosedBy, HandshakeResult, Phase, Sender, Tally};
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::rules::Expected;

/// A host that refuses calls while a test wants it to.
#[derive(Default)]
struct Host {
    names: Vec<String>,
    values: BTreeMap<String, i64>,
    calls: usize,
    refuses_names: bool,
    refuses_values: bool,
}

impl Host {
    fn change(&mut self, id: u32, change: impl FnOnce(i64) -> i64) -> bool {
        self.calls += 1;
        if !self.refuses_values {
            let value = self.values.entry(self.names[id as usize].clone()).or_default();
            *value = change(*value);
        }
        !self.refuses_values
    }

    fn get(&self, name: &str) -> i64 {
        self.values.get(name).copied().unwrap_or(0)
    }
}

impl Sink for Host {
    fn define(&mut self, _: Kind, name: &str) -> Option<u32> {
        self.calls += 1;
        if self.refuses_names {
            return None;
        }
        let known = self.names.iter().position(|known| known == name);
        let id = known.unwrap_or(self.names.len());
        if known.is_none() {
            self.names.push(name.to_owned());
        }
        u32::try_from(id).ok()
    }

    fn add(&mut self, id: u32, delta: i64) -> bool {
        assert_ne!(delta, 0, "Envoy refuses a counter's zero");
        self.change(id, |value| value + delta)
    }

    fn set(&mut self, id: u32, new: u64) -> bool {
        self.change(id, |_| new as i64)
    }
}

const LABELS: [ScopeLabel; 1] = [ScopeLabel::Destination];

fn accumulator(profile: Profile, max_series: u32) -> (Accumulator, ScopeId) {
    let mut accumulator = Accumulator::new(profile, LABELS.to_vec(), max_series);
    let scope = accumulator.scope(|_| "db");
    (accumulator, scope)
}

fn answered(command: Command, verb: Option<Verb>, tally: Tally) -> Event {
    let (duration, first_byte) = (Duration::from_millis(3), Duration::from_millis(2));
    Event::CommandEnded { command, verb, response: Some(Response { tally, duration, first_byte }) }
}

fn failed(errno: u16) -> Event {
    answered(Command::QUERY, Some(Verb::Select), Tally { errno: Some(errno), rows: 2, ..Tally::default() })
}

fn greeted(after: Duration) -> Event {
    let (flavor, release) = crate::mysql::peer::server::identify(b"8.0.41");
    Event::Greeting { flavor, release, after }
}

fn client(name: &str, version: &str) -> Event {
    let (connector, series) = crate::mysql::peer::client::identify(name.as_bytes(), version.as_bytes());
    Event::Client { connector, series }
}

fn linear(linear: i64) -> MemoryChange {
    MemoryChange { linear, ..MemoryChange::default() }
}

#[test]
fn refused_changes_are_exported_later() {
    let (mut metrics, scope) = accumulator(Profile::Standard, 1000);
    let mut host = Host { refuses_names: true, refuses_values: true, ..Host::default() };
    for round in 1..=3 {
        metrics.tick(linear(65_536));
        metrics.record(scope, &failed(1146));
        metrics.record(scope, &greeted(Duration::from_millis(1)));
        metrics.flush(&mut host);
        host.refuses_names = round < 2;
        host.refuses_values = round < 3;
    }
    assert_eq!(host.values.len(), 0);
    metrics.flush(&mut host);
    assert_eq!(host.get("destination=.=db;.;errno=.=1146;.;firstword_errors_total"), 3);
    assert_eq!(host.get("destination=.=db;.;firstword_rows_total"), 6);
    assert_eq!(host.get("destination=.=db;.;firstword_greeting_duration_microseconds_sum"), 3000);
    assert_eq!(host.get("destination=.=db;.;le=.=0.001;.;firstword_greeting_duration_seconds_bucket"), 3);
    assert_eq!(host.get("destination=.=db;.;le=.=0.00025;.;firstword_greeting_duration_seconds_bucket"), 0);
    assert_eq!(host.get("firstword_heartbeat_total"), 3);
    assert_eq!(host.get("firstword_vm_memory_bytes"), 196_608);
    assert_eq!(host.get("firstword_series"), host.names.len() as i64);
    host.calls = 0;
    metrics.flush(&mut host);
    assert_eq!(host.calls, 0, "no change is exported twice");
}

#[test]
fn gauges_return_to_zero() {
    let (mut metrics, scope) = accumulator(Profile::Full, 1000);
    let mut host = Host::default();
    let active = |host: &Host, protocol: &str| {
        host.get(&format!("destination=.=db;.;protocol=.={protocol};.;firstword_connections_active"))
    };
    metrics.record(scope, &Event::Waiting(Expected::Unknown));
    metrics.record(scope, &Event::CommandStarted(Command::QUERY));
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (1, 0));
    assert_eq!(host.get("destination=.=db;.;firstword_commands_in_flight"), 1);
    let protocol = Protocol::Mysql;
    metrics.record(scope, &Event::Recognised { protocol, waited_as: Some(Expected::Unknown) });
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (0, 1));
    let verb = Some(Verb::Select);
    metrics.record(scope, &Event::CommandEnded { command: Command::QUERY, verb, response: None });
    metrics.record(scope, &Event::Closed { protocol, phase: Phase::Command, by: ClosedBy::Client });
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (0, 0));
    assert_eq!(host.get("destination=.=db;.;firstword_commands_in_flight"), 0);
    for of_responses in ["rows_total", "command_duration", "statements_total"] {
        let is_exported = host.values.keys().any(|name| name.contains(of_responses));
        assert!(!is_exported, "there was no response: {of_responses}");
    }
}

#[test]
fn open_statements_and_transactions_are_gauges() {
    let (mut metrics, scope) = accumulator(Profile::Standard, 1000);
    let mut host = Host::default();
    let mut open = |events: &[Event]| {
        events.iter().for_each(|event| metrics.record(scope, event));
        metrics.flush(&mut host);
        let gauge = |name: &str| host.get(&format!("destination=.=db;.;firstword_{name}_open"));
        (gauge("prepared_statements"), gauge("transactions"))
    };
    let statements = |change| Event::PreparedStatements { change };
    let transaction = |open| Event::Transaction { open };
    assert_eq!(open(&[statements(1), statements(1), statements(1), transaction(true)]), (3, 1));
    assert_eq!(open(&[statements(-1), transaction(true)]), (2, 2));
    assert_eq!(open(&[statements(-2), transaction(false), transaction(false)]), (0, 0));
}

#[test]
fn a_response_adds_to_every_metric_of_its_tally() {
    let (mut metrics, scope) = accumulator(Profile::Full, 1000);
    let mut host = Host::default();
    let tally = Tally {
        rows: 1,
        affected_rows: 2,
        warnings: 3,
        result_sets: 4,
        no_index_used: 5,
        slow: 6,
        errno: Some(1205),
    };
    metrics.record(scope, &answered(Command::QUERY, Some(Verb::Select), tally));
    metrics.record(scope, &answered(Command::STMT_PREPARE, Some(Verb::Select), Tally::default()));
    metrics.record(scope, &answered(Command::STMT_EXECUTE, Some(Verb::Insert), Tally::default()));
    metrics.record(scope, &answered(Command::PING, None, Tally::default()));
    metrics.flush(&mut host);
    for (name, count) in [
        ("firstword_rows_total", 1),
        ("firstword_affected_rows_total", 2),
        ("firstword_warnings_total", 3),
        ("firstword_result_sets_total", 4),
        ("firstword_no_index_used_total", 5),
        ("firstword_slow_flag_total", 6),
        ("errno=.=1205;.;firstword_errors_total", 1),
        ("verb=.=select;.;firstword_statements_total", 1),
        ("verb=.=insert;.;firstword_statements_total", 1),
    ] {
        assert_eq!(host.get(&format!("destination=.=db;.;{name}")), count, "{name}");
    }
    for (command, verb) in
        [("query", "select"), ("stmt_prepare", "select"), ("stmt_execute", "insert"), ("ping", "none")]
    {
        let sum = |labels: &str, metric: &str| {
            host.get(&format!(
                "destination=.=db;.;command=.={command};.;{labels}firstword_{metric}_microseconds_sum"
            ))
        };
        let duration = sum(&format!("verb=.={verb};.;"), "command_duration");
        assert_eq!((duration, sum("", "command_first_byte")), (3000, 2000), "{command}");
    }
}

#[test]
fn events_of_the_connection_phase_are_counted() {
    let (mut metrics, scope) = accumulator(Profile::Full, 1000);
    let mut host = Host::default();
    let handshake = |result, duration| Event::Handshake { result, duration };
    let plugin = AuthPlugin::CachingSha2Password;
    for event in [
        handshake(HandshakeResult::Ok, Some(Duration::from_micros(7))),
        handshake(HandshakeResult::Aborted, None),
        Event::AuthSwitch(plugin),
        Event::PlaintextFullAuth,
        client("libmariadb", "3.3.14"),
        client("Go-MySQL-Driver", ""),
        client("hostile", "3.3.14"),
        client("", ""),
        Event::HandshakeError { errno: 1045, plugin },
        Event::HandshakeError { errno: 60_000, plugin: AuthPlugin::None },
    ] {
        metrics.record(scope, &event);
    }
    metrics.flush(&mut host);
    for (name, value) in [
        ("result=.=ok;.;firstword_handshakes_total", 1),
        ("result=.=aborted;.;firstword_handshakes_total", 1),
        ("firstword_handshake_duration_seconds_count", 1),
        ("firstword_handshake_duration_microseconds_sum", 7),
        ("plugin=.=caching_sha2_password;.;firstword_auth_switches_total", 1),
        ("firstword_plaintext_full_auth_total", 1),
        ("client=.=libmariadb;.;client_series=.=3.3;.;firstword_clients_total", 1),
        ("client=.=go-sql-driver;.;client_series=.=none;.;firstword_clients_total", 1),
        ("client=.=other;.;client_series=.=other;.;firstword_clients_total", 1),
        ("client=.=none;.;client_series=.=none;.;firstword_clients_total", 1),
        ("errno=.=1045;.;plugin=.=caching_sha2_password;.;firstword_handshake_errors_total", 1),
        ("errno=.=other;.;plugin=.=none;.;firstword_handshake_errors_total", 1),
    ] {
        assert_eq!(host.get(&format!("destination=.=db;.;{name}")), value, "{name}");
    }
}

#[test]
fn every_end_removes_the_vm_from_its_gauges() {
    for ticks in 0..2 {
        let (mut metrics, scope) = accumulator(Profile::Standard, 1000);
        let mut host = Host::default();
        for _ in 0..ticks {
            metrics.tick(linear(65_536));
            metrics.flush(&mut host);
        }
        metrics.end(linear(-65_536 * ticks), &mut host);
        assert_eq!(host.get("firstword_series"), 0);
        assert_eq!(host.get("firstword_vm_memory_bytes"), 0);
        metrics.record(scope, &failed(1205));
        metrics.end(linear(0), &mut host);
        assert_eq!(host.get("destination=.=db;.;errno=.=1205;.;firstword_errors_total"), 1);
        assert_eq!(host.get("firstword_series"), 0);
    }
}

/// Records every event that peers can cause. The reserved label sets come last.
fn everything(mut record: impl FnMut(Event)) {
    use crate::event::{ClientFirst, HeaderResult, OpaqueReason, ServerFirst};
    use crate::proxy_protocol::Format;
    let errnos = || (0..=5000).rev();
    for errno in errnos() {
        record(Event::PreHandshakeError { errno });
        record(Event::ServerNotice { errno });
        record(failed(errno));
        for plugin in AuthPlugin::ALL {
            record(Event::HandshakeError { errno, plugin: *plugin });
        }
    }
    for byte in (0..=u8::MAX).rev() {
        record(Event::CommandStarted(Command(byte)));
        for verb in Verb::ALL.iter().copied().map(Some).chain([None]) {
            record(answered(Command(byte), verb, Tally { rows: 1, ..Tally::default() }));
        }
    }
    for major in 0..30 {
        for mark in ["", "-MariaDB", "-TiDB", "-Vitess", "-Percona", "-mycat"] {
            for minor in 0..20 {
                let text = format!("{major}.{minor}.1{mark}");
                let (flavor, release) = crate::mysql::peer::server::identify(text.as_bytes());
                record(Event::Greeting { flavor, release, after: Duration::ZERO });
                for name in ["libmysql", "libmariadb", "mysqlconnector", "pymysql", "who", ""] {
                    let (connector, series) =
                        crate::mysql::peer::client::identify(name.as_bytes(), text.as_bytes());
                    record(Event::Client { connector, series });
                }
            }
        }
    }
    for phase in Phase::ALL {
        for by in ClosedBy::ALL {
            for protocol in Protocol::ALL {
                record(Event::Recognised { protocol: *protocol, waited_as: None });
                record(Event::Closed { protocol: *protocol, phase: *phase, by: *by });
            }
        }
    }
    ServerFirst::ALL.iter().rev().for_each(|spoken| record(Event::ServerFirst(*spoken)));
    ClientFirst::ALL.iter().for_each(|seen| record(Event::ClientFirst(*seen)));
    OpaqueReason::ALL.iter().for_each(|reason| record(Event::Opaque(*reason)));
    for sender in Sender::ALL {
        record(Event::Bytes { sender: *sender, count: 7 });
        record(Event::CompressedBytes { sender: *sender, count: 7 });
        record(Event::Packets { sender: *sender, count: 7 });
    }
    for result in HandshakeResult::ALL {
        record(Event::Handshake { result: *result, duration: Some(Duration::ZERO) });
    }
    for plugin in AuthPlugin::ALL {
        record(Event::AuthSwitch(*plugin));
    }
    for format in [None, Some(Format::V1), Some(Format::V2)] {
        HeaderResult::ALL.iter().for_each(|result| record(Event::ProxyHeader { format, result: *result }));
    }
    Format::ALL.iter().for_each(|format| record(Event::ProxyHeaderSent(*format)));
    for event in [
        Event::PlaintextFullAuth,
        Event::LocalInfile,
        Event::GreetingTimeout,
        Event::Stalled { change: 1 },
        Event::PreparedStatements { change: 1 },
        Event::Transaction { open: true },
    ] {
        record(event);
    }
}

/// The names of the reserved series of the destination `db`, without those of histograms.
fn reserved(profile: Profile) -> Vec<String> {
    let mut names = Vec::new();
    for metric in Metric::ALL {
        let definition = metric.definition();
        if definition.kind == Kind::Histogram || definition.profile > profile {
            continue;
        }
        for codes in budget::reserved(*metric, profile) {
            let mut name = "destination=.=db;.;".to_owned();
            for (label, code) in definition.labels.iter().zip(codes) {
                push_label(&mut name, label.key(), &label.value(*code));
            }
            push_name(&mut name, definition.name, "");
            names.push(name);
        }
    }
    names
}

#[test]
fn series_stay_within_the_profile_and_reserved_series_always_exist() {
    for profile in [Profile::Minimal, Profile::Standard, Profile::Full] {
        let (mut metrics, scope) = accumulator(profile, 1000);
        let mut host = Host::default();
        everything(|event| metrics.record(scope, &event));
        metrics.flush(&mut host);
        let allowed = profile.max_series().unwrap_or(1000);
        let overflow = host.names.iter().filter(|name| name.starts_with("destination=.=other")).count();
        assert!(host.names.len() - overflow <= allowed, "{profile:?}: {}", host.names.len());
        for name in reserved(profile.min(Profile::Standard)) {
            assert!(host.get(&name) > 0, "{profile:?}: {name}");
        }
        if profile != Profile::Full {
            assert_eq!(host.get("firstword_series_overflow_total"), 0, "{profile:?}: no overflow");
            assert_eq!(overflow, 0);
        }
        let total = |name: &str| -> i64 {
            host.values.iter().filter(|(metric, _)| metric.ends_with(name)).map(|(_, value)| value).sum()
        };
        assert_eq!(total(";firstword_errors_total"), 5001, "{profile:?}");
        assert_eq!(total(";firstword_pre_handshake_errors_total"), 5001, "{profile:?}");
        assert_eq!(total(";firstword_commands_total"), 256, "{profile:?}");
        assert_eq!(total(";firstword_bytes_total"), 14, "{profile:?}");
    }
}

#[test]
fn the_same_errors_have_series_in_every_worker() {
    // Label sets that are not reserved get series if they come early: a few in `standard`, none in `minimal`.
    for (profile, early) in [(Profile::Minimal, 0), (Profile::Standard, 2)] {
        let (mut metrics, scope) = accumulator(profile, 1000);
        let mut host = Host::default();
        for errno in [1007, 1008, 1050, 1051, 1091, 1205] {
            metrics.record(scope, &failed(errno));
            metrics.record(scope, &failed(errno));
        }
        metrics.flush(&mut host);
        let own: Vec<_> =
            host.values.iter().filter(|(name, value)| name.contains("errno=.=1") && **value == 2).collect();
        assert_eq!(own.len(), early + 1, "{profile:?}: {own:?}");
        assert_eq!(host.get("destination=.=db;.;errno=.=1205;.;firstword_errors_total"), 2);
        let other = host.get("destination=.=db;.;errno=.=other;.;firstword_errors_total");
        assert_eq!(other, 10 - 2 * early as i64, "{profile:?}");
    }
}

#[test]
fn a_histogram_without_budget_counts_as_other_with_all_its_series() {
    let (mut metrics, scope) = accumulator(Profile::Standard, 32);
    let mut host = Host::default();
    metrics.record(scope, &greeted(Duration::from_millis(1)));
    metrics.record(scope, &greeted(Duration::from_millis(1)));
    metrics.flush(&mut host);
    let histograms: Vec<_> = host.names.iter().filter(|name| name.contains("greeting_duration")).collect();
    assert_eq!(histograms.len(), histogram_series(Profile::Standard));
    assert!(histograms.iter().all(|name| name.starts_with("destination=.=other;.;")), "{histograms:?}");
    assert_eq!(host.get("destination=.=other;.;firstword_greeting_duration_seconds_count"), 2);
    assert!(host.get("firstword_series_overflow_total") >= 1);
}

#[test]
fn equal_labels_share_a_scope_and_scopes_are_limited() {
    let mut metrics = Accumulator::new(Profile::Minimal, LABELS.to_vec(), 4);
    let (a, b) = (metrics.scope(|_| "a"), metrics.scope(|_| "b"));
    assert_ne!(a, b);
    assert_eq!(metrics.scope(|_| "a"), a);
    assert_eq!(metrics.scope(|_| "c"), ScopeId::default(), "as many scopes as series");
    assert_eq!(metrics.scope(|_| "other"), ScopeId::default());
}
