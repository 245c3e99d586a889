//! The only part that knows proxy-wasm: contexts and host calls. `filter` makes the decisions.

mod host;
mod hostcalls;
mod instance;
mod memory;
mod root;
mod shared_mode;
mod stream;

use root::Root;

/// The host calls it when the VM starts.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| hostcalls::log(log::Level::Error, &panic.to_string())));
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}
