//! VM of a worker, and the plugins in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    _initialize, Call, Destination, Host, PLUGIN_CONFIGURATION, Stream, callback, delete_context, host,
    new_context, proxy_on_configure, proxy_on_done, proxy_on_tick, proxy_on_vm_start, set_property,
};

/// VM of one Envoy worker: this thread.
pub struct Vm(());

impl Vm {
    /// Starts the VM without a plugin. The clock is at 1000 s.
    pub fn start() -> Self {
        host(|host| {
            // Context ids continue after those of the last test on this thread, because the SDK still has its contexts.
            let next_context = host.next_context.max(1);
            *host = Host { next_context, now: Duration::from_secs(1000), ..Host::default() };
        });
        // SAFETY: may be called any number of times; it registers the root context with this thread's dispatcher.
        unsafe { _initialize() };
        Self(())
    }

    /// Starts a plugin with this configuration.
    pub fn plugin(&self, configuration: &str) -> Plugin {
        let plugin = self.try_plugin(configuration);
        plugin.unwrap_or_else(|_| panic!("configuration refused: {:?}", self.log()))
    }

    /// Starts a plugin. Returns an error if it refuses its configuration.
    pub fn try_plugin(&self, configuration: &str) -> Result<Plugin, Plugin> {
        self.named_plugin("firstword", configuration)
    }

    /// Starts a plugin with this name. Returns an error if it refuses its configuration.
    pub fn named_plugin(&self, name: &str, configuration: &str) -> Result<Plugin, Plugin> {
        let id = new_context(0);
        set_property(id, "plugin_name", Some(name.into()));
        set_property(id, "plugin_root_id", Some("firstword".into()));
        assert!(callback(id, || proxy_on_vm_start(id, 0)).0);
        host(|host| host.buffer = Some((PLUGIN_CONFIGURATION, configuration.into())));
        let (accepted, calls) = callback(id, || proxy_on_configure(id, configuration.len()));
        host(|host| host.configure_calls = calls);
        if accepted { Ok(Plugin { id }) } else { Err(Plugin { id }) }
    }

    /// Sets the environment of the VM, each variable as `NAME=value`.
    pub fn environment(&self, variables: &[&str]) {
        let text = variables.iter().flat_map(|variable| [variable, "\0"]).collect::<String>();
        host(|host| host.environment = text.into());
    }

    /// Advances the clock, which otherwise stands still.
    pub fn advance(&self, by: Duration) {
        host(|host| host.now += by);
    }

    /// Sets the clock back.
    pub fn step_back(&self, by: Duration) {
        host(|host| host.now -= by);
    }

    /// Makes the call `proxy_NAME` do nothing and return `status` from now on.
    pub fn fail(&self, name: &'static str, status: u32) {
        host(|host| host.faults.insert(name, status));
    }

    /// Makes all calls succeed again.
    pub fn clear_faults(&self) {
        host(|host| host.faults.clear());
    }

    /// Period of ticks in milliseconds.
    pub fn tick_period(&self) -> Option<u32> {
        host(|host| host.tick_period)
    }

    /// Log since the last call of this: levels (0 trace ... 5 critical) and lines.
    pub fn log(&self) -> Vec<(u32, String)> {
        host(|host| std::mem::take(&mut host.log))
    }

    /// The module's memory on the heap since the start of the VM, in bytes. It counts only this thread, without the host.
    pub fn heap(&self) -> isize {
        host(|host| host.heap)
    }

    /// Maximum of [`Vm::heap`] since the last call of this, also within callbacks.
    pub fn peak(&self) -> isize {
        host(|host| std::mem::replace(&mut host.peak, host.heap))
    }

    /// Calls of the newest plugin while it was configured.
    pub fn configure_calls(&self) -> Vec<Call> {
        host(|host| host.configure_calls.clone())
    }

    /// All metrics, by the names that the module defined.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        host(|host| host.ids.iter().map(|(name, id)| (name.clone(), host.values[id])).collect())
    }

    /// Value of a metric. `None` if it was never defined.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.metrics().get(name).copied()
    }
}

/// One plugin configuration in the VM: a root context.
pub struct Plugin {
    id: u32,
}

impl Plugin {
    /// Opens a connection. Envoy has chosen the cluster when this returns.
    pub fn connect(&self, to: &Destination) -> Stream {
        let (stream, connects, _) = self.connect_from(None, to);
        assert!(connects, "on_new_connection");
        stream
    }

    /// Opens a connection of a client at this address (`source.address`). Returns also if Envoy connects to the server, and
    /// the host calls.
    pub fn connect_from(&self, source: Option<&str>, to: &Destination) -> (Stream, bool, Vec<Call>) {
        Stream::open(self.id, source, to)
    }

    /// Ticks once.
    pub fn tick(&self) -> Vec<Call> {
        callback(self.id, || proxy_on_tick(self.id)).1
    }

    /// Ticks until everything is exported, with the default flush interval.
    pub fn flush(&self) {
        self.tick();
        self.tick();
    }

    /// Ends the plugin, as Envoy does when it no longer needs the configuration.
    pub fn end(self) {
        assert!(callback(self.id, || proxy_on_done(self.id)).0);
        delete_context(self.id);
    }
}
