//! Firstword as a native module: the shell between Envoy's dynamic modules and the library `firstword`. It translates hooks
//! into calls of the filter, and the filter's verdicts into calls of Envoy. It contains no code about the protocols on a
//! connection.
//!
//! One shared object is both the network filter and a bootstrap extension. The filter counts in memory of its worker. The
//! extension has the timer and the metrics with labels, which network filters lack.
//!
//! ```text
//! module         the hooks, as functions of this shell
//! connection     one connection: callbacks -> filter, verdicts -> Envoy; what follows a panic
//! extension      timer, export of metrics, drain and shutdown
//! configuration  one configuration: the filters of all workers
//! metrics        series with labels in the bootstrap extension
//! worker         the connections of a worker, and their ticks
//! host           Envoy as a host of the filter
//! panics         catches panics
//! partners       finds the two parts of one connection
//! clock          a clock that never steps back
//! abi            Envoy's ABI, and all unsafe code
//! types          values of the ABI without pointers
//! ```

mod abi;
mod clock;
mod configuration;
mod connection;
mod extension;
mod host;
mod metrics;
mod module;
mod panics;
mod partners;
mod types;
mod worker;

/// Hooks that Envoy calls. The first table is the network filter, the second is the bootstrap extension.
#[allow(unsafe_code, reason = "an exported function has a name without the crate's")]
mod exports {
    use std::ffi::c_char;

    use crate::abi::{Buffer, Raw, export};
    use crate::module::Firstword;
    use crate::types::Status;

    export! { Firstword;
        envoy_dynamic_module_on_program_init: program_init() -> *const c_char;
        envoy_dynamic_module_on_network_filter_config_new: configure(envoy: Raw, name: Buffer, text: Buffer) -> Raw;
        envoy_dynamic_module_on_network_filter_config_destroy: end_configuration(configuration: Raw);
        envoy_dynamic_module_on_network_filter_new: connect(configuration: Raw, envoy: Raw) -> Raw;
        envoy_dynamic_module_on_network_filter_new_connection: opened(envoy: Raw, connection: Raw) -> Status;
        envoy_dynamic_module_on_network_filter_read:
            read(envoy: Raw, connection: Raw, len: usize, end: bool) -> Status;
        envoy_dynamic_module_on_network_filter_write:
            write(envoy: Raw, connection: Raw, len: usize, end: bool) -> Status;
        envoy_dynamic_module_on_network_filter_event: event(envoy: Raw, connection: Raw, event: u32);
        envoy_dynamic_module_on_network_filter_scheduled: scheduled(envoy: Raw, connection: Raw, event: u64);
        envoy_dynamic_module_on_network_filter_destroy: destroy(connection: Raw);
    }

    export! { Firstword;
        envoy_dynamic_module_on_bootstrap_extension_config_new:
            start_extension(envoy: Raw, name: Buffer, text: Buffer) -> Raw;
        envoy_dynamic_module_on_bootstrap_extension_config_destroy: end_extension(extension: Raw);
        envoy_dynamic_module_on_bootstrap_extension_new: new_extension(extension: Raw, envoy: Raw) -> Raw;
        envoy_dynamic_module_on_bootstrap_extension_timer_fired:
            timer_fired(envoy: Raw, extension: Raw, timer: Raw);
        envoy_dynamic_module_on_bootstrap_extension_drain_started: drain_started(envoy: Raw, extension: Raw);
        envoy_dynamic_module_on_bootstrap_extension_shutdown:
            shutdown(envoy: Raw, extension: Raw, done: extern "C" fn(Raw), context: Raw);
        envoy_dynamic_module_on_bootstrap_extension_destroy: nothing();
        envoy_dynamic_module_on_bootstrap_extension_server_initialized: nothing();
        envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized: nothing();
        envoy_dynamic_module_on_bootstrap_extension_config_scheduled: nothing();
        envoy_dynamic_module_on_bootstrap_extension_http_callout_done: nothing();
        envoy_dynamic_module_on_bootstrap_extension_file_changed: nothing();
        envoy_dynamic_module_on_bootstrap_extension_admin_request: nothing();
        envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update: nothing();
        envoy_dynamic_module_on_bootstrap_extension_cluster_removal: nothing();
        envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update: nothing();
        envoy_dynamic_module_on_bootstrap_extension_listener_removal: nothing();
    }
}
