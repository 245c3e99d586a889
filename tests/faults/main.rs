//! Faults on one connection, beside other connections that work: what the other side sees, what the filter counts, and that the
//! others see no wrong byte. The tables in `docs/failure-modes.md` are made from these runs.
//!
//! `tests/envoy/closing.rs` compares endings with those of `tcp_proxy`, `tests/envoy/reload.rs` and `tests/rollout` have changes of
//! listeners and configurations.

// A test reports through a panic. Counts are far below 2^53.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod bystanders;
#[allow(dead_code, reason = "each target uses a part of this")]
#[path = "../soak/exact.rs"]
mod exact;
#[allow(dead_code, reason = "each target uses a part of this")]
#[path = "../soak/good.rs"]
mod good;
mod phases;
#[allow(dead_code, reason = "each target uses a part of this")]
#[path = "../soak/proxy.rs"]
mod proxy;
mod real;
mod run;
#[allow(dead_code, reason = "each target uses a part of this")]
#[path = "../soak/tally.rs"]
mod tally;
mod traps;
#[allow(dead_code, reason = "each target uses a part of this")]
#[path = "../soak/tunnel.rs"]
mod tunnel;
