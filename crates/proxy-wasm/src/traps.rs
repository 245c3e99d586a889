//! A trap for a test. A panic in wasm ends the VM, with all its connections.

/// Text in a client's bytes on which the test build traps.
#[cfg(feature = "inject-traps")]
const TRAP: &[u8] = b"firstword trap";

/// Panics if the test has asked for a trap in the bytes of this callback.
#[cfg(feature = "inject-traps")]
pub(crate) fn inject(size: usize) {
    let bytes =
        crate::hostcalls::buffer(crate::hostcalls::Buffer::DownstreamData, 0, size).unwrap_or_default();
    if bytes.windows(TRAP.len()).any(|window| window == TRAP) {
        #[allow(clippy::panic, reason = "the test wants one")]
        std::panic::panic_any("a trap for a test");
    }
}

/// Does nothing: only the module of one test traps.
#[cfg(not(feature = "inject-traps"))]
pub(crate) fn inject(_: usize) {}
