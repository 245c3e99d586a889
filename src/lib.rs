//! Firstword: an Envoy L4 filter that lets MySQL servers have the first word.

pub mod event;
pub mod metrics;
