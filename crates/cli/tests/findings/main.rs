//! How `firstword` reports findings: their order, their fixes and prices, notes, names, colours, explanations.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, too"
)]
#![allow(unreachable_pub, reason = "modules of a test")]

mod databases;
mod headless;
mod names;
mod output;
mod support;
mod waypoint;
