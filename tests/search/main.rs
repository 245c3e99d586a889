//! Searches with a budget of time: random input against a property. `SEARCH_SECONDS` sets the time, `SEARCH_SEED` repeats a
//! run.

// A panic is how a test reports. The clock is the search's own, not the core's.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod rogue;
