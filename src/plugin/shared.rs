//! What all connections of one plugin configuration in one VM share.

use std::cell::{Cell, RefCell};
use std::rc::Weak;

use log::Level;

use super::access_log::Keys;
use super::advice::ToldPorts;
use super::hazards::{ToldHazards, ToldSuspects};
use super::host::{self, HostMetrics, Status};
use super::journal::Journal;
use super::memory::VmMemory;
use super::newest::Newest;
use super::rewrites::ToldTls;
use super::tracked::{Labels, Tracked};
use crate::config::Config;
use crate::event::Event;
use crate::metrics::{Accumulator, ScopeId};
use crate::mysql::notes::Notes;
use crate::ports;

/// The configuration, its metrics, and its connections.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) journal: Journal,
    /// None: no access-log state is asked for.
    pub(super) access_log: Option<Keys>,
    metrics: RefCell<Accumulator>,
    memory: Cell<Option<VmMemory>>,
    /// With their context ids; those that have ended go with the next tick.
    connections: RefCell<Vec<(u32, Weak<RefCell<Tracked>>)>>,
    newest: Newest,
    pub(super) told_ports: RefCell<ToldPorts>,
    pub(super) told_suspects: RefCell<ToldSuspects>,
    pub(super) told_hazards: RefCell<ToldHazards>,
    pub(super) told_tls: ToldTls,
    /// Reused by every callback so that none allocates.
    scratch: Cell<Vec<Event>>,
    notes: Cell<Notes>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let metrics = &config.metrics;
        let accumulator = Accumulator::new(metrics.profile, metrics.labels.clone(), metrics.max_series);
        Self {
            journal: Journal::new(&config.log),
            access_log: Keys::new(&config.access_log),
            metrics: RefCell::new(accumulator),
            memory: Cell::new(Some(VmMemory::new())),
            connections: RefCell::default(),
            newest: Newest::new(),
            told_ports: RefCell::default(),
            told_suspects: RefCell::default(),
            told_hazards: RefCell::default(),
            told_tls: ToldTls::default(),
            scratch: Cell::default(),
            notes: Cell::default(),
            config,
        }
    }

    /// Empty lists for what one callback tells; give them back with [`Shared::put_back`].
    pub(super) fn lists(&self) -> (Vec<Event>, Notes) {
        (self.scratch.take(), self.notes.take())
    }

    pub(super) fn put_back(&self, mut events: Vec<Event>, mut notes: Notes) {
        events.clear();
        notes.said.clear();
        notes.slow.clear();
        self.scratch.set(events);
        self.notes.set(notes);
    }

    /// Tells the log that the host refused a call.
    pub(super) fn refused(&self, call: &str, status: Status) {
        self.journal.line(Level::Warn, || format!("event=host_refused call={call} status={status}"));
    }

    /// Says that this configuration is the newest.
    pub(super) fn announce(&self) {
        if let Err(status) = self.newest.tell(self.config.mode) {
            self.refused("set_shared_data", status);
        }
    }

    /// A connection begins; it is looked at on every tick while it lives.
    pub(super) fn watch(&self, context_id: u32, connection: Weak<RefCell<Tracked>>) {
        if let Ok(mut connections) = self.connections.try_borrow_mut() {
            connections.push((context_id, connection));
        }
    }

    /// The scope of a connection's metrics.
    pub(super) fn scope(&self, labels: &Labels, destination: &str) -> ScopeId {
        self.with_metrics(|metrics| metrics.scope(|label| labels.value(label, destination)))
            .unwrap_or_default()
    }

    pub(super) fn record(&self, scope: ScopeId, events: &[Event]) {
        self.with_metrics(|metrics| {
            for event in events {
                metrics.record(scope, event);
            }
        });
    }

    /// A port that a rule or the built-in table names: one of a bounded set, fit for a label.
    pub(super) fn is_named(&self, port: u16) -> bool {
        ports::is_known(port) || self.config.named_ports().any(|ports| ports.contains(&port))
    }

    /// Looks at the connections and counts the tick.
    pub(super) fn tick(&self) {
        self.journal.tick();
        self.tick_connections();
        let change = self.with_memory(VmMemory::change);
        self.with_metrics(|metrics| metrics.tick(change));
    }

    fn tick_connections(&self) {
        let Ok(mut connections) = self.connections.try_borrow_mut() else { return };
        connections.retain(|(_, tracked)| tracked.strong_count() > 0);
        if connections.is_empty() {
            return;
        }
        let now = host::now();
        // Connections that began before it came live under an older configuration.
        let newest = self.newest.told();
        for (context_id, tracked) in connections.iter() {
            let Some(tracked) = tracked.upgrade() else { continue };
            let Ok(mut tracked) = tracked.try_borrow_mut() else { continue };
            let newer = newest.filter(|newest| tracked.follows(newest)).map(|newest| newest.mode);
            let wanted = tracked.is_due(now) || newer.is_some();
            if wanted && host::set_effective_context(*context_id).is_ok() {
                tracked.tick(self, now, newer);
            }
        }
    }

    /// Tells the host all counts that it has not been told.
    pub(super) fn flush(&self) {
        self.tell(|metrics, host| metrics.flush(host));
    }

    /// The plugin ends. Each connection that outlives it says so anew when it ends.
    pub(super) fn end(&self) {
        let change = self.memory.take().map_or(0, VmMemory::end);
        self.tell(|metrics, host| metrics.end(change, host));
    }

    /// [`Shared::end`] was called.
    pub(super) fn has_ended(&self) -> bool {
        let memory = self.memory.take();
        let ended = memory.is_none();
        self.memory.set(memory);
        ended
    }

    fn with_memory(&self, ask: impl FnOnce(&VmMemory) -> i64) -> i64 {
        let memory = self.memory.take();
        let answer = memory.as_ref().map_or(0, ask);
        self.memory.set(memory);
        answer
    }

    fn tell(&self, what: impl FnOnce(&mut Accumulator, &mut HostMetrics)) {
        let mut host = HostMetrics::default();
        self.with_metrics(|metrics| what(metrics, &mut host));
        if let Some((call, status)) = host.refused {
            self.refused(call, status);
        }
    }

    /// Envoy does not enter a VM that is busy, so the borrow cannot fail; if it did, a count would be
    /// lost, where a panic would cost every connection of the worker.
    fn with_metrics<T>(&self, what: impl FnOnce(&mut Accumulator) -> T) -> Option<T> {
        self.metrics.try_borrow_mut().ok().map(|mut metrics| what(&mut metrics))
    }
}
