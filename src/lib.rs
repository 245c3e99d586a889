#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]
//! Firstword: an Envoy L4 filter that lets MySQL servers have the first word.

pub mod clock;
pub mod connection;
pub mod detect;
pub mod event;
mod labels;
pub mod metrics;
pub mod mysql;
pub mod ports;

/// The version of this filter.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build says so.
pub const COMMIT: &str = match option_env!("FIRSTWORD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
