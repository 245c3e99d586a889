//! The manifests of `istio/`: what the API server would say of them, what istiod would make of them, and, in network
//! namespaces with Istio's redirection, a real Envoy and a real MariaDB, what they do.

// Helpers of tests are no tests to clippy, and a panic is how they report. The clock is the tests' own, not the core's.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod applier;
mod cases;
mod doctor;
mod fixes;
mod istiod;
mod lab;
mod manifests;
mod pilot;
mod run;
mod schemas;
mod table;
