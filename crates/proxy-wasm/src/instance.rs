//! One plugin configuration in one VM: the filter, its connections, and the state that it shares with other plugins.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Weak;

use firstword::filter::Filter;
use firstword::filter::host::Host;
use firstword::filter::mode::PublishedMode;
use firstword::filter::stream::Stream;

use crate::host::Envoy;
use crate::hostcalls::{self, HostMetrics};
use crate::memory::VmMemory;
use crate::shared_mode::SharedMode;

/// Configured plugin.
pub(crate) struct Instance {
    pub(crate) filter: Filter,
    /// Inspected connections, by context id.
    streams: RefCell<BTreeMap<u32, Weak<RefCell<Stream>>>>,
    shared_mode: SharedMode,
    /// What was published when a rejected configuration was last in use: at its start, or at the start of a connection.
    published_at_use: RefCell<Option<Vec<u8>>>,
    /// `None` after the end of the plugin.
    memory: Cell<Option<VmMemory>>,
}

impl Instance {
    /// Starts a plugin. Publishes its mode, or remembers that its configuration was rejected.
    pub(crate) fn new(filter: Filter, shared_mode: SharedMode, configuration: &[u8]) -> Self {
        let host = Envoy::default();
        filter.log_start(&host);
        let shared = if filter.is_rejected() {
            shared_mode.remember_rejected(configuration)
        } else {
            shared_mode.publish(PublishedMode { since: host.now(), mode: filter.mode() })
        };
        filter.check(shared, &host);
        filter.declare_filter_state(&host, hostcalls::declare_text);
        let this = Self {
            filter,
            streams: RefCell::default(),
            shared_mode,
            published_at_use: RefCell::default(),
            memory: Cell::new(Some(VmMemory::new())),
        };
        this.use_now();
        this
    }

    /// Notes that a rejected configuration is in use now. Envoy uses the newest configuration for each new connection.
    pub(crate) fn use_now(&self) {
        if self.filter.is_rejected()
            && let Ok(mut published) = self.published_at_use.try_borrow_mut()
        {
            *published = self.shared_mode.published();
        }
    }

    /// Counts a rejected configuration until the proxy has accepted another one.
    fn count_if_rejected(&self) {
        if self.filter.is_rejected()
            && let Ok(published) = self.published_at_use.try_borrow()
        {
            self.filter.count_as_rejected(*published == self.shared_mode.published());
        }
    }

    /// Adds the stream of a connection that begins. The stream gets ticks until it is dropped.
    pub(crate) fn add(&self, context_id: u32, stream: Weak<RefCell<Stream>>) {
        if let Ok(mut streams) = self.streams.try_borrow_mut() {
            streams.insert(context_id, stream);
        }
    }

    /// Removes the stream of a connection that has ended.
    pub(crate) fn remove(&self, context_id: u32) {
        if let Ok(mut streams) = self.streams.try_borrow_mut() {
            streams.remove(&context_id);
        }
    }

    /// Ticks the filter and its connections.
    pub(crate) fn tick(&self) {
        let host = Envoy::default();
        self.filter.begin_tick(&host);
        self.count_if_rejected();
        self.tick_streams(&host);
        let memory = self.memory.take();
        let change = memory.as_ref().map(VmMemory::change);
        self.memory.set(memory);
        self.export(|metrics| self.filter.end_tick(change, metrics));
    }

    fn tick_streams(&self, host: &Envoy) {
        let Ok(mut streams) = self.streams.try_borrow_mut() else { return };
        streams.retain(|_, stream| stream.strong_count() > 0);
        if streams.is_empty() {
            return;
        }
        let now = host.now();
        let newest = self.shared_mode.newest();
        for (context_id, stream) in streams.iter() {
            let Some(stream) = stream.upgrade() else { continue };
            let Ok(mut stream) = stream.try_borrow_mut() else { continue };
            let Some(due) = stream.due(&self.filter, now, newest) else { continue };
            if hostcalls::set_effective_context(*context_id).is_ok() {
                stream.tick(&self.filter, due, host);
            }
        }
    }

    /// Ends the plugin. Each connection that outlives it calls this again when it ends.
    pub(crate) fn end(&self) {
        let change = self.memory.take().map(VmMemory::end);
        self.export(|metrics| self.filter.end(change, metrics));
    }

    /// Exports metrics, and logs the first call that the host refused.
    fn export(&self, act: impl FnOnce(&mut HostMetrics)) {
        let mut metrics = HostMetrics::default();
        act(&mut metrics);
        self.filter.check(metrics.refused.map_or(Ok(()), Err), &Envoy::default());
    }
}
