//! What all connections of one plugin configuration in one VM share.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Weak;

use log::Level;

use super::host::{self, HostMetrics};
use super::journal::Journal;
use super::memory::VmMemory;
use super::stream::Tracked;
use crate::config::Config;
use crate::event::Event;
use crate::metrics::{Accumulator, ScopeId};
use crate::ports;

/// The configuration, its metrics, and the connections a tick has to look at.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) journal: Journal,
    metrics: RefCell<Accumulator>,
    memory: Cell<Option<VmMemory>>,
    /// Connections on which nobody has spoken yet, with their context ids.
    silent: RefCell<Vec<(u32, Weak<RefCell<Tracked>>)>>,
    /// Reused by every callback so that none allocates.
    scratch: Cell<Vec<Event>>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let metrics = &config.metrics;
        let accumulator = Accumulator::new(metrics.profile, metrics.labels.clone(), metrics.max_series);
        Self {
            journal: Journal::new(&config.log),
            metrics: RefCell::new(accumulator),
            memory: Cell::new(Some(VmMemory::new())),
            silent: RefCell::default(),
            scratch: Cell::default(),
            config,
        }
    }

    /// An empty list for the events of one callback; give it back with [`Shared::put_back`].
    pub(super) fn events(&self) -> Vec<Event> {
        self.scratch.take()
    }

    pub(super) fn put_back(&self, mut events: Vec<Event>) {
        events.clear();
        self.scratch.set(events);
    }

    /// Remembers a connection on which nobody has spoken.
    pub(super) fn watch(&self, context_id: u32, connection: Weak<RefCell<Tracked>>) {
        if let Ok(mut silent) = self.silent.try_borrow_mut() {
            silent.push((context_id, connection));
        }
    }

    /// The scope of a connection's metrics.
    pub(super) fn scope(&self, labels: &crate::plugin::stream::Labels, destination: &str) -> ScopeId {
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

    /// Looks at the connections on which nobody has spoken and counts the tick.
    pub(super) fn tick(&self) {
        let silent = self.silent.try_borrow_mut().map(|mut silent| std::mem::take(&mut *silent));
        let mut still = Vec::new();
        for (context_id, connection) in silent.unwrap_or_default() {
            let Some(tracked) = connection.upgrade() else { continue };
            let Ok(mut tracked) = tracked.try_borrow_mut() else { continue };
            if tracked.connection.is_recognised() {
                continue;
            }
            if host::set_effective_context(context_id).is_ok() {
                tracked.tick(self);
            }
            still.push((context_id, connection));
        }
        if let Ok(mut silent) = self.silent.try_borrow_mut() {
            silent.append(&mut still);
        }
        let change = self.with_memory(VmMemory::change);
        self.with_metrics(|metrics| metrics.tick(change));
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
            self.journal.line(Level::Warn, format_args!("event=host_refused call={call} status={status}"));
        }
    }

    /// Envoy does not enter a VM that is busy, so the borrow cannot fail; if it did, a count would be
    /// lost, where a panic would cost every connection of the worker.
    fn with_metrics<T>(&self, what: impl FnOnce(&mut Accumulator) -> T) -> Option<T> {
        self.metrics.try_borrow_mut().ok().map(|mut metrics| what(&mut metrics))
    }
}

/// Reads an address as Envoy writes it, `ip:port` or `[ip]:port`; none for a Unix socket.
pub(super) fn socket_address(text: &[u8]) -> Option<(IpAddr, u16)> {
    let address: SocketAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some((address.ip(), address.port()))
}
