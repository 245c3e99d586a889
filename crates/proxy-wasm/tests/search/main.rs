//! Searches for holes: random hostile peers against the filter, for as long as `SEARCH_SECONDS` says (5 for each search).

// A panic is how a test reports.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

#[path = "../abi/host.rs"]
#[allow(dead_code, reason = "each program uses a part of this")]
mod host;

mod accounts;
mod budget;
mod memory;
mod output;
mod rogue;

use firstword_testing::heap;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;
