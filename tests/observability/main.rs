//! What ships for Prometheus and Grafana, with a real Prometheus: every rule, alert and panel gives data under traffic and
//! faults, labels arrive whichever way they are made, and the numbers are the load generator's own.

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

mod faults;
mod files;
mod labels;
mod server;
mod sysbench;
