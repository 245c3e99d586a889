//! `envoy/mysql.yaml`, and what tests put beside what is in it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use firstword_testing::envoy::EnvoyOptions;

/// The listener and the cluster of `envoy/mysql.yaml`.
pub const MYSQL: &str = "mysql";
/// A listener with the same cluster and without the filter.
pub const PLAIN: &str = "plain";

/// The file as it is.
pub fn shipped(server: SocketAddr) -> EnvoyOptions {
    EnvoyOptions::new("envoy/mysql.yaml").upstream(MYSQL, server)
}

/// The file with the filter configured anew.
pub fn configured(server: SocketAddr, configuration: Value) -> EnvoyOptions {
    shipped(server).configuration(soon(configuration))
}

/// Exports follow ten times as fast as by default, so that tests need not wait.
pub fn soon(mut configuration: Value) -> Value {
    configuration["metrics"]["flush_interval_ms"] = json!(100);
    configuration
}

pub fn listeners(bootstrap: &mut Value) -> &mut Vec<Value> {
    bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners")
}

pub fn filters(listener: &mut Value) -> &mut Vec<Value> {
    listener["filter_chains"][0]["filters"].as_array_mut().expect("filters")
}

/// The configuration of the filter in front of `tcp_proxy`.
pub fn plugin(listener: &mut Value) -> &mut Value {
    &mut filters(listener)[0]["typed_config"]["config"]
}

pub fn tcp_proxy(listener: &mut Value) -> &mut Value {
    let filters = filters(listener);
    &mut filters.last_mut().expect("a filter")["typed_config"]
}

/// Puts a copy of the first listener beside it.
pub fn copy_listener(bootstrap: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    let listeners = listeners(bootstrap);
    let mut copy = listeners[0].clone();
    copy["name"] = json!(name);
    change(&mut copy);
    listeners.push(copy);
}

/// Puts [`PLAIN`] beside the listener.
pub fn with_plain(bootstrap: &mut Value) {
    copy_listener(bootstrap, PLAIN, |listener| drop(filters(listener).remove(0)));
}

/// Puts another listener beside the first, to a cluster of its own with the same name, and with another configuration of
/// the filter.
pub fn with_second(bootstrap: &mut Value, name: &str, configuration: &Value) {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
    let mut cluster = clusters[0].clone();
    cluster["name"] = json!(name);
    cluster["load_assignment"]["cluster_name"] = json!(name);
    clusters.push(cluster);
    copy_listener(bootstrap, name, |listener| {
        tcp_proxy(listener)["cluster"] = json!(name);
        plugin(listener)["name"] = json!(name);
        plugin(listener)["configuration"]["value"] = json!(configuration.to_string());
    });
}
