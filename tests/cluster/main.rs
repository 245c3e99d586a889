//! The manifests of `istio/` in a Kubernetes cluster with Istio: etcd, kube-apiserver, its controllers, kube-proxy, kubectl,
//! istiod with its webhooks and its certificate authority, pilot-agent, Envoy, MariaDB and a registry, all of them real. Only the
//! scheduler and the kubelet are replaced, by `lab/node.rs`. `make test-cluster` runs it, and generates `docs/cluster.md`.

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

mod canary;
mod change;
mod defects;
mod documents;
mod dumps;
mod fixes;
mod headless;
mod helm;
mod lab;
mod manifests;
mod mesh;
mod names;
mod native;
mod outcome;
mod printed;
mod report;
mod rollout;
mod rows;
mod steps;
mod story;
mod table;
mod tls;
mod traffic;
mod waypoint;

use std::any::Any;

/// The message of a panic.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
