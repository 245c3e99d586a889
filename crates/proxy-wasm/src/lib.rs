//! Firstword as a proxy-wasm module: the shell between Envoy and the library `firstword`. It translates callbacks into calls
//! of the filter, and the filter's verdicts into host calls. It contains no code about the protocols on a connection.

mod host;
mod hostcalls;
mod instance;
mod memory;
mod root;
mod shared_mode;
mod stream;
mod traps;

use root::Root;

/// Entry point, which Envoy calls when the VM starts.
#[allow(missing_docs, unsafe_code, reason = "the SDK's macro exports the entry point")]
mod abi {
    proxy_wasm::main! {{
        crate::start();
    }}
}

fn start() {
    std::panic::set_hook(Box::new(|panic| hostcalls::log(log::Level::Error, &panic.to_string())));
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}
