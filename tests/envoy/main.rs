//! The shipped module in a real Envoy, started from the files users start, between peers that do what the test says.
//!
//! A test says step by step what client and server do, and then what every series of the filter's has changed by: a series
//! it does not name must not have changed. The oracle for bytes and endings is `tcp_proxy` without the filter, in the same
//! Envoy.

// Helpers of tests are no tests to clippy, and a panic is how they report. The clock is the tests' own, not the core's.
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
mod capabilities;
mod closing;
mod counted;
mod first_bytes;
mod hostile;
mod inert;
mod labels;
mod large;
mod ledger;
mod listener_filters;
mod memory;
mod plugins;
mod recipes;
mod refusal;
mod reload;
mod server_first;
mod session;
mod traffic;
