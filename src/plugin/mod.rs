//! The only part that knows proxy-wasm: contexts, host calls, and nothing that decides.

mod access_log;
mod advice;
mod hazards;
mod host;
mod journal;
mod memory;
mod newest;
mod rewrites;
mod root;
mod shared;
mod slow_log;
mod stream;
mod tracked;
mod unfollowed;

pub use memory::connection_state;
use root::Root;

/// Called once when the VM starts.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| host::log(log::Level::Error, &panic.to_string())));
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}
