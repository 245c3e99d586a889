//! A proxy-wasm host in the test's own process: the `proxy_*` functions that the crate and the SDK import, and a driver.
//! The driver calls the exported functions in Envoy's order. The host returns the statuses that Envoy returns.
//!
//! State is per thread, like that of the SDK, so tests run in parallel. A panic in a callback ends the process, as a trap
//! ends the VM. `proxy_log` prints its message.
#![allow(unsafe_code, reason = "an ABI is a set of unmangled C functions that pass pointers")]

mod calls;
mod stream;
mod vm;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::heap;
// Links the exports below.
use firstword_proxy_wasm as _;

pub use stream::{Destination, Ending, ORDERS, Outcome, Stream};
pub use vm::{Plugin, Vm};

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

/// `proxy_buffer_type_t`.
const DOWNSTREAM_DATA: u32 = 2;
const UPSTREAM_DATA: u32 = 3;
const PLUGIN_CONFIGURATION: u32 = 7;

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
