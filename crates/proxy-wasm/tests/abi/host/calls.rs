//! The functions that the module imports.

use super::{DOWNSTREAM_DATA, Host, PLUGIN_CONFIGURATION, UPSTREAM_DATA, host, proxy_on_memory_allocate};
use crate::heap;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;

/// `proxy_stream_type_t`.
const DOWNSTREAM: u32 = 2;

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
