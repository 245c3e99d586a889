//! Effects of a change of the filter on open and new connections, with a real Envoy that reads xDS from files, and a real
//! MariaDB. The tables in `docs/failure-modes.md` show the outcomes.

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

mod delivery;
mod faults;
mod pool;
mod steps;
