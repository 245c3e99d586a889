//! Pods in network namespaces, with Istio's own redirection, and around them a world with databases and an HTTP Service.

pub mod certificates;
pub mod namespace;
pub mod pod;
pub mod probe;
pub mod world;
