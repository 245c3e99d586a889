//! A proxy-wasm host in the test's own process: the `proxy_*` functions that the crate and the SDK import, and a driver
//! that calls what they export in the order in which Envoy does, with the statuses Envoy answers.
//!
//! State is per thread, as is the SDK's, so tests run in parallel. A panic inside a callback ends the process, as a trap
//! ends the VM; its message comes to `proxy_log`, which prints it.
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

/// Of `response.flags`: the upstream could not be connected to; it reset the connection.
const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// Attributes that are read once, when a connection begins to be told of.
const SET_UP: [&str; 7] = [
    "xds.listener_direction",
    "destination.address",
    "source.address",
    "xds.cluster_name",
    "cluster_name",
    "plugin_name",
    "plugin_root_id",
];

/// Attributes that a line of the log may ask for besides, in the callback that writes it.
const TO_LOG: [&str; 3] = ["upstream.address", "xds.cluster_name", "cluster_name"];

/// One call of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Without `proxy_`.
    pub name: &'static str,
    /// What it was about.
    pub what: String,
}

/// How many of `calls` have this name.
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
    /// Since the callback began.
    calls: Vec<Call>,
    /// By key.
    shared_data: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<&'static str, u32>,
    /// Of the newest plugin's configuration.
    configure_calls: Vec<Call>,
    /// What the module must never do. Told after the callback, for a panic inside one ends the process.
    violations: Vec<String>,
    /// What it must not do in a callback that writes no line to the log.
    unless_logged: Vec<String>,
    /// What the module holds on the heap, in bytes.
    heap: isize,
    /// The most that it held, also in the middle of a callback.
    peak: isize,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn host<T>(what: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(what)
}

impl Host {
    /// Records a call; answers with the fault that is set for it.
    fn called(&mut self, name: &'static str, what: impl ToString) -> Result<(), u32> {
        self.calls.push(Call { name, what: what.to_string() });
        self.faults.get(name).map_or(Ok(()), |status| Err(*status))
    }

    fn context(&self) -> u32 {
        self.effective.unwrap_or(self.current)
    }
}

/// A status of a call whose body may end early with another one.
fn answer(body: impl FnOnce(&mut Host) -> Result<(), u32>) -> u32 {
    host(body).err().unwrap_or(OK)
}

/// # Safety
/// `data` and `size` are those of a live slice.
unsafe fn text(data: *const u8, size: usize) -> String {
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data, size) }).into_owned()
}

/// Gives bytes to the module in memory that its own allocator owns; none as a null pointer.
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
    answer(|host| {
        host.called("log", &line)?;
        if !line.chars().all(firstword::escape::is_text) {
            host.violations.push(format!("a line that a terminal must not get: {line:?}"));
        }
        host.log.push((level, line));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    let _outside = heap::Outside::enter();
    answer(|host| {
        host.called("get_current_time_nanoseconds", "")?;
        unsafe { *time = u64::try_from(host.now.as_nanos()).unwrap() };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    let _outside = heap::Outside::enter();
    answer(|host| {
        host.called("set_tick_period_milliseconds", period)?;
        host.tick_period = Some(period);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(context_id: u32) -> u32 {
    let _outside = heap::Outside::enter();
    answer(|host| {
        host.called("set_effective_context", context_id)?;
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
        host.called("get_buffer_bytes", format!("{start}+{max_size}"))?;
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

/// Envoy's rules: from the start, so many bytes give way to others; nothing in the middle.
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
    answer(|host| {
        host.called("set_buffer_bytes", format!("{buffer_type} {start} {size} {}", data.escape_ascii()))?;
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
    answer(|host| {
        host.called("close_stream", stream_type)?;
        if stream_type == DOWNSTREAM { Ok(()) } else { Err(BAD_ARGUMENT) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_continue_stream(stream_type: u32) -> u32 {
    let _outside = heap::Outside::enter();
    answer(|host| {
        host.called("continue_stream", stream_type)?;
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
        host.called("get_property", &path)?;
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
    answer(|host| {
        host.called("set_property", format!("{path}={value}"))?;
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
    answer(|host| {
        assert_eq!(name, "declare_property");
        host.called("call_foreign_function", argument.escape_debug())
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
        host.called("get_shared_data", &key)?;
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
    answer(|host| {
        host.called("set_shared_data", &key)?;
        assert_eq!(cas, 0, "whatever it was");
        host.shared_data.insert(key, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32 {
    let _outside = heap::Outside::enter();
    let name = unsafe { text(name, size) };
    answer(|host| {
        host.called("define_metric", &name)?;
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
    answer(|host| {
        host.called("increment_metric", format!("{id} {delta}"))?;
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
    answer(|host| {
        host.called("record_metric", format!("{id} {new}"))?;
        *host.values.get_mut(&id).ok_or(BAD_ARGUMENT)? = new;
        Ok(())
    })
}

/// The rest of what the SDK imports.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            panic!(concat!(stringify!($name), " is not for this filter"));
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

/// One Envoy worker's VM: this thread.
pub struct Vm(());

impl Vm {
    /// Starts it, without any plugin. The clock stands at 1000 s.
    pub fn start() -> Self {
        host(|host| {
            // Context ids go on where the last test on this thread ended: the SDK still knows its contexts.
            let next_context = host.next_context.max(1);
            *host = Host { next_context, now: Duration::from_secs(1000), ..Host::default() };
        });
        // SAFETY: as often as one likes; it registers the root context with this thread's dispatcher.
        unsafe { _initialize() };
        Self(())
    }

    /// A plugin with this configuration.
    pub fn plugin(&self, configuration: &str) -> Plugin {
        let plugin = self.try_plugin(configuration);
        plugin.unwrap_or_else(|_| panic!("configuration refused: {:?}", self.log()))
    }

    /// A plugin; an error if it refuses its configuration.
    pub fn try_plugin(&self, configuration: &str) -> Result<Plugin, Plugin> {
        self.named_plugin("firstword", configuration)
    }

    /// The same for a plugin of this name.
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

    /// Lets time go by. The clock stands still otherwise.
    pub fn advance(&self, by: Duration) {
        host(|host| host.now += by);
    }

    /// The clock steps back.
    pub fn step_back(&self, by: Duration) {
        host(|host| host.now -= by);
    }

    /// From now on the call `proxy_NAME` does nothing and answers `status`.
    pub fn fail(&self, name: &'static str, status: u32) {
        host(|host| host.faults.insert(name, status));
    }

    /// All calls work again.
    pub fn heal(&self) {
        host(|host| host.faults.clear());
    }

    /// The period of ticks in milliseconds.
    pub fn tick_period(&self) -> Option<u32> {
        host(|host| host.tick_period)
    }

    /// The log since this was last asked: levels (0 trace ... 5 critical) and lines.
    pub fn log(&self) -> Vec<(u32, String)> {
        host(|host| std::mem::take(&mut host.log))
    }

    /// What the module holds on the heap since the VM started, in bytes. Only this thread counts, and not the host.
    pub fn heap(&self) -> isize {
        host(|host| host.heap)
    }

    /// The most that [`Vm::heap`] was since this was last asked, also in the middle of a callback.
    pub fn peak(&self) -> isize {
        host(|host| std::mem::replace(&mut host.peak, host.heap))
    }

    /// What the newest plugin called while it was configured.
    pub fn configure_calls(&self) -> Vec<Call> {
        host(|host| host.configure_calls.clone())
    }

    /// All metrics by the names the module gave them.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        host(|host| host.ids.iter().map(|(name, id)| (name.clone(), host.values[id])).collect())
    }

    /// The value of a metric; none if it was never defined.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.metrics().get(name).copied()
    }
}

/// One plugin configuration in the VM: a root context.
pub struct Plugin {
    id: u32,
}

impl Plugin {
    /// A new connection of a client; Envoy has chosen the cluster when this returns.
    pub fn connect(&self, to: &Destination) -> Stream {
        let (stream, connects, _) = self.connect_from(None, to);
        assert!(connects, "on_new_connection");
        stream
    }

    /// The same of a client at this address (`source.address`), whether the server is connected to, and the host calls.
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

    /// One tick.
    pub fn tick(&self) -> Vec<Call> {
        callback(self.id, || proxy_on_tick(self.id)).1
    }

    /// As many ticks as it takes until everything is exported, with the default flush interval.
    pub fn flush(&self) {
        self.tick();
        self.tick();
    }

    /// Envoy has no more use for this configuration.
    pub fn end(self) {
        assert!(callback(self.id, || proxy_on_done(self.id)).0);
        delete_context(self.id);
    }
}

/// Where a connection goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `xds.listener_direction`: 0 unspecified, 1 inbound, 2 outbound.
    pub direction: Option<u64>,
    /// `destination.address`.
    pub address: &'static str,
    /// `xds.cluster_name`, once it is chosen.
    pub cluster: Option<&'static str>,
}

/// An outbound connection to the cluster `orders`.
pub const ORDERS: Destination =
    Destination { direction: Some(2), address: "10.0.0.5:3306", cluster: Some("orders") };

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientFin,
    ClientReset,
    ServerFin,
    ServerReset,
    /// The upstream cannot be connected to.
    Refused,
    /// Envoy ends it.
    Drain,
    /// Envoy gives the filter up without a word about the connection.
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

/// A connection. Every callback has to answer Continue and keep within its budget of host calls.
pub struct Stream {
    id: u32,
    /// Bytes of the client that wait in Envoy's buffer.
    held: RefCell<Vec<u8>>,
}

/// What a callback about the client's bytes led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Led {
    /// These go on to the server.
    On(Vec<u8>),
    /// They wait.
    Waits,
    /// The connection ends.
    Ends,
}

impl Stream {
    /// Bytes of the client pass in one callback.
    pub fn client(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(DOWNSTREAM_DATA, bytes, false)
    }

    /// Bytes of the client where a PROXY header may be looked for, with the end of its stream or not. Envoy hands over
    /// what waits together with what is new. Gives the host calls too.
    pub fn front(&self, bytes: &[u8], end_of_stream: bool) -> (Led, Vec<Call>) {
        let mut held = self.held.borrow_mut();
        held.extend(bytes);
        host(|host| host.buffer = Some((DOWNSTREAM_DATA, held.clone())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_downstream_data(self.id, held.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_no_metric_calls(&calls);
        let led = match action {
            CONTINUE => {
                held.clear();
                Led::On(left)
            }
            PAUSE if count(&calls, "close_stream") == 1 => Led::Ends,
            PAUSE => Led::Waits,
            other => panic!("action {other}"),
        };
        (led, calls)
    }

    /// Bytes of the server pass in one callback.
    pub fn server(&self, bytes: &[u8]) -> Vec<Call> {
        self.data(UPSTREAM_DATA, bytes, false)
    }

    /// Bytes of the server where some may be held, with the end of its stream or not: what goes on, and the host calls.
    pub fn server_behind(&self, bytes: &[u8], end_of_stream: bool) -> (Vec<u8>, Vec<Call>) {
        host(|host| host.buffer = Some((UPSTREAM_DATA, bytes.to_vec())));
        let ((action, left), calls) = callback(self.id, || {
            let action = proxy_on_upstream_data(self.id, bytes.len(), end_of_stream);
            (action, host(|host| host.buffer.take()).expect("a buffer").1)
        });
        assert_eq!(action, CONTINUE, "the server's bytes cannot be paused");
        assert_no_metric_calls(&calls);
        (left, calls)
    }

    /// Bytes of the server, with the end of its stream.
    pub fn server_end(&self, bytes: &[u8]) {
        self.data(UPSTREAM_DATA, bytes, true);
        callback(self.id, || proxy_on_upstream_connection_close(self.id, PEER_UNKNOWN));
    }

    /// The end of the client's stream.
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

    /// The connection to the server is there.
    pub fn established(&self) {
        set_property(self.id, "upstream.address", Some("10.0.0.5:3306".into()));
    }

    /// The callbacks of an ending, in Envoy's order. Gives the host calls of the close itself.
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

/// Calls into the module on behalf of a context. What it read is gone when it returns.
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
