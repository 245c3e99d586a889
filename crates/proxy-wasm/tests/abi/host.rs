//! A proxy-wasm host in the test's own process: the `proxy_*` functions that the crate and the SDK import, and a driver.
//! The driver calls the exported functions in Envoy's order. The host returns the statuses that Envoy returns.
//!
//! State is per thread, like that of the SDK, so tests run in parallel. A panic in a callback ends the process, as a trap
//! ends the VM. `proxy_log` prints its message.
#![allow(unsafe_code, reason = "an ABI is a set of unmangled C functions that pass pointers")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::heap;
// Links the exports below.
use firstword_proxy_wasm as _;

unsafe extern "C" {
    fn _initialize();
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
    safe fn proxy_on_context_create(context_id: u32, root_context_id: u32);
    safe fn proxy_on_vm_start(context_id: u32, size: usize) -> bool;
    safe fn proxy_on_configure(context_id: u32, size: usize) -> bool;
    safe fn proxy_on_tick(context_id: u32);
    safe fn proxy_on_new_connection(context_id: u32) -> u32;
    safe fn proxy_on_downstream_data(context_id: u32, size: usize, end_of_stream: bool) -> u32;
    safe fn proxy_on_upstream_data(context_id: u32, size: usize, end_of_stream: bool) -> u32;
    safe fn proxy_on_downstream_connection_close(context_id: u32, peer: u32);
    safe fn proxy_on_upstream_connection_close(context_id: u32, peer: u32);
    safe fn proxy_on_done(context_id: u32) -> bool;
    safe fn proxy_on_log(context_id: u32);
    safe fn proxy_on_delete(context_id: u32);
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;

/// `proxy_action_t`.
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

/// `proxy_stream_type_t`.
const DOWNSTREAM: u32 = 2;

/// `proxy_buffer_type_t`.
const DOWNSTREAM_DATA: u32 = 2;
const UPSTREAM_DATA: u32 = 3;
const PLUGIN_CONFIGURATION: u32 = 7;

/// `proxy_peer_type_t`.
const PEER_UNKNOWN: u32 = 0;
const PEER_LOCAL: u32 = 1;
const PEER_REMOTE: u32 = 2;

/// Bit of `response.flags`: Envoy could not connect to the upstream.
const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
/// Bit of `response.flags`: the upstream reset the connection.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// Attributes that are read once, before the first events of a connection are recorded.
const SET_UP: [&str; 7] = [
    "xds.listener_direction",
    "destination.address",
    "source.address",
    "xds.cluster_name",
    "cluster_name",
    "plugin_name",
    "plugin_root_id",
];

/// Attributes that a callback may also read if it logs a line.
const TO_LOG: [&str; 3] = ["upstream.address", "xds.cluster_name", "cluster_name"];

/// One call of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the function, without `proxy_`.
    pub name: &'static str,
    /// Arguments of the call.
    pub what: String,
}

/// Number of `calls` with this name.
pub fn count(calls: &[Call], name: &str) -> usize {
    calls.iter().filter(|call| call.name == name).count()
}

#[derive(Default)]
struct Host {
    contexts: BTreeSet<u32>,
    next_context: u32,
    current: u32,
    effective: Option<u32>,
    buffer: Option<(u32, Vec<u8>)>,
    properties: BTreeMap<(u32, String), Vec<u8>>,
    properties_read: BTreeSet<(u32, String)>,
    /// Filter state, without the prefix `wasm.`.
    state: BTreeMap<(u32, String), String>,
    now: Duration,
    tick_period: Option<u32>,
    ids: BTreeMap<String, u32>,
    values: BTreeMap<u32, u64>,
    log: Vec<(u32, String)>,
    /// Calls since the start of the callback.
    calls: Vec<Call>,
    /// Shared data, by key.
    shared_data: BTreeMap<String, Vec<u8>>,
    /// Environment of the VM: `NAME=value`, each with a NUL at its end.
    environment: Vec<u8>,
    faults: BTreeMap<&'static str, u32>,
    /// Calls during the configuration of the newest plugin.
    configure_calls: Vec<Call>,
    /// Forbidden acts of the module. They are reported after the callback, because a panic in a callback ends the process.
    violations: Vec<String>,
    /// Acts that are forbidden in a callback that logs no line.
    unless_logged: Vec<String>,
    /// The module's memory on the heap, in bytes.
    heap: isize,
    /// Maximum of [`Host::heap`], also within callbacks.
    peak: isize,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn host<T>(what: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(what)
}

impl Host {
    /// Records a call. Returns the fault that is set for it.
    fn record(&mut self, name: &'static str, what: impl ToString) -> Result<(), u32> {
        self.calls.push(Call { name, what: what.to_string() });
        self.faults.get(name).map_or(Ok(()), |status| Err(*status))
    }

    fn context(&self) -> u32 {
        self.effective.unwrap_or(self.current)
    }
}

/// Status of a call. The body may end early with an error status.
fn status(body: impl FnOnce(&mut Host) -> Result<(), u32>) -> u32 {
    host(body).err().unwrap_or(OK)
}

/// # Safety
/// `data` and `size` are those of a live slice.
unsafe fn text(data: *const u8, size: usize) -> String {
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data, size) }).into_owned()
}

/// Passes bytes to the module in memory of its own allocator. Passes no bytes as a null pointer.
///
/// # Safety
/// The pointers are to live variables.
unsafe fn give(bytes: &[u8], data: *mut *mut u8, size: *mut usize) {
    if bytes.is_empty() {
        return;
    }
    unsafe {
        let memory = heap::hand_over(|| proxy_on_memory_allocate(bytes.len()));
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        (*data, *size) = (memory, bytes.len());
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, message: *const u8, size: usize) -> u32 {
    let _outside = heap::Outside::enter();
    let line = unsafe { text(message, size) };
    if std::thread::panicking() {
        eprintln!("{line}");
        return OK;
    }
    status(|host| {
        host.record("log", &line)?;
        if !line.chars().all(firstword::escape::is_text) {
            host.violations.push(format!("a line that is not safe for a terminal: {line:?}"));
        }
        host.log.push((level, line));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("get_current_time_nanoseconds", "")?;
        unsafe { *time = u64::try_from(host.now.as_nanos()).unwrap() };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("set_tick_period_milliseconds", period)?;
        host.tick_period = Some(period);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(context_id: u32) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("set_effective_context", context_id)?;
        if !host.contexts.contains(&context_id) {
            return Err(BAD_ARGUMENT);
        }
        host.effective = Some(context_id);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    buffer_type: u32,
    start: usize,
    max_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let _outside = heap::Outside::enter();
    let found = host(|host| {
        host.record("get_buffer_bytes", format!("{start}+{max_size}"))?;
        if ![DOWNSTREAM_DATA, UPSTREAM_DATA, PLUGIN_CONFIGURATION].contains(&buffer_type) {
            return Err(BAD_ARGUMENT);
        }
        let (_, bytes) =
            host.buffer.as_ref().filter(|(present, _)| *present == buffer_type).ok_or(NOT_FOUND)?;
        let end = start.saturating_add(max_size).min(bytes.len());
        Ok(bytes.get(start..end).unwrap_or_default().to_vec())
    });
    match found {
        Ok(bytes) => unsafe { give(&bytes, data, size) },
        Err(status) => return status,
    }
    OK
}

/// Follows Envoy's rules: replaces bytes at the start of the buffer, and refuses changes in the middle.
#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_buffer_bytes(
    buffer_type: u32,
    start: usize,
    size: usize,
    data: *const u8,
    data_size: usize,
) -> u32 {
    let _outside = heap::Outside::enter();
    let data = if data_size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, data_size) } };
    status(|host| {
        host.record("set_buffer_bytes", format!("{buffer_type} {start} {size} {}", data.escape_ascii()))?;
        let (_, bytes) =
            host.buffer.as_mut().filter(|(present, _)| *present == buffer_type).ok_or(BAD_ARGUMENT)?;
        if start != 0 {
            return Err(BAD_ARGUMENT);
        }
        let end = size.min(bytes.len());
        bytes.splice(..end, data.iter().copied());
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_close_stream(stream_type: u32) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("close_stream", stream_type)?;
        if stream_type == DOWNSTREAM { Ok(()) } else { Err(BAD_ARGUMENT) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_continue_stream(stream_type: u32) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("continue_stream", stream_type)?;
        if stream_type == DOWNSTREAM { Ok(()) } else { Err(BAD_ARGUMENT) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    value: *mut *mut u8,
    value_size: *mut usize,
) -> u32 {
    let _outside = heap::Outside::enter();
    let path = unsafe { text(path, path_size) }.replace('\0', ".");
    let found = host(|host| {
        let key = (host.context(), path.clone());
        let once = host.properties_read.insert(key.clone());
        if !once || !SET_UP.contains(&path.as_str()) && path != "response.flags" {
            let violation = format!("get_property {path} of {}", key.0);
            let list =
                if TO_LOG.contains(&path.as_str()) { &mut host.unless_logged } else { &mut host.violations };
            list.push(violation);
        }
        host.record("get_property", &path)?;
        host.properties.get(&key).cloned().ok_or(NOT_FOUND)
    });
    match found {
        Ok(bytes) => unsafe { give(&bytes, value, value_size) },
        Err(status) => return status,
    }
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    path: *const u8,
    path_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let _outside = heap::Outside::enter();
    let (path, value) = unsafe { (text(path, path_size), text(value, value_size)) };
    status(|host| {
        host.record("set_property", format!("{path}={value}"))?;
        host.state.insert((host.context(), path), value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_call_foreign_function(
    name: *const u8,
    name_size: usize,
    argument: *const u8,
    argument_size: usize,
    _result: *mut *mut u8,
    _result_size: *mut usize,
) -> u32 {
    let _outside = heap::Outside::enter();
    let (name, argument) = unsafe { (text(name, name_size), text(argument, argument_size)) };
    status(|host| {
        assert_eq!(name, "declare_property");
        host.record("call_foreign_function", argument.escape_debug())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    value: *mut *mut u8,
    value_size: *mut usize,
    cas: *mut u32,
) -> u32 {
    let _outside = heap::Outside::enter();
    let key = unsafe { text(key, key_size) };
    let found = host(|host| {
        host.record("get_shared_data", &key)?;
        host.shared_data.get(&key).cloned().ok_or(NOT_FOUND)
    });
    match found {
        Ok(bytes) => unsafe {
            *cas = 1;
            give(&bytes, value, value_size);
        },
        Err(status) => return status,
    }
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    cas: u32,
) -> u32 {
    let _outside = heap::Outside::enter();
    let key = unsafe { text(key, key_size) };
    let value = unsafe { std::slice::from_raw_parts(value, value_size) }.to_vec();
    status(|host| {
        host.record("set_shared_data", &key)?;
        assert_eq!(cas, 0, "the previous value is ignored");
        host.shared_data.insert(key, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("environ_sizes_get", "")?;
        let bytes = &host.environment;
        unsafe { (*count, *size) = (bytes.iter().filter(|byte| **byte == 0).count(), bytes.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn environ_get(variables: *mut *const u8, text: *mut u8) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("environ_get", "")?;
        let mut start = 0;
        for (index, variable) in host.environment.split_inclusive(|byte| *byte == 0).enumerate() {
            unsafe { *variables.add(index) = text.add(start) };
            start += variable.len();
        }
        unsafe { std::ptr::copy_nonoverlapping(host.environment.as_ptr(), text, host.environment.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32 {
    let _outside = heap::Outside::enter();
    let name = unsafe { text(name, size) };
    status(|host| {
        host.record("define_metric", &name)?;
        // Envoy keeps the kind in the lowest two bits.
        let next = u32::try_from(host.ids.len()).unwrap() * 4 + kind;
        let number = *host.ids.entry(name).or_insert(next);
        host.values.entry(number).or_default();
        unsafe { *id = number };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(id: u32, delta: i64) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("increment_metric", format!("{id} {delta}"))?;
        let is_counter = id % 4 == 0;
        let value = host.values.get_mut(&id).filter(|_| !is_counter || delta > 0).ok_or(BAD_ARGUMENT)?;
        let sum = value.checked_add_signed(delta);
        *value = sum.unwrap_or_default();
        if sum.is_none() {
            host.violations.push(format!("metric {id} falls below zero by {delta}"));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_record_metric(id: u32, new: u64) -> u32 {
    let _outside = heap::Outside::enter();
    status(|host| {
        host.record("record_metric", format!("{id} {new}"))?;
        *host.values.get_mut(&id).ok_or(BAD_ARGUMENT)? = new;
        Ok(())
    })
}

/// Functions that the SDK imports and the filter never calls.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            panic!(concat!(stringify!($name), " must not be called"));
        }
    )*};
}

never_called! {
    proxy_add_header_map_value
    proxy_dequeue_shared_queue proxy_done proxy_enqueue_shared_queue proxy_get_header_map_pairs
    proxy_get_header_map_value proxy_get_log_level proxy_get_metric proxy_get_status
    proxy_grpc_call proxy_grpc_cancel proxy_grpc_close proxy_grpc_send proxy_grpc_stream proxy_http_call
    proxy_register_shared_queue proxy_remove_header_map_value proxy_replace_header_map_value
    proxy_resolve_shared_queue proxy_send_local_response proxy_set_header_map_pairs
}

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
        let id = new_context(self.id);
        set_property(id, "source.address", source.map(Into::into));
        set_property(id, "xds.listener_direction", to.direction.map(|code| code.to_le_bytes().to_vec()));
        set_property(id, "destination.address", Some(to.address.into()));
        let (action, calls) = callback(id, || proxy_on_new_connection(id));
        assert!([CONTINUE, PAUSE].contains(&action), "on_new_connection: {action}");
        let clock = count(&calls, "get_current_time_nanoseconds");
        assert!(clock <= 1 + count(&calls, "log"), "{calls:?}");
        assert_eq!(count(&calls, "get_buffer_bytes"), 0, "{calls:?}");
        assert_no_metric_calls(&calls);
        set_property(id, "xds.cluster_name", to.cluster.map(Into::into));
        (Stream { id, held: RefCell::default() }, action == CONTINUE, calls)
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

/// Destination of a connection.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `xds.listener_direction`: 0 unspecified, 1 inbound, 2 outbound.
    pub direction: Option<u64>,
    /// `destination.address`.
    pub address: &'static str,
    /// `xds.cluster_name`. `None` if Envoy chooses no cluster.
    pub cluster: Option<&'static str>,
}

/// Destination of an outbound connection to the cluster `orders`.
pub const ORDERS: Destination =
    Destination { direction: Some(2), address: "10.0.0.5:3306", cluster: Some("orders") };

/// Way in which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientFin,
    ClientReset,
    ServerFin,
    ServerReset,
    /// Envoy cannot connect to the upstream.
    Refused,
    /// Envoy closes the connection.
    Drain,
    /// Envoy deletes the filter without a close callback.
    TornDown,
}

impl Ending {
    pub const ALL: [Self; 7] = [
        Self::ClientFin,
        Self::ClientReset,
        Self::ServerFin,
        Self::ServerReset,
        Self::Refused,
        Self::Drain,
        Self::TornDown,
    ];
}

/// Connection. Every callback must return Continue and must not exceed its budget of host calls.
pub struct Stream {
    id: u32,
    /// Held bytes of the client, in Envoy's buffer.
    held: RefCell<Vec<u8>>,
}

/// Outcome of a callback about the client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These bytes are forwarded to the server.
    Forwarded(Vec<u8>),
    /// The bytes are held.
    Held,
    /// The connection is closed.
    Closed,
}

impl Stream {
    /// Passes bytes of the client in one callback, which must forward them unchanged.
    pub fn client(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(DOWNSTREAM_DATA, bytes, false)
    }

    /// Passes bytes of the client in one callback, together with the bytes that were held before. Returns the outcome and the
    /// host calls.
    pub fn pass_client(&self, bytes: &[u8], end_of_stream: bool) -> (Outcome, Vec<Call>) {
        let mut held = self.held.borrow_mut();
        held.extend(bytes);
        host(|host| host.buffer = Some((DOWNSTREAM_DATA, held.clone())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_downstream_data(self.id, held.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_no_metric_calls(&calls);
        let outcome = match action {
            CONTINUE => {
                held.clear();
                Outcome::Forwarded(left)
            }
            PAUSE if count(&calls, "close_stream") == 1 => Outcome::Closed,
            PAUSE => Outcome::Held,
            other => panic!("action {other}"),
        };
        (outcome, calls)
    }

    /// Passes bytes of the server in one callback, which must forward them unchanged.
    pub fn server(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(UPSTREAM_DATA, bytes, false)
    }

    /// Passes bytes of the server in one callback. Returns the forwarded bytes and the host calls.
    pub fn pass_server(&self, bytes: &[u8], end_of_stream: bool) -> (Vec<u8>, Vec<Call>) {
        host(|host| host.buffer = Some((UPSTREAM_DATA, bytes.to_vec())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_upstream_data(self.id, bytes.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_eq!(action, CONTINUE, "the server's bytes cannot be paused");
        assert_no_metric_calls(&calls);
        (left, calls)
    }

    /// Passes bytes of the server with the end of its stream.
    pub fn server_end(&self, bytes: &[u8]) {
        self.data(UPSTREAM_DATA, bytes, true);
        callback(self.id, || proxy_on_upstream_connection_close(self.id, PEER_UNKNOWN));
    }

    /// Passes the end of the client's stream.
    pub fn client_end(&self) {
        self.data(DOWNSTREAM_DATA, b"", true);
    }

    fn data(&self, buffer: u32, bytes: &[u8], end_of_stream: bool) -> Vec<Call> {
        host(|host| host.buffer = Some((buffer, bytes.to_vec())));
        let (action, calls) = callback(self.id, || match buffer {
            DOWNSTREAM_DATA => proxy_on_downstream_data(self.id, bytes.len(), end_of_stream),
            _ => proxy_on_upstream_data(self.id, bytes.len(), end_of_stream),
        });
        assert_eq!(action, CONTINUE, "data callback");
        assert_no_metric_calls(&calls);
        let reads = 1 + bytes.len().saturating_sub(16 << 10).div_ceil(64 << 10);
        assert!(count(&calls, "get_buffer_bytes") <= reads, "{} bytes: {calls:?}", bytes.len());
        let clock = count(&calls, "get_current_time_nanoseconds");
        assert!(clock <= 1 + count(&calls, "log"), "{calls:?}");
        calls
    }

    /// The filter state `wasm.firstword.KEY`.
    pub fn state(&self, key: &str) -> Option<String> {
        let key = (self.id, format!("firstword.{key}"));
        host(|host| host.state.get(&key).cloned())
    }

    /// Records that the connection to the server is established.
    pub fn established(&self) {
        set_property(self.id, "upstream.address", Some("10.0.0.5:3306".into()));
    }

    /// Calls the callbacks of an ending, in Envoy's order. Returns the host calls of the close itself.
    pub fn close(self, ending: Ending) -> Vec<Call> {
        let flags = match ending {
            Ending::Refused => UPSTREAM_CONNECTION_FAILURE,
            Ending::ServerReset => UPSTREAM_REMOTE_RESET,
            _ => 0,
        };
        set_property(self.id, "response.flags", Some(flags.to_le_bytes().to_vec()));
        let peer = match ending {
            Ending::ClientFin => {
                self.client_end();
                self.server_end(b"");
                PEER_LOCAL
            }
            Ending::ServerFin => {
                self.server_end(b"");
                self.client_end();
                PEER_REMOTE
            }
            Ending::ClientReset => PEER_REMOTE,
            Ending::ServerReset | Ending::Refused | Ending::Drain | Ending::TornDown => PEER_LOCAL,
        };
        let mut calls = Vec::new();
        if ending != Ending::TornDown {
            calls = callback(self.id, || proxy_on_downstream_connection_close(self.id, peer)).1;
        }
        let (done, more) = callback(self.id, || proxy_on_done(self.id));
        assert!(done, "on_done");
        callback(self.id, || proxy_on_log(self.id));
        delete_context(self.id);
        calls.extend(more);
        calls
    }
}

fn assert_no_metric_calls(calls: &[Call]) {
    let metric = calls.iter().find(|call| call.name.ends_with("_metric"));
    assert_eq!(metric, None, "a metric call on the data path");
}

fn set_property(context_id: u32, path: &str, value: Option<Vec<u8>>) {
    if let Some(value) = value {
        host(|host| host.properties.insert((context_id, path.to_owned()), value));
    }
}

fn new_context(root: u32) -> u32 {
    let id = host(|host| {
        let id = host.next_context;
        host.next_context += 1;
        host.contexts.insert(id);
        id
    });
    callback(id, || proxy_on_context_create(id, root));
    id
}

fn delete_context(id: u32) {
    callback(id, || proxy_on_delete(id));
    host(|host| host.contexts.remove(&id));
}

/// Calls the module for a context. The buffer that it can read exists only during the call.
fn callback<T>(id: u32, call: impl FnOnce() -> T) -> (T, Vec<Call>) {
    host(|host| (host.current, host.effective) = (id, None));
    let before = heap::held();
    heap::reset_peak();
    let result = call();
    let (change, peak) = (heap::held() - before, heap::peak() - before);
    let (calls, violations) = host(|host| {
        host.buffer = None;
        host.peak = host.peak.max(host.heap + peak);
        host.heap += change;
        let calls = std::mem::take(&mut host.calls);
        let mut violations = std::mem::take(&mut host.violations);
        let unless_logged = std::mem::take(&mut host.unless_logged);
        if count(&calls, "log") == 0 {
            violations.extend(unless_logged);
        }
        (calls, violations)
    });
    assert!(violations.is_empty(), "{violations:?}");
    (result, calls)
}
