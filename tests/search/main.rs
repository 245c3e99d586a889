//! Searches for holes: random hostile peers against the filter, for as long as `SEARCH_SECONDS` says (5 for each search).
//! A search that finds a hole prints it with its seed: `FIRSTWORD_SEED` repeats it.

// A panic is how a test reports.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

#[path = "../support/host.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod host;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod budget;
