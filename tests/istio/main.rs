//! The manifests of `istio/`: whether the API server accepts them, the configuration that istiod makes of them, and their
//! effect in network namespaces with Istio's redirection, a real Envoy and a real MariaDB. Also the commands of the documents.

// Clippy does not know helpers of tests as tests. They report by a panic, and read the real clock.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod case;
mod cases;
mod changes;
mod chart;
mod doctor;
mod documents;
mod fixes;
mod istiod;
mod lab;
mod manifests;
mod mesh;
mod patches;
mod pilot;
mod readme;
mod readme_table;
mod real_dumps;
mod run;
mod schemas;
