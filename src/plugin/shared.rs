//! What all connections of one plugin configuration in one VM share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Weak;

use log::Level;

use super::access_log::Keys;
use super::advice::ToldPorts;
use super::hazards::{ToldHazards, ToldSuspects};
use super::host::{self, HostMetrics, Status};
use super::journal::Journal;
use super::memory::{self, VmMemory};
use super::newest::Newest;
use super::rewrites::ToldTls;
use super::tracked::{Labels, Tracked};
use crate::config::Config;
use crate::event::Event;
use crate::event::details::Notes;
use crate::metrics::{Accumulator, MemoryChange, ScopeId};
use crate::ports;

/// Maximum number of events whose memory is kept between callbacks.
const MAX_IDLE_EVENTS: usize = 1024;
/// A connection that takes less than this keeps it, however many there are, in bytes.
const MIN_SHARE: usize = 4 << 10;

/// The configuration, its metrics, and its connections.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) journal: Journal,
    /// None: no access-log state is asked for.
    pub(super) access_log: Option<Keys>,
    metrics: RefCell<Accumulator>,
    memory: Cell<Option<VmMemory>>,
    /// Memory of the state of this plugin's connections, in bytes, and as much of it as the gauge has.
    state: Cell<usize>,
    state_reported: Cell<i64>,
    /// By their context ids.
    connections: RefCell<BTreeMap<u32, Weak<RefCell<Tracked>>>>,
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
            state: Cell::new(0),
            state_reported: Cell::new(0),
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
        notes.clear();
        // What one large callback needed is not kept for the VM's life.
        if events.capacity() > MAX_IDLE_EVENTS {
            events.shrink_to(MAX_IDLE_EVENTS);
        }
        notes.shrink_to(MAX_IDLE_EVENTS);
        self.scratch.set(events);
        self.notes.set(notes);
    }

    /// The budget of connection state has room for `bytes` more bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        memory::connection_state().saturating_add(bytes) <= self.config.limits.connection_state
    }

    /// Maximum number of bytes for which the budget of connection state has room.
    pub(super) fn room(&self) -> usize {
        self.config.limits.connection_state.saturating_sub(memory::connection_state())
    }

    /// The state of one connection, in bytes, is more than its share of a budget that is nearly used up.
    fn is_above_share(&self, state: usize) -> bool {
        let high = self.config.limits.connection_state.saturating_mul(3) / 4;
        let share = high.checked_div(memory::connections()).unwrap_or(high).max(MIN_SHARE);
        memory::connection_state() > high && state > share
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
            connections.insert(context_id, connection);
        }
    }

    /// The state of one of this plugin's connections takes `after` bytes, and took `before`.
    pub(super) fn count_state(&self, before: usize, after: usize) {
        self.state.set(self.state.get().saturating_sub(before).saturating_add(after));
    }

    /// By how many bytes the state of this plugin's connections changed since this was last called.
    fn change_of_state(&self) -> i64 {
        if self.has_ended() {
            return 0;
        }
        let now = i64::try_from(self.state.get()).unwrap_or(i64::MAX);
        now.saturating_sub(self.state_reported.replace(now))
    }

    /// A connection has ended.
    pub(super) fn forget(&self, context_id: u32) {
        if let Ok(mut connections) = self.connections.try_borrow_mut() {
            connections.remove(&context_id);
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
        let linear = self.with_memory(VmMemory::change).unwrap_or_default();
        let connection_state = self.change_of_state();
        self.with_metrics(|metrics| metrics.tick(MemoryChange { linear, connection_state }));
    }

    fn tick_connections(&self) {
        let Ok(mut connections) = self.connections.try_borrow_mut() else { return };
        connections.retain(|_, tracked| tracked.strong_count() > 0);
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
            let is_too_large = self.is_above_share(tracked.state_bytes());
            let wanted = tracked.is_due(now) || newer.is_some() || is_too_large;
            if wanted && host::set_effective_context(*context_id).is_ok() {
                tracked.tick(self, now, newer, is_too_large);
            }
        }
    }

    /// Tells the host all counts that it has not been told.
    pub(super) fn flush(&self) {
        self.tell(|metrics, host| metrics.flush(host));
    }

    /// The plugin ends. Each connection that outlives it says so anew when it ends.
    pub(super) fn end(&self) {
        let Some(memory) = self.memory.take() else {
            return self.tell(|metrics, host| metrics.end(MemoryChange::default(), host));
        };
        let reported = self.state_reported.replace(0);
        let change = MemoryChange { linear: memory.end(), connection_state: reported.saturating_neg() };
        self.tell(|metrics, host| metrics.end(change, host));
    }

    /// [`Shared::end`] was called.
    pub(super) fn has_ended(&self) -> bool {
        let memory = self.memory.take();
        let ended = memory.is_none();
        self.memory.set(memory);
        ended
    }

    fn with_memory<T>(&self, ask: impl FnOnce(&VmMemory) -> T) -> Option<T> {
        let memory = self.memory.take();
        let answer = memory.as_ref().map(ask);
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
