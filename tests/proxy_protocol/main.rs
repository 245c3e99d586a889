//! The PROXY protocol: headers against another author's parser, and the filter in a real Envoy between scripted peers and
//! in front of a real MariaDB.

// A panic is how a test reports.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../envoy/bootstrap.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of it is used here")]
mod bootstrap;
#[path = "../envoy/counter_diff.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of it is used here")]
mod counter_diff;

mod after_header;
#[allow(unreachable_pub, reason = "the fuzz target uses it too")]
mod beside;
mod database;
mod headers;
mod many;
mod oracle;
mod proxies;
mod receive;
mod scenarios;
mod send;
mod untrusted;
