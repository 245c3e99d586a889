//! A world: a worker with its configurations and connections.

use std::cell::RefCell;
use std::time::Duration;

use firstword::event::ClosedBy;
use firstword::filter::Filter;
use firstword::filter::host::Host as _;
use firstword::filter::mode::PublishedMode;
use firstword::filter::rejection::ProxyState;
use firstword::metrics::catalogue::{Kind as MetricKind, Metric};
use firstword_testing::fake_host::{FakeHost, FakeMetrics};
use firstword_testing::random::Random;

use crate::peers::Peers;
use crate::rule::{KINDS, configuration};

/// Calls that the proxy may refuse without an effect on bytes and counts.
const CALLS: [&str; 3] = ["cluster", "set_filter_state", "upstream_address"];

const STEPS: usize = 600;

/// What happened in some worlds.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    connections: u64,
    complete: u64,
    closed_by_filter: u64,
    configurations: u64,
    refused_configurations: u64,
    hostile: u64,
    counts: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.complete += other.complete;
        self.closed_by_filter += other.closed_by_filter;
        self.configurations += other.configurations;
        self.refused_configurations += other.refused_configurations;
        self.hostile += other.hostile;
        self.counts += other.counts;
    }

    pub(crate) fn assert_that_everything_happened(&self) {
        let Self {
            connections,
            complete,
            closed_by_filter,
            configurations,
            refused_configurations,
            hostile,
            counts,
        } = *self;
        for (what, number) in [
            ("connections", connections),
            ("complete", complete),
            ("closed_by_filter", closed_by_filter),
            ("configurations", configurations),
            ("refused_configurations", refused_configurations),
            ("hostile", hostile),
            ("counts", counts),
        ] {
            assert!(number > 0, "no {what}: {self:?}");
        }
    }
}

/// A configuration, and the connections that it opened.
struct Generation {
    filter: Filter,
    connections: Vec<Peers>,
}

pub(crate) struct World {
    random: Random,
    host: FakeHost,
    metrics: RefCell<FakeMetrics>,
    /// The newest is the last.
    generations: Vec<Generation>,
    published: Option<PublishedMode>,
    /// Connections that have ended.
    ended: Vec<Peers>,
    totals: Totals,
    opened: u16,
}

impl World {
    /// Runs the world of a seed. Panics if the filter does what it must not do.
    pub(crate) fn run(seed: u64) -> Totals {
        let mut world = Self {
            random: Random::from_seed(seed),
            host: FakeHost::default(),
            metrics: RefCell::default(),
            generations: Vec::new(),
            published: None,
            ended: Vec::new(),
            totals: Totals::default(),
            opened: 0,
        };
        world.configure();
        for _ in 0..STEPS {
            world.step();
        }
        world.end();
        world.totals
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..10 => self.open(),
            10..12 => self.configure(),
            12..14 => self.refuse_configuration(),
            14..24 => self.tick(),
            24..26 => self.refuse_calls(),
            26..28 => self.disturb(),
            28..31 => self.reset(),
            _ => self.advance(),
        }
    }

    fn open(&mut self) {
        if self.opened >= 90 {
            return;
        }
        let kind = KINDS[self.random.below(KINDS.len())];
        let Some(newest) = self.generations.last_mut() else { return };
        let peers =
            Peers::open(&newest.filter, kind, kind.port(self.opened), self.host.time.get(), &mut self.random);
        newest.connections.push(peers);
        self.opened += 1;
        self.totals.connections += 1;
    }

    /// A configuration replaces the newest one, which ends when its connections have.
    fn configure(&mut self) {
        let mode = ["active", "active", "active", "observe", "off"][self.random.below(5)];
        let text = configuration(mode, &mut self.random);
        let filter = Filter::configure(text.as_bytes(), ProxyState::default, &self.host);
        let filter = filter.unwrap_or_else(|| panic!("refused: {:?}", self.host.take_log()));
        self.published = Some(PublishedMode { since: self.host.now(), mode: filter.mode() });
        if let Some(older) = self.generations.last() {
            older.filter.end(None, &mut *self.metrics.borrow_mut());
        }
        self.generations.push(Generation { filter, connections: Vec::new() });
        self.totals.configurations += 1;
    }

    /// A proxy that has accepted a configuration keeps it.
    fn refuse_configuration(&mut self) {
        let bad = configuration("activ", &mut self.random);
        let proxy = || ProxyState { has_accepted: true, ..ProxyState::default() };
        assert!(Filter::configure(bad.as_bytes(), proxy, &self.host).is_none());
        self.totals.refused_configurations += 1;
    }

    fn tick(&mut self) {
        let by = Duration::from_millis(self.random.below(600) as u64);
        self.host.advance(by);
        for generation in &mut self.generations {
            let Generation { filter, connections } = generation;
            filter.begin_tick(&self.host);
            for connection in connections.iter_mut() {
                connection.host.time.set(self.host.time.get());
                connection.tick(filter, self.published);
            }
            filter.end_tick(None, &mut *self.metrics.borrow_mut());
        }
        self.remove_closed(ClosedBy::Proxy);
    }

    fn refuse_calls(&mut self) {
        let call = CALLS[self.random.below(CALLS.len())];
        if let Some((_, connection)) = self.any() {
            let mut refused = connection.host.refused.borrow_mut();
            if !refused.remove(call) {
                refused.insert(call);
            }
        }
    }

    /// Some connection, with the configuration that opened it.
    fn any(&mut self) -> Option<(&Filter, &mut Peers)> {
        let count: usize = self.generations.iter().map(|generation| generation.connections.len()).sum();
        let mut index = if count == 0 { return None } else { self.random.below(count) };
        for generation in &mut self.generations {
            if index < generation.connections.len() {
                return Some((&generation.filter, &mut generation.connections[index]));
            }
            index -= generation.connections.len();
        }
        None
    }

    fn advance(&mut self) {
        let mut random = self.random.another();
        let Some((filter, connection)) = self.any() else { return };
        if !connection.advance(filter, &mut random) {
            connection.assert_complete();
            connection.close(filter, ClosedBy::Client);
            self.totals.complete += 1;
        }
        self.remove_closed(ClosedBy::Client);
    }

    fn disturb(&mut self) {
        let mut random = self.random.another();
        let Some((filter, connection)) = self.any() else { return };
        connection.send_garbage(filter, &mut random);
        self.totals.hostile += 1;
        self.remove_closed(ClosedBy::Proxy);
    }

    fn reset(&mut self) {
        let by = [ClosedBy::Client, ClosedBy::Server, ClosedBy::Proxy][self.random.below(3)];
        let Some((filter, connection)) = self.any() else { return };
        connection.close(filter, by);
        self.remove_closed(by);
    }

    /// Moves connections that have ended. The filter must get the end of each once.
    fn remove_closed(&mut self, by: ClosedBy) {
        for Generation { filter, connections } in &mut self.generations {
            let (closed, open): (Vec<_>, Vec<_>) =
                std::mem::take(connections).into_iter().partition(|connection| connection.is_closed);
            *connections = open;
            for mut connection in closed {
                if connection.ends_by_filter() {
                    connection.close(filter, by);
                    self.totals.closed_by_filter += 1;
                }
                if filter.has_ended() {
                    filter.end(None, &mut *self.metrics.borrow_mut());
                }
                self.ended.push(connection);
            }
        }
    }

    /// Ends everything, and compares the counts with the scripts.
    fn end(&mut self) {
        for Generation { filter, connections } in &mut self.generations {
            for connection in connections.iter_mut() {
                connection.close(filter, ClosedBy::Server);
            }
            self.ended.append(connections);
            if !filter.has_ended() {
                filter.end_tick(None, &mut *self.metrics.borrow_mut());
                filter.flush(&mut *self.metrics.borrow_mut());
                let state = self.metrics.borrow().sum(Metric::ConnectionState.definition().name, &[]);
                assert_eq!(state, 0, "memory of connections that have ended");
            }
            filter.end(None, &mut *self.metrics.borrow_mut());
        }
        let metrics = self.metrics.borrow();
        for metric in Metric::ALL {
            let definition = metric.definition();
            // These describe a VM, which does not end.
            let of_vm = matches!(metric, Metric::Series | Metric::BuildInfo);
            if definition.kind == MetricKind::Gauge && !of_vm {
                assert_eq!(metrics.sum(definition.name, &[]), 0, "the gauge {} at the end", definition.name);
            }
        }
        for connection in &self.ended {
            let port = connection.port;
            let counted = metrics.counted(&format!("port=.={port};.;"));
            let sum = |name: &str, label: &str| {
                let of = |line: &String| {
                    let (metric, value) = line.rsplit_once(' ')?;
                    let (metric, labels) = metric.split_once('{').unwrap_or((metric, ""));
                    let has_label =
                        label.is_empty() || labels.trim_end_matches('}').split(',').any(|own| own == label);
                    (metric == name && has_label).then(|| value.parse::<i64>().unwrap())
                };
                counted.iter().filter_map(of).sum::<i64>()
            };
            assert_eq!(sum("connections_total", ""), 1, "{port}");
            assert_eq!(sum("connections_closed_total", ""), 1, "{port}");
            for ((name, label), most) in &connection.at_most {
                let least = connection.at_least.get(&(*name, *label)).copied().unwrap_or_default();
                let found = sum(name, label);
                assert!(
                    (least..=*most).contains(&found),
                    "{port}: {name}{{{label}}} is {found}, not {least} to {most}"
                );
                self.totals.counts += 1;
            }
            if let Some(bytes) = connection.counted_bytes() {
                let found = ["sender=client", "sender=server"].map(|sender| sum("bytes_total", sender));
                assert_eq!(found, bytes, "bytes_total of {port}");
            }
        }
    }
}
