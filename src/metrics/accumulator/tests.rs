use std::collections::BTreeMap;

use super::*;
use crate::event::{ClosedBy, Phase, Sender, Tally};
use crate::mysql::command::Command;

/// A host that refuses as long as it is told to.
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

fn failed(errno: u16) -> Event {
    Event::CommandEnded {
        command: Command::QUERY,
        tally: Some(Tally { errno: Some(errno), rows: 2, ..Tally::default() }),
    }
}

fn greeted(after: Duration) -> Event {
    let (flavor, release) = crate::mysql::version::identify(b"8.0.41");
    Event::Greeting { flavor, release, after }
}

#[test]
fn what_the_host_refuses_is_told_later() {
    let (mut metrics, scope) = accumulator(Profile::Standard, 1000);
    let mut host = Host { refuses_names: true, refuses_values: true, ..Host::default() };
    for round in 1..=3 {
        metrics.tick(65_536);
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
    assert_eq!(host.calls, 0, "nothing is told twice");
}

#[test]
fn gauges_give_back_what_they_took() {
    let (mut metrics, scope) = accumulator(Profile::Full, 1000);
    let mut host = Host::default();
    let active = |host: &Host, protocol: &str| {
        host.get(&format!("destination=.=db;.;protocol=.={protocol};.;firstword_connections_active"))
    };
    metrics.record(scope, &Event::Waiting(Protocol::Unknown));
    metrics.record(scope, &Event::CommandStarted(Command::QUERY));
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (1, 0));
    assert_eq!(host.get("destination=.=db;.;firstword_commands_in_flight"), 1);
    let protocol = Protocol::Mysql;
    metrics.record(scope, &Event::Recognised { protocol, waited_as: Some(Protocol::Unknown) });
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (0, 1));
    metrics.record(scope, &Event::CommandEnded { command: Command::QUERY, tally: None });
    metrics.record(scope, &Event::Closed { protocol, phase: Phase::Command, by: ClosedBy::Client });
    metrics.flush(&mut host);
    assert_eq!((active(&host, "unknown"), active(&host, "mysql")), (0, 0));
    assert_eq!(host.get("destination=.=db;.;firstword_commands_in_flight"), 0);
    assert!(!host.values.contains_key("destination=.=db;.;firstword_rows_total"), "no answer was seen");
}

#[test]
fn the_end_gives_back_the_vms_gauges_however_often_it_comes() {
    for ticks in 0..2 {
        let (mut metrics, scope) = accumulator(Profile::Standard, 1000);
        let mut host = Host::default();
        for _ in 0..ticks {
            metrics.tick(65_536);
            metrics.flush(&mut host);
        }
        metrics.end(-65_536 * ticks, &mut host);
        assert_eq!(host.get("firstword_series"), 0);
        assert_eq!(host.get("firstword_vm_memory_bytes"), 0);
        metrics.record(scope, &failed(1205));
        metrics.end(0, &mut host);
        assert_eq!(host.get("destination=.=db;.;errno=.=1205;.;firstword_errors_total"), 1);
        assert_eq!(host.get("firstword_series"), 0);
    }
}

#[test]
fn a_profile_limits_labels_of_many_values_and_spares_the_others() {
    let (mut metrics, scope) = accumulator(Profile::Minimal, 1000);
    let mut host = Host::default();
    for errno in (1000..3000).chain([1146, 1146]) {
        metrics.record(scope, &failed(errno));
    }
    for byte in 0..=u8::MAX {
        metrics.record(scope, &Event::CommandSent(Command(byte)));
    }
    for sender in Sender::ALL {
        metrics.record(scope, &Event::Bytes { sender: *sender, count: 7 });
    }
    metrics.flush(&mut host);
    assert!(host.names.len() <= 60, "{}", host.names.len());
    let total = |name: &str| -> i64 {
        host.values.iter().filter(|(metric, _)| metric.ends_with(name)).map(|(_, value)| value).sum()
    };
    assert_eq!((total("_errors_total"), total("_commands_total"), total("_bytes_total")), (2002, 256, 14));
    assert!(host.get("destination=.=db;.;errno=.=other;.;firstword_errors_total") > 1000);
    assert_eq!(host.get("firstword_series_overflow_total"), 0, "the profile asked for it");
    assert_eq!(max_open(Profile::Full), usize::MAX);
    assert!(max_open(Profile::Minimal) > 0 && max_open(Profile::Standard) > 100);
}

#[test]
fn a_histogram_moves_to_other_in_whole() {
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
fn scopes_are_found_again_and_limited() {
    let mut metrics = Accumulator::new(Profile::Minimal, LABELS.to_vec(), 4);
    let (a, b) = (metrics.scope(|_| "a"), metrics.scope(|_| "b"));
    assert_ne!(a, b);
    assert_eq!(metrics.scope(|_| "a"), a);
    assert_eq!(metrics.scope(|_| "c"), ScopeId::default(), "as many scopes as series");
    assert_eq!(metrics.scope(|_| "other"), ScopeId::default());
}
