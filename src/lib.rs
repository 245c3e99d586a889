//! Firstword: an Envoy L4 filter that lets MySQL servers have the first word.
//!
//! # Map
//!
//! ```text
//! plugin ──> filter ──> connection ──> detect
//!               │           ├───────> mysql::session ──> mysql::{packet, handshake, command, reply, ...}
//!               │           └───────> proxy_protocol
//!               ├─────> config ─────> proxy_protocol::networks
//!               ├─────> ports
//!               └─────> metrics ────> event <── connection, mysql
//! ```
//! Only [`plugin`] knows proxy-wasm. [`filter`] knows the proxy as [`filter::host::Host`], and everything below it is sans-IO;
//! native tests run both as they are.
//! `tests/layout.rs` holds the directions.
//!
//! # One byte's journey
//!
//! 1. Envoy has bytes for one of its connections and calls `proxy_on_downstream_data` or
//!    `proxy_on_upstream_data`; the SDK finds the stream context, `plugin::stream`.
//! 2. It passes a [`connection::Chunk`] to its [`filter::stream::Stream`], and that to its [`connection::Connection`]: the
//!    bytes are still the host's.
//!    Where a rule has PROXY headers received or sent, `connection::front` sees them first: of the client's
//!    bytes it alone can hold, remove and add any, and end a connection. What it leaves is what the steps
//!    below see.
//! 3. Until it is known who speaks first and with what, [`detect`] looks at the first 16 bytes. Nobody
//!    ever waits for more: the bytes go on in any case.
//! 4. On a MySQL connection the [`mysql::packet::Framer`] of the byte's direction takes it as part of a
//!    header, as part of the prefix of a packet that is kept, or as one to be counted. Counted bytes
//!    are not even read from the host.
//! 5. A packet whose prefix is complete goes to the [`mysql::session::Session`], which follows both
//!    directions and tells [`event::Event`]s. Where a rule says so, `connection::server` then changes the
//!    greeting, holds the server's bytes while more are sure to follow, or puts an error in their place.
//! 6. The stream records the events in the [`metrics::Accumulator`] of its [`filter::Filter`], in the worker's
//!    memory. The tick exports them to the host.
//! 7. A packet that cannot stand where it stands makes the connection opaque, once, with a reason; from
//!    then on its bytes are counted and not looked at.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod clock;
pub mod config;
pub mod connection;
pub mod escape;
pub mod event;
pub mod filter;
mod labels;
pub mod metrics;
pub mod mysql;
pub mod plugin;
pub mod ports;
pub mod proxy_protocol;
pub mod session;
mod version;

pub use version::{COMMIT, VERSION};

/// What Envoy calls first.
#[allow(missing_docs, unsafe_code, reason = "the SDK's macro declares the module's entry point")]
mod abi {
    proxy_wasm::main! {{
        crate::plugin::start();
    }}
}
