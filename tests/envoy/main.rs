//! The shipped module in a real Envoy, started from the files in `envoy/`, between scripted peers.
//!
//! A test scripts client and server step by step. Then it states by how much each series of the filter has changed. All
//! other series must not have changed. The oracle for bytes and endings is `tcp_proxy` without the filter, in the same Envoy.

// Clippy does not know helpers of tests as tests. They report by a panic, and read the real clock.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod bootstrap;
mod capability_restriction;
mod closing;
mod counter_diff;
mod drains;
mod first_bytes;
mod gateway;
mod invalid_configuration;
mod labels;
mod large_packets;
mod listener_filters;
mod memory;
mod native;
mod other_protocols;
mod plugins;
mod random_listeners;
mod reload;
mod series_limit;
mod server_first;
mod session;
mod session_counts;
mod shipped_files;
mod traffic;
