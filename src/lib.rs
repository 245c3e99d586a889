//! Firstword: an Envoy L4 filter that lets MySQL servers have the first word.

pub mod config;
pub mod event;
pub mod metrics;
pub mod proxy_protocol;
