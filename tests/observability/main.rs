//! The files for Prometheus and Grafana, with a real Prometheus. Each rule, alert and panel has data under traffic and faults,
//! labels are equal with each configuration of tags, and the numbers equal those of the load generator.

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

mod dashboard;
mod faults;
mod files;
mod labels;
mod panels;
mod server;
mod sysbench;
