//! Searches for holes: random hostile peers against the filter, for as long as `SEARCH_SECONDS` says (5 for each search).

// A panic is how a test reports; an allocator that counts needs `unsafe`.
#![allow(
    unreachable_pub,
    unsafe_code,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

#[path = "../support/heap.rs"]
mod heap;
#[path = "../support/host.rs"]
#[allow(dead_code, reason = "each program uses a part of this")]
mod host;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod budget;
mod memory;
mod output;
mod rogue;
