//! `envoy/mysql.yaml`, and the changes that tests make to it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use firstword_testing::envoy::EnvoyOptions;

/// The listener and the cluster of `envoy/mysql.yaml`.
pub const MYSQL: &str = "mysql";
/// A listener with the same cluster and without the filter.
pub const PLAIN: &str = "plain";

/// The file without changes.
pub fn shipped(server: SocketAddr) -> EnvoyOptions {
    EnvoyOptions::new("envoy/mysql.yaml").upstream(MYSQL, server)
}

/// The file with another configuration of the filter.
pub fn configured(server: SocketAddr, configuration: Value) -> EnvoyOptions {
    shipped(server).configuration(with_fast_flush(configuration))
}

/// Sets an export interval of a tenth of the default, so that tests do not wait.
pub fn with_fast_flush(mut configuration: Value) -> Value {
    configuration["metrics"]["flush_interval"] = json!("100ms");
    configuration
}

pub fn listeners(bootstrap: &mut Value) -> &mut Vec<Value> {
    bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners")
}

pub fn filters(listener: &mut Value) -> &mut Vec<Value> {
    listener["filter_chains"][0]["filters"].as_array_mut().expect("filters")
}

/// The configuration of the filter before `tcp_proxy`.
pub fn plugin(listener: &mut Value) -> &mut Value {
    &mut filters(listener)[0]["typed_config"]["config"]
}

pub fn tcp_proxy(listener: &mut Value) -> &mut Value {
    let filters = filters(listener);
    &mut filters.last_mut().expect("a filter")["typed_config"]
}

/// Adds a copy of the first listener.
pub fn copy_listener(bootstrap: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    let listeners = listeners(bootstrap);
    let mut copy = listeners[0].clone();
    copy["name"] = json!(name);
    change(&mut copy);
    listeners.push(copy);
}

/// Adds the listener [`PLAIN`].
pub fn add_plain_listener(bootstrap: &mut Value) {
    copy_listener(bootstrap, PLAIN, |listener| drop(filters(listener).remove(0)));
}

/// Adds a listener and a cluster, both with this name, and with this configuration of the filter.
pub fn add_second_listener(bootstrap: &mut Value, name: &str, configuration: &Value) {
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
