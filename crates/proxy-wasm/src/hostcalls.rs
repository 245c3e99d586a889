//! Calls to the host, each with its status checked. This file imports the calls itself, because the SDK's wrappers panic on
//! statuses that are normal here: a property that does not exist yet, a buffer that no longer exists. A panic would reset
//! every connection of the Envoy worker.
//!
//! Names, arguments and statuses: proxy-wasm ABI specification 0.2.1, and for the environment WASI preview 1.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;

use firstword::clock::Timestamp;
use firstword::filter::host::HostError;
use firstword::metrics::Sink;
use firstword::metrics::catalogue::Kind;

#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context_id: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer_type: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_buffer_bytes(
        buffer_type: u32,
        start: usize,
        size: usize,
        data: *const u8,
        data_size: usize,
    ) -> u32;
    fn proxy_continue_stream(stream_type: u32) -> u32;
    fn proxy_close_stream(stream_type: u32) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, delta: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

// The standard library for this target has no environment.
#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "wasi_snapshot_preview1"))]
unsafe extern "C" {
    fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
    fn environ_get(variables: *mut *const u8, text: *mut u8) -> u32;
}

/// `proxy_status_t` of a call that succeeded, and `errno` of WASI.
const OK: u32 = 0;
/// `proxy_status_t` of a call about something that does not exist.
const NOT_FOUND: u32 = 1;

/// `proxy_status_t` of a call that the host refused. Its text is the name of the status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status(u32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            NOT_FOUND => "NOT_FOUND",
            2 => "BAD_ARGUMENT",
            3 => "SERIALIZATION_FAILURE",
            4 => "PARSE_FAILURE",
            6 => "INVALID_MEMORY_ACCESS",
            7 => "EMPTY",
            8 => "CAS_MISMATCH",
            10 => "INTERNAL_FAILURE",
            12 => "UNIMPLEMENTED",
            other => return write!(f, "status {other}"),
        };
        f.write_str(name)
    }
}

/// Converts the status of the call `proxy_CALL` to a result.
fn check(call: &'static str, status: u32) -> Result<(), HostError> {
    if status == OK { Ok(()) } else { Err(HostError { call, status: Status(status).to_string() }) }
}

/// `proxy_buffer_type_t`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    DownstreamData = 2,
    UpstreamData = 3,
    PluginConfiguration = 7,
}

/// Takes ownership of memory that the host allocated in this VM through `proxy_on_memory_allocate`.
fn take_host_allocation(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: the host got `data` from the SDK's allocator, which returns a vector's memory of exactly `size` bytes. The
    // host has filled it, and keeps no pointer to it.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// Returns up to `max` bytes of a buffer from `start` on. At the end of the buffer these are fewer bytes, or no bytes.
pub(crate) fn buffer(buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>, Status> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the two pointers are to live locals that the host writes once.
    let status = unsafe { proxy_get_buffer_bytes(buffer as u32, start, max, &mut data, &mut size) };
    if status == OK { Ok(take_host_allocation(data, size)) } else { Err(Status(status)) }
}

/// Replaces the first `drain` bytes of a buffer by `prepend`.
pub(crate) fn edit_front(buffer: Buffer, drain: usize, prepend: &[u8]) -> Result<(), HostError> {
    // SAFETY: `prepend` outlives the call.
    let status = unsafe { proxy_set_buffer_bytes(buffer as u32, 0, drain, prepend.as_ptr(), prepend.len()) };
    check("set_buffer_bytes", status)
}

/// `proxy_stream_type_t`: the client's side of a connection.
const DOWNSTREAM: u32 = 2;

/// Forwards the bytes that a callback about the client's side held, or connects to the server if it held the connection.
pub(crate) fn resume() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("continue_stream", unsafe { proxy_continue_stream(DOWNSTREAM) })
}

/// Closes both sides of the connection when this callback has returned. Drops all held bytes.
pub(crate) fn close() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("close_stream", unsafe { proxy_close_stream(DOWNSTREAM) })
}

/// Returns an attribute of the connection. `None` if the host does not have it, does not have it yet, or refuses it. `path`
/// has a NUL between its segments.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: `path` outlives the call; the other pointers are to live locals.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
    (status == OK).then(|| take_host_allocation(data, size))
}

/// Sets filter state of the connection. Its key is `wasm.` and `path`, which has one segment.
pub(crate) fn set_property(path: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: `path` and `value` outlive the call.
    let status = unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
    check("set_property", status)
}

/// Declares that the filter state at `path` is text. The host accepts this only from the root context, and only in the
/// callback that configures it.
pub(crate) fn declare_text(path: &str) -> Result<(), HostError> {
    const FUNCTION: &str = "declare_property";
    // Envoy's DeclarePropertyArguments: `name` (1) and `type` (3), which is String (1).
    let len = u8::try_from(path.len()).unwrap_or(u8::MAX).min(0x7f);
    let name = path.as_bytes().get(..usize::from(len)).unwrap_or_default();
    let argument = [&[0x0a, len], name, &[0x18, 0x01]].concat();
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the function's name and the argument outlive the call; the other pointers are to live locals.
    let status = unsafe {
        proxy_call_foreign_function(
            FUNCTION.as_ptr(),
            FUNCTION.len(),
            argument.as_ptr(),
            argument.len(),
            &mut data,
            &mut size,
        )
    };
    drop(take_host_allocation(data, size));
    check(FUNCTION, status)
}

/// Returns the data under `key` that all VMs with one `vm_id` share, over all workers and configurations. `None` if no VM
/// has set it, or the host refuses it.
pub(crate) fn shared_data(key: &str) -> Option<Vec<u8>> {
    let (mut data, mut size, mut cas) = (ptr::null_mut(), 0, 0);
    // SAFETY: `key` outlives the call; the other pointers are to live locals.
    let status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut cas) };
    (status == OK).then(|| take_host_allocation(data, size))
}

/// Sets the data under `key`, and ignores its previous value.
pub(crate) fn set_shared_data(key: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: `key` and `value` outlive the call.
    let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), 0) };
    check("set_shared_data", status)
}

/// Maximum size of the environment in bytes, and of its number of variables.
const MAX_ENVIRONMENT: usize = 1 << 20;

/// Returns the value of an environment variable of the VM. `None` if it is not set, or the host refuses.
pub(crate) fn environment(name: &str) -> Option<Vec<u8>> {
    let (mut count, mut size) = (0, 0);
    // SAFETY: the pointers are to live locals.
    let status = unsafe { environ_sizes_get(&mut count, &mut size) };
    if status != OK || count.max(size) > MAX_ENVIRONMENT {
        return None;
    }
    let (mut variables, mut text) = (vec![ptr::null(); count], vec![0; size]);
    // SAFETY: the host writes as many pointers and bytes as it has just returned.
    let status = unsafe { environ_get(variables.as_mut_ptr(), text.as_mut_ptr()) };
    // `NAME=value`, each with a NUL at its end.
    let mut all = text.split(|byte| *byte == 0).filter(|_| status == OK);
    all.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec))
}

/// Returns the time of the host's clock. Zero if the host has no clock, which makes all durations zero.
pub(crate) fn now() -> Timestamp {
    let mut nanos = 0;
    // SAFETY: the pointer is to a live local.
    let status = unsafe { proxy_get_current_time_nanoseconds(&mut nanos) };
    Timestamp::from_nanos(if status == OK { nanos } else { 0 })
}

/// Sets the period in milliseconds of the root context's `on_tick`.
pub(crate) fn set_tick_period(period: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("set_tick_period", unsafe { proxy_set_tick_period_milliseconds(period) })
}

/// Makes the remaining calls of this callback refer to the connection of another context.
pub(crate) fn set_effective_context(context_id: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("set_effective_context", unsafe { proxy_set_effective_context(context_id) })
}

/// Writes a line to Envoy's log (component `wasm`).
pub(crate) fn log(level: log::Level, line: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // The status is ignored, because a failure cannot be logged.
    // SAFETY: `line` outlives the call.
    unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// Envoy's stats, as a sink of metrics.
#[derive(Debug, Default)]
pub(crate) struct HostMetrics {
    /// First call that the host refused. `None` if it refused no call.
    pub(crate) refused: Option<HostError>,
}

impl HostMetrics {
    /// Keeps the first refusal. Returns true if the call succeeded.
    fn check(&mut self, call: &'static str, status: u32) -> bool {
        if status != OK && self.refused.is_none() {
            self.refused = check(call, status).err();
        }
        status == OK
    }
}

impl Sink for HostMetrics {
    fn define(&mut self, kind: Kind, name: &str) -> Option<u32> {
        let kind = match kind {
            Kind::Counter | Kind::Histogram => 0,
            Kind::Gauge => 1,
        };
        let mut id = 0;
        // SAFETY: `name` outlives the call; the pointer is to a live local.
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
        self.check("define_metric", status).then_some(id)
    }

    fn add(&mut self, id: u32, delta: i64) -> bool {
        // SAFETY: no pointers.
        self.check("increment_metric", unsafe { proxy_increment_metric(id, delta) })
    }

    fn set(&mut self, id: u32, value: u64) -> bool {
        // SAFETY: no pointers.
        self.check("record_metric", unsafe { proxy_record_metric(id, value) })
    }
}
