//! A proxy-wasm host that does as little as possible, so that the counted instructions are those of the filter.
#![allow(unsafe_code, reason = "an ABI is a set of unmangled C functions that pass pointers")]

use std::cell::RefCell;

// Links the exports below.
use firstword_proxy_wasm as _;

unsafe extern "C" {
    fn _initialize();
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
    safe fn proxy_on_context_create(context_id: u32, root_context_id: u32);
    safe fn proxy_on_configure(context_id: u32, size: usize) -> bool;
    safe fn proxy_on_new_connection(context_id: u32) -> u32;
    safe fn proxy_on_downstream_data(context_id: u32, size: usize, end_of_stream: bool) -> u32;
    safe fn proxy_on_downstream_connection_close(context_id: u32, peer: u32);
    safe fn proxy_on_done(context_id: u32) -> bool;
    safe fn proxy_on_delete(context_id: u32);
    safe fn proxy_on_upstream_data(context_id: u32, size: usize, end_of_stream: bool) -> u32;
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
/// Ids of the root context and of the connection.
const ROOT: u32 = 1;
const STREAM: u32 = 2;
/// `proxy_peer_type_t`: the client.
const REMOTE: u32 = 2;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static NOW: RefCell<u64> = const { RefCell::new(1_000_000_000) };
}

#[unsafe(no_mangle)]
extern "C" fn proxy_log(_level: u32, _message: *const u8, _size: usize) -> u32 {
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    NOW.with_borrow_mut(|now| {
        *now += 1000;
        // SAFETY: the filter passes a pointer to a live variable.
        unsafe { *time = *now };
    });
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    _buffer: u32,
    start: usize,
    max_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    BUFFER.with_borrow(|bytes| {
        let end = start.saturating_add(max_size).min(bytes.len());
        let Some(part) = bytes.get(start..end) else { return NOT_FOUND };
        // SAFETY: the memory comes from the filter's allocator and has this size; the pointers are to live variables.
        unsafe {
            let memory = proxy_on_memory_allocate(part.len());
            std::ptr::copy_nonoverlapping(part.as_ptr(), memory, part.len());
            (*data, *size) = (memory, part.len());
        }
        OK
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_property(_: *const u8, _: usize, _: *mut *mut u8, _: *mut usize) -> u32 {
    NOT_FOUND
}

/// Host calls that succeed and do nothing, and those that the filter never makes.
macro_rules! nothing {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            OK
        }
    )*};
}

nothing! {
    environ_get environ_sizes_get
    proxy_set_tick_period_milliseconds proxy_set_effective_context proxy_set_buffer_bytes proxy_continue_stream
    proxy_close_stream proxy_set_property proxy_call_foreign_function proxy_get_shared_data proxy_set_shared_data
    proxy_define_metric proxy_increment_metric proxy_record_metric
    proxy_add_header_map_value proxy_dequeue_shared_queue proxy_done proxy_enqueue_shared_queue
    proxy_get_header_map_pairs proxy_get_header_map_value proxy_get_log_level proxy_get_metric proxy_get_status
    proxy_grpc_call proxy_grpc_cancel proxy_grpc_close proxy_grpc_send proxy_grpc_stream proxy_http_call
    proxy_register_shared_queue proxy_remove_header_map_value proxy_replace_header_map_value
    proxy_resolve_shared_queue proxy_send_local_response proxy_set_header_map_pairs
}

/// Starts a worker with the filter.
pub fn start(configuration: &str) {
    // SAFETY: called once; it registers the root context with this thread's dispatcher.
    unsafe { _initialize() };
    proxy_on_context_create(ROOT, 0);
    set_buffer(configuration.as_bytes());
    assert!(proxy_on_configure(ROOT, configuration.len()), "the configuration is valid");
}

/// Opens a connection.
pub fn open() {
    proxy_on_context_create(STREAM, ROOT);
    proxy_on_new_connection(STREAM);
}

/// Closes it by its client.
pub fn close() {
    proxy_on_downstream_connection_close(STREAM, REMOTE);
    proxy_on_done(STREAM);
    proxy_on_delete(STREAM);
}

fn set_buffer(bytes: &[u8]) {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.extend_from_slice(bytes);
    });
}

/// Passes bytes of the client.
pub fn client(bytes: &[u8]) {
    set_buffer(bytes);
    proxy_on_downstream_data(STREAM, bytes.len(), false);
}

/// Passes bytes of the server.
pub fn server(bytes: &[u8]) {
    set_buffer(bytes);
    proxy_on_upstream_data(STREAM, bytes.len(), false);
}
