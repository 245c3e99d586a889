//! What a change of the filter does to connections that are open, and to those that come: real Envoy with its configuration
//! delivered by xDS in files, real MariaDB. The tables in `envoy/README.md` hold what is measured here.

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

mod delivery;
mod faults;
mod pool;
mod steps;
