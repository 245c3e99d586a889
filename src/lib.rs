//! Firstword: a filter for connections on which the server speaks first, MySQL's above all. This library has no host; the
//! shells in `crates/` connect it to a proxy.
//!
//! # Map
//!
//! ```text
//! filter ──> connection ──> detect
//!    │            ├───────> mysql::session ──> mysql::{packet, handshake, command, reply, ...}
//!    │            └───────> proxy_protocol
//!    ├─────> config ──────> proxy_protocol::networks
//!    ├─────> ports
//!    └─────> metrics ─────> event <── connection, mysql
//! ```
//! [`filter`] knows the proxy as [`filter::host::Host`]. Everything below it is sans-IO. Native tests run both as they are.
//! `tests/layout.rs` holds the directions.
//!
//! # One byte's journey
//!
//! 1. Envoy has bytes for one of its connections and calls `proxy_on_downstream_data` or
//!    `proxy_on_upstream_data`. The SDK finds the stream context, in `crates/proxy-wasm/src/stream.rs`.
//! 2. The context passes a [`connection::Chunk`] to its [`filter::stream::Stream`], and that to its [`connection::Connection`]: the
//!    bytes are still the host's.
//!    Where a rule has PROXY headers received or sent, `connection::front` sees them first: of the client's
//!    bytes it alone can hold, remove and add any, and end a connection. What it leaves is what the steps
//!    below see.
//! 3. Until it is known who speaks first and with what, [`connection::inspector::detect`] looks at the first 16 bytes. Nobody
//!    ever waits for more: the bytes go on in any case.
//! 4. On a MySQL connection the [`mysql::wire::packet::Framer`] of the byte's direction takes it as part of a
//!    header, as part of the prefix of a packet that is kept, or as one to be counted. Counted bytes
//!    are not even read from the host.
//! 5. A packet whose prefix is complete goes to the [`session::Session`], which follows both
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
pub mod ports;
pub mod proxy_protocol;
pub mod rules;
pub mod session;
mod version;

pub use version::{COMMIT, VERSION};
