//! Searches for counterexamples: random hostile peers against the filter. Each search takes `SEARCH_SECONDS` (5 by default).

// Tests report errors by a panic.
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

#[path = "../abi/host/mod.rs"]
#[allow(dead_code, reason = "each program uses a part of this")]
mod host;

mod accounts;
mod budget;
mod local_infile;
mod memory;
mod output;

use firstword_testing::heap;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;
