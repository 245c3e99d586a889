//! Envoy's ABI for dynamic modules, as far as this module uses it: the functions that it imports, and the hooks that it
//! exports. This is the only file with unsafe code.
//!
//! The names, arguments and results are those of Envoy's `abi.h`. A function that Envoy 1.38 lacks is looked up at run time,
//! because with an undefined symbol Envoy could not load the module, and no log line would say why.
//!
//! Threads: Envoy calls the hooks of one connection on its worker, and those of the extension on the main thread. Handles
//! contain raw pointers, so the compiler keeps them on their thread. Only [`Scheduler`] may move.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_void};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use firstword::event::Sender;

use crate::panics::catch;
use crate::types::{Attribute, Change, CloseSide, FLUSH_WRITE, Status, TICK_AFTER_PANIC, gather, log_level};

/// Pointer to an object of Envoy, or of this module in Envoy.
pub(crate) type Raw = *mut c_void;

/// Bytes of Envoy or of this module.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    data: *const u8,
    len: usize,
}

impl Buffer {
    const EMPTY: Self = Self { data: std::ptr::null(), len: 0 };

    fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// The bytes must live for `'a`. Those of Envoy live until the current hook returns.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the caller guarantees the lifetime, and Envoy the length.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

mod imports {
    //! Functions that Envoy 1.38 and newer export. `on`: the object that a function is about.
    use super::{Buffer, Raw};

    /// Declares functions by their names without the common prefix.
    macro_rules! imports {
        ($prefix:literal: $($link:literal => $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
            unsafe extern "C" {
                $(
                    #[link_name = concat!("envoy_dynamic_module_callback_", $prefix, $link)]
                    pub(super) fn $name($($argument: $type),*) $(-> $result)?;
                )*
            }
        };
    }

    imports! { "":
        "log" => log(level: u32, message: Buffer);
    }
    imports! { "network_":
        "filter_get_read_buffer_chunks_size" => read_slice_count(on: Raw) -> usize;
        "filter_get_read_buffer_chunks" => read_slices(on: Raw, to: *mut Buffer) -> bool;
        "filter_get_write_buffer_chunks_size" => write_slice_count(on: Raw) -> usize;
        "filter_get_write_buffer_chunks" => write_slices(on: Raw, to: *mut Buffer) -> bool;
        "filter_drain_read_buffer" => drain_read(on: Raw, len: usize) -> bool;
        "filter_drain_write_buffer" => drain_write(on: Raw, len: usize) -> bool;
        "filter_prepend_read_buffer" => prepend_read(on: Raw, data: Buffer) -> bool;
        "filter_prepend_write_buffer" => prepend_write(on: Raw, data: Buffer) -> bool;
        "filter_inject_read_data" => inject_read(on: Raw, data: Buffer, end: bool);
        "filter_inject_write_data" => inject_write(on: Raw, data: Buffer, end: bool);
        "filter_read_disable" => read_disable(on: Raw, disable: bool) -> u32;
        "filter_start_upstream_secure_transport" => start_upstream_tls(on: Raw) -> bool;
        "filter_is_ssl" => is_tls(on: Raw) -> bool;
        "filter_continue_reading" => continue_reading(on: Raw);
        "filter_close" => close(on: Raw, how: u32);
        "filter_get_remote_address" => peer_address(on: Raw, to: *mut Buffer, port: *mut u32) -> bool;
        "filter_get_local_address" => local_address(on: Raw, to: *mut Buffer, port: *mut u32) -> bool;
        "filter_get_upstream_host_address" => upstream_address(on: Raw, to: *mut Buffer, port: *mut u32) -> bool;
        "filter_get_upstream_host_cluster" => upstream_cluster(on: Raw, name: *mut Buffer) -> bool;
        "set_filter_state_bytes" => set_filter_state(on: Raw, key: Buffer, value: Buffer) -> bool;
        "filter_get_worker_index" => worker_index(on: Raw) -> u32;
        "filter_scheduler_new" => scheduler_new(on: Raw) -> Raw;
        "filter_scheduler_commit" => scheduler_commit(on: Raw, event: u64);
        "filter_scheduler_delete" => scheduler_delete(on: Raw);
        "filter_config_define_counter" => define_plain_counter(on: Raw, name: Buffer, id: *mut usize) -> u32;
        "filter_increment_counter" => increment_plain_counter(on: Raw, id: usize, by: u64) -> u32;
    }
    imports! { "bootstrap_extension_":
        "config_signal_init_complete" => signal_init_complete(on: Raw);
        "config_define_counter" => define_counter(on: Raw, name: Buffer, labels: *const Buffer, n: usize, id: *mut usize) -> u32;
        "config_define_gauge" => define_gauge(on: Raw, name: Buffer, labels: *const Buffer, n: usize, id: *mut usize) -> u32;
        "config_increment_counter" => increment_counter(on: Raw, id: usize, values: *const Buffer, n: usize, by: u64) -> u32;
        "config_increment_gauge" => increment_gauge(on: Raw, id: usize, values: *const Buffer, n: usize, by: u64) -> u32;
        "config_decrement_gauge" => decrement_gauge(on: Raw, id: usize, values: *const Buffer, n: usize, by: u64) -> u32;
        "config_set_gauge" => set_gauge(on: Raw, id: usize, values: *const Buffer, n: usize, to: u64) -> u32;
        "timer_new" => timer_new(on: Raw) -> Raw;
        "timer_enable" => timer_enable(on: Raw, milliseconds: u64);
        "timer_delete" => timer_delete(on: Raw);
    }
}

unsafe extern "C" {
    fn dlsym(handle: Raw, name: *const c_char) -> Raw;
}

/// Returns the address of a function of Envoy. `None` if this Envoy does not have it.
fn find(name: &CStr) -> Option<Raw> {
    // SAFETY: the name ends with a NUL, and a null handle means all objects of the process (RTLD_DEFAULT).
    let found = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Functions for the attributes of a connection that are numbers and texts.
type AttributeCalls =
    (unsafe extern "C" fn(Raw, u32, *mut u64) -> bool, unsafe extern "C" fn(Raw, u32, *mut Buffer) -> bool);

/// Returns the functions for attributes. `None` if this Envoy is older than 1.39.
pub(crate) fn since_1_39() -> Option<AttributeCalls> {
    static FOUND: OnceLock<Option<AttributeCalls>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let integer = find(c"envoy_dynamic_module_callback_network_filter_get_attribute_int")?;
        let text = find(c"envoy_dynamic_module_callback_network_filter_get_attribute_string")?;
        // SAFETY: `abi.h` declares the functions of these names with these types. A function pointer has the size of a
        // data pointer on every system that has `dlsym`.
        Some(unsafe { std::mem::transmute::<(Raw, Raw), AttributeCalls>((integer, text)) })
    })
}

/// True if this is Envoy 1.40 or newer, which has brought this function.
pub(crate) fn is_1_40() -> bool {
    find(c"envoy_dynamic_module_callback_network_filter_start_downstream_secure_transport").is_some()
}

/// Writes a line to Envoy's log (component `dynamic_modules`).
pub(crate) fn log(level: log::Level, line: &str) {
    // SAFETY: Envoy reads `line` during the call.
    unsafe { imports::log(log_level(level), Buffer::of(line.as_bytes())) };
}

/// Functions for the buffer with the bytes of one sender.
struct BufferCalls {
    slice_count: unsafe extern "C" fn(Raw) -> usize,
    slices: unsafe extern "C" fn(Raw, *mut Buffer) -> bool,
    drain: unsafe extern "C" fn(Raw, usize) -> bool,
    prepend: unsafe extern "C" fn(Raw, Buffer) -> bool,
}

impl BufferCalls {
    const fn of(sender: Sender) -> Self {
        match sender {
            Sender::Client => Self {
                slice_count: imports::read_slice_count,
                slices: imports::read_slices,
                drain: imports::drain_read,
                prepend: imports::prepend_read,
            },
            Sender::Server => Self {
                slice_count: imports::write_slice_count,
                slices: imports::write_slices,
                drain: imports::drain_write,
                prepend: imports::prepend_write,
            },
        }
    }
}

/// Connection in Envoy. It exists until the hook that ends it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionHandle(Raw);

impl ConnectionHandle {
    /// Returns up to `max` bytes of the current chunk of `sender`, from `start` on. Drop them before the chunk is changed.
    pub(crate) fn read(&self, sender: Sender, start: usize, max: usize) -> Option<Cow<'_, [u8]>> {
        let calls = BufferCalls::of(sender);
        let mut few = [Buffer::EMPTY; 8];
        let mut many = Vec::new();
        // SAFETY: the connection exists.
        let count = unsafe { (calls.slice_count)(self.0) };
        let slices = match few.get_mut(..count) {
            Some(few) => few,
            None => {
                many.resize(count, Buffer::EMPTY);
                many.as_mut_slice()
            }
        };
        // SAFETY: `slices` has the number of elements that Envoy has just returned.
        let is_available = count > 0 && unsafe { (calls.slices)(self.0, slices.as_mut_ptr()) };
        // SAFETY: the only callers, in `HostChunk`, drop the bytes before they return, and Envoy changes its buffer later.
        let slices = slices.iter().map(|slice| unsafe { slice.bytes() });
        is_available.then(|| gather(slices, start, max))
    }

    /// Replaces the first `drain` bytes of the current chunk of `sender` by `prepend`. Returns false if Envoy refuses.
    pub(crate) fn edit_front(self, sender: Sender, drain: usize, prepend: &[u8]) -> bool {
        let calls = BufferCalls::of(sender);
        // Envoy refuses a call that changes nothing.
        // SAFETY: the connection exists, and Envoy copies the bytes during the call.
        unsafe {
            (drain == 0 || (calls.drain)(self.0, drain))
                && (prepend.is_empty() || (calls.prepend)(self.0, Buffer::of(prepend)))
        }
    }

    /// Sends bytes to the other peer, as if `sender` had sent them. They pass the other filters only. `end`: no bytes follow.
    pub(crate) fn inject(self, sender: Sender, bytes: &[u8], end: bool) {
        let inject = if sender == Sender::Client { imports::inject_read } else { imports::inject_write };
        // SAFETY: the connection exists, and Envoy copies the bytes during the call.
        unsafe { inject(self.0, Buffer::of(bytes), end) };
    }

    /// Makes Envoy deliver held bytes again in the next turn of its event loop, as it does when reading is enabled.
    pub(crate) fn deliver_next_turn(self) {
        // SAFETY: the connection exists. Both calls only change a count and schedule an event.
        unsafe {
            imports::read_disable(self.0, true);
            imports::read_disable(self.0, false);
        }
    }

    /// Starts TLS to the server. Returns false if Envoy cannot.
    pub(crate) fn start_upstream_tls(self) -> bool {
        // SAFETY: the connection exists.
        unsafe { imports::start_upstream_tls(self.0) }
    }

    /// True if Envoy ends TLS of this connection.
    pub(crate) fn is_tls(self) -> bool {
        // SAFETY: the connection exists.
        unsafe { imports::is_tls(self.0) }
    }

    /// Passes on the connection or the bytes that a hook has stopped. Envoy may call other hooks meanwhile.
    pub(crate) fn resume(self) {
        // SAFETY: the connection exists.
        unsafe { imports::continue_reading(self.0) };
    }

    /// Closes both sides. Envoy may call the hook about the end meanwhile.
    pub(crate) fn close(self) {
        // SAFETY: the connection exists.
        unsafe { imports::close(self.0, FLUSH_WRITE) };
    }

    /// Returns the client's address as text, and the port.
    pub(crate) fn peer(self) -> Option<(String, u32)> {
        self.address(imports::peer_address)
    }

    /// Returns the address that the client connected to.
    pub(crate) fn destination(self) -> Option<(String, u32)> {
        self.address(imports::local_address)
    }

    /// Returns the server's address.
    pub(crate) fn upstream(self) -> Option<(String, u32)> {
        self.address(imports::upstream_address)
    }

    fn address(self, get: unsafe extern "C" fn(Raw, *mut Buffer, *mut u32) -> bool) -> Option<(String, u32)> {
        let (mut address, mut port) = (Buffer::EMPTY, 0);
        // SAFETY: the connection exists; the pointers are to live locals; the text is copied before the next call.
        let address = unsafe { get(self.0, &mut address, &mut port).then(|| address.bytes())? };
        Some((String::from_utf8_lossy(address).into_owned(), port))
    }

    /// Returns the cluster of the server. `None` before Envoy has chosen a server.
    pub(crate) fn upstream_cluster(self) -> Option<Vec<u8>> {
        let mut name = Buffer::EMPTY;
        // SAFETY: the connection exists; the pointer is to a live local; the text is copied before the next call.
        unsafe { imports::upstream_cluster(self.0, &mut name).then(|| name.bytes().to_vec()) }
    }

    /// Returns an attribute that is a number.
    pub(crate) fn integer(self, attribute: Attribute) -> Option<u64> {
        let (get, _) = since_1_39()?;
        let mut value = 0;
        // SAFETY: the connection exists; the pointer is to a live local.
        unsafe { get(self.0, attribute as u32, &mut value) }.then_some(value)
    }

    /// Returns an attribute that is text.
    pub(crate) fn text(self, attribute: Attribute) -> Option<Vec<u8>> {
        let (_, get) = since_1_39()?;
        let mut value = Buffer::EMPTY;
        // SAFETY: the connection exists; the pointer is to a live local; the text is copied before the next call.
        unsafe { get(self.0, attribute as u32, &mut value).then(|| value.bytes().to_vec()) }
    }

    /// Sets filter state to a text.
    pub(crate) fn set_filter_state(self, key: &str, value: &str) -> bool {
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the connection exists, and Envoy copies both during the call.
        unsafe { imports::set_filter_state(self.0, key, value) }
    }

    /// Number of the worker that the connection belongs to.
    pub(crate) fn worker(self) -> u32 {
        // SAFETY: the connection exists.
        unsafe { imports::worker_index(self.0) }
    }

    /// Creates a scheduler for the worker of this connection. It works as long as the connection exists.
    pub(crate) fn scheduler(self) -> Scheduler {
        // SAFETY: the connection exists. Envoy gives the object to the caller.
        Scheduler(unsafe { imports::scheduler_new(self.0) })
    }

    /// Adds 1 to a counter of the configuration.
    pub(crate) fn count(self, counter: ConfigurationCounter) {
        // The result is ignored, because the counter is itself the report of a problem.
        // SAFETY: the connection exists, and `counter` was defined by its configuration.
        let _ = unsafe { imports::increment_plain_counter(self.0, counter.0, 1) };
    }
}

/// Counter without labels of one filter configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigurationCounter(usize);

/// Filter configuration in Envoy, during the hook that reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigurationHandle(Raw);

impl ConfigurationHandle {
    /// Defines a counter. `None` if Envoy refuses it.
    pub(crate) fn define_counter(self, name: &str) -> Option<ConfigurationCounter> {
        let mut id = 0;
        // SAFETY: the configuration exists; Envoy copies the name; the pointer is to a live local.
        let result = unsafe { imports::define_plain_counter(self.0, Buffer::of(name.as_bytes()), &mut id) };
        (result == 0).then_some(ConfigurationCounter(id))
    }
}

/// Sends events to the worker of a connection.
pub(crate) struct Scheduler(Raw);

// SAFETY: Envoy allows all calls about a scheduler on any thread.
unsafe impl Send for Scheduler {}

impl Scheduler {
    /// Makes Envoy call the hook [`Module::scheduled`] on the worker. Has no effect after the end of the connection.
    pub(crate) fn post(&self) {
        // SAFETY: the scheduler exists until it is dropped.
        unsafe { imports::scheduler_commit(self.0, 0) };
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: the scheduler was created for this value, and is deleted once.
        unsafe { imports::scheduler_delete(self.0) };
    }
}

/// Pointers to label names or values, for one call.
fn label_list<T: AsRef<str>>(texts: &[T]) -> Vec<Buffer> {
    texts.iter().map(|text| Buffer::of(text.as_ref().as_bytes())).collect()
}

/// Metric of the bootstrap extension, without label values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricId(usize);

/// Configuration of the bootstrap extension in Envoy. It exists until the hook [`Module::end_extension`] returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtensionHandle(Raw);

impl ExtensionHandle {
    /// Defines a metric with these label names. Only possible in the hook [`Module::start_extension`].
    pub(crate) fn define(self, is_gauge: bool, name: &str, labels: &[&str]) -> Option<MetricId> {
        let (name, list) = (Buffer::of(name.as_bytes()), label_list(labels));
        let define = if is_gauge { imports::define_gauge } else { imports::define_counter };
        let mut id = 0;
        // SAFETY: the extension exists; Envoy copies all texts during the call; the pointers are to live locals.
        let result = unsafe { define(self.0, name, list.as_ptr(), list.len(), &mut id) };
        (result == 0).then_some(MetricId(id))
    }

    /// Changes a metric. Returns the result: 0 if Envoy has done it.
    pub(crate) fn change(self, metric: MetricId, values: &[String], change: Change) -> u32 {
        let list = label_list(values);
        let (call, amount): (unsafe extern "C" fn(Raw, usize, *const Buffer, usize, u64) -> u32, u64) =
            match change {
                Change::Count(by) => (imports::increment_counter, by),
                Change::Raise(by) => (imports::increment_gauge, by),
                Change::Lower(by) => (imports::decrement_gauge, by),
                Change::Set(to) => (imports::set_gauge, to),
            };
        // SAFETY: the extension exists; Envoy reads the values during the call; the pointer is to a live local.
        unsafe { call(self.0, metric.0, list.as_ptr(), list.len(), amount) }
    }

    /// Creates a timer that calls the hook [`Module::tick`] once each time it is started.
    pub(crate) fn timer(self) -> Timer {
        // SAFETY: the extension exists. Envoy gives the object to the caller.
        Timer(unsafe { imports::timer_new(self.0) })
    }
}

/// Timer of the main thread.
pub(crate) struct Timer(Raw);

impl Timer {
    /// Starts the timer.
    pub(crate) fn start(&self, milliseconds: u64) {
        // SAFETY: the timer exists until it is dropped.
        unsafe { imports::timer_enable(self.0, milliseconds) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was created for this value, and is deleted once.
        unsafe { imports::timer_delete(self.0) };
    }
}

/// What this module does in the hooks. Each may panic: the functions in [`hooks`] catch that.
pub(crate) trait Module: 'static {
    /// Filter configuration, which all workers share.
    type Configuration: Send + Sync;
    /// Filter of one connection, which stays on its worker.
    type Connection;

    /// Starts the module. Returns false if it cannot run in this Envoy.
    fn start() -> bool;
    /// Reads a configuration. Returns `None` if it is refused.
    fn configure(name: &[u8], text: &[u8], handle: ConfigurationHandle) -> Option<Arc<Self::Configuration>>;
    /// Ends a configuration that has no connections any more.
    fn end_configuration(configuration: &Self::Configuration);
    /// Creates the filter of a connection.
    fn connect(configuration: Arc<Self::Configuration>, handle: ConnectionHandle) -> Rc<Self::Connection>;
    /// Takes the start of a connection.
    fn opened(connection: &Rc<Self::Connection>) -> Status;
    /// Takes bytes of a sender. `end_stream`: no bytes follow.
    fn data(connection: &Self::Connection, sender: Sender, len: usize, end_stream: bool) -> Status;
    /// Takes the end of a connection.
    fn closed(connection: &Self::Connection, side: CloseSide);
    /// Takes an event that [`Scheduler::post`] sent to the worker.
    fn scheduled();
    /// Starts the bootstrap extension.
    fn start_extension(handle: ExtensionHandle);
    /// Takes the time on the main thread. Returns the milliseconds until the next time.
    fn tick() -> u64;
    /// Starts the timer of [`Module::tick`].
    fn start_timer(milliseconds: u64);
    /// Exports everything that is counted: at the start of a drain, and at the shutdown.
    fn flush();
    /// Ends the bootstrap extension.
    fn end_extension();
}

/// Functions that the exported hooks call.
///
/// # Safety
/// All: Envoy passes the pointers that it got from the hooks that create objects, until it passes them to the hook that
/// destroys them. It calls the hooks about one connection on one thread. Texts live until the hook returns.
pub(crate) mod hooks {
    use super::*;

    pub(crate) unsafe fn program_init<M: Module>() -> *const c_char {
        if catch(M::start) != Some(true) {
            return std::ptr::null();
        }
        // Envoy compares the text only to log a warning.
        if is_1_40() { c"v0.2.0".as_ptr() } else { c"v0.1.0".as_ptr() }
    }

    pub(crate) unsafe fn configure<M: Module>(envoy: Raw, name: Buffer, text: Buffer) -> Raw {
        // SAFETY: see the module.
        let (name, text) = unsafe { (name.bytes(), text.bytes()) };
        let made = catch(|| M::configure(name, text, ConfigurationHandle(envoy))).flatten();
        made.map_or(std::ptr::null_mut(), |made| Arc::into_raw(made).cast_mut().cast())
    }

    pub(crate) unsafe fn end_configuration<M: Module>(configuration: Raw) {
        // SAFETY: the pointer is from `configure`, and Envoy does not use it again.
        let configuration = unsafe { Arc::from_raw(configuration.cast::<M::Configuration>()) };
        catch(|| M::end_configuration(&configuration));
    }

    pub(crate) unsafe fn connect<M: Module>(configuration: Raw, envoy: Raw) -> Raw {
        let configuration = configuration.cast_const().cast::<M::Configuration>();
        // SAFETY: the pointer is from `configure`. Envoy keeps its own reference.
        let configuration = unsafe {
            Arc::increment_strong_count(configuration);
            Arc::from_raw(configuration)
        };
        let connection = catch(|| M::connect(configuration, ConnectionHandle(envoy)));
        connection.map_or(std::ptr::null_mut(), |connection| Rc::into_raw(connection).cast_mut().cast())
    }

    pub(crate) unsafe fn opened<M: Module>(_: Raw, connection: Raw) -> Status {
        // SAFETY: the pointer is from `connect`, and Envoy keeps its reference.
        let connection = unsafe {
            Rc::increment_strong_count(connection.cast_const().cast::<M::Connection>());
            Rc::from_raw(connection.cast_const().cast::<M::Connection>())
        };
        catch(|| M::opened(&connection)).unwrap_or(Status::Continue)
    }

    pub(crate) unsafe fn read<M: Module>(_: Raw, connection: Raw, len: usize, end: bool) -> Status {
        // SAFETY: see the module.
        let connection = unsafe { borrow::<M>(connection) };
        catch(|| M::data(connection, Sender::Client, len, end)).unwrap_or(Status::Continue)
    }

    pub(crate) unsafe fn write<M: Module>(_: Raw, connection: Raw, len: usize, end: bool) -> Status {
        // SAFETY: see the module.
        let connection = unsafe { borrow::<M>(connection) };
        catch(|| M::data(connection, Sender::Server, len, end)).unwrap_or(Status::Continue)
    }

    unsafe fn borrow<'a, M: Module>(connection: Raw) -> &'a M::Connection {
        // SAFETY: the pointer is from `connect`, and lives until `destroy`.
        unsafe { &*connection.cast_const().cast::<M::Connection>() }
    }

    pub(crate) unsafe fn event<M: Module>(_: Raw, connection: Raw, event: u32) {
        // `envoy_dynamic_module_type_network_connection_event`. The other two are about connections that open.
        let side = match event {
            0 => CloseSide::Client,
            1 => CloseSide::Envoy,
            _ => return,
        };
        // SAFETY: see the module.
        let connection = unsafe { borrow::<M>(connection) };
        catch(|| M::closed(connection, side));
    }

    pub(crate) unsafe fn destroy<M: Module>(connection: Raw) {
        // SAFETY: the pointer is from `connect`, and Envoy does not use it again.
        let connection = unsafe { Rc::from_raw(connection.cast_const().cast::<M::Connection>()) };
        // Without a close, Envoy has torn down the connection.
        catch(|| M::closed(&connection, CloseSide::Envoy));
    }

    pub(crate) unsafe fn scheduled<M: Module>(_: Raw, _: Raw, _: u64) {
        catch(M::scheduled);
    }

    pub(crate) unsafe fn start_extension<M: Module>(envoy: Raw, _: Buffer, _: Buffer) -> Raw {
        catch(|| M::start_extension(ExtensionHandle(envoy)));
        // Without this call Envoy opens no listener. Without the extension it would not start, so nothing refuses.
        // SAFETY: the extension exists.
        unsafe { imports::signal_init_complete(envoy) };
        envoy
    }

    pub(crate) unsafe fn new_extension<M: Module>(extension: Raw, _: Raw) -> Raw {
        extension
    }

    pub(crate) unsafe fn timer_fired<M: Module>(_: Raw, _: Raw, _: Raw) {
        let next = catch(M::tick).unwrap_or(TICK_AFTER_PANIC);
        catch(|| M::start_timer(next));
    }

    pub(crate) unsafe fn drain_started<M: Module>(_: Raw, _: Raw) {
        catch(M::flush);
    }

    /// Envoy ends only after the call of `done`. It calls this hook again if it gets another signal.
    pub(crate) unsafe fn shutdown<M: Module>(_: Raw, _: Raw, done: extern "C" fn(Raw), context: Raw) {
        catch(M::flush);
        done(context);
    }

    pub(crate) unsafe fn end_extension<M: Module>(_: Raw) {
        catch(M::end_extension);
    }

    /// Hook that Envoy requires and that this module does not need.
    pub(crate) unsafe fn nothing<M: Module>() {}
}

/// Exports hooks under the names of Envoy's ABI.
macro_rules! export {
    ($module:ty; $($hook:ident: $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($($argument: $type),*) $(-> $result)? {
                // SAFETY: Envoy calls the hook as its ABI promises.
                unsafe { $crate::abi::hooks::$name::<$module>($($argument),*) }
            }
        )*
    };
}

pub(crate) use export;
