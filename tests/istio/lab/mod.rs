//! Pods in network namespaces with Istio's redirection, and a world outside them with databases and an HTTP Service.

pub mod certificates;
pub mod pod;
pub mod world;
