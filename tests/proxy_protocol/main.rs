//! The PROXY protocol: our parser against another author's, and the filter in a real Envoy, between scripted peers and before
//! a real MariaDB.

// Tests report by a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../envoy/bootstrap.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod bootstrap;
#[path = "../envoy/counter_diff.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod counter_diff;

mod after_header;
#[allow(unreachable_pub, reason = "the fuzz target uses it too")]
mod against_ppp;
mod database;
mod headers;
mod oracle;
mod proxies;
mod random_cuts;
mod receive;
mod send;
mod shipped_files;
mod untrusted;
