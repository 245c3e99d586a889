//! Configurations of Envoy for the tests.

use serde_json::{Value, json};

pub const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";

pub fn inspector(name: &str) -> Value {
    json!({"name": format!("envoy.filters.listener.{name}")})
}

/// A listener of a standalone Envoy on port 3306, with further fields.
pub fn listener(more: &Value) -> Value {
    let mut listener = json!({
        "name": "mysql",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 3306}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}}]}],
    });
    for (key, value) in more.as_object().unwrap() {
        listener[key] = value.clone();
    }
    listener
}

pub fn bootstrap(listeners: &[Value]) -> Value {
    let limit = json!({"thresholds": [{"priority": "HIGH"}, {"max_connections": 5000}]});
    json!({"static_resources": {"listeners": listeners, "clusters": [{"name": "db", "type": "STATIC",
        "circuit_breakers": limit, "load_assignment": {
        "cluster_name": "db", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 3307}}}}]}]}}]}})
}

/// A bootstrap with Wasm filters before `tcp_proxy`, with these fields in their `config`.
pub fn with_filter(configs: &[Value]) -> Value {
    let filters = configs.iter().map(|config| {
        let mut all = json!({"name": "firstword", "root_id": "firstword", "fail_open": true, "vm_config": {
            "vm_id": "firstword", "code": {"local": {"filename": "firstword.wasm"}}}});
        for (key, value) in config.as_object().unwrap() {
            all[key] = value.clone();
        }
        json!({"name": "firstword", "typed_config": {"@type": WASM, "config": all}})
    });
    let proxy = json!({"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}});
    let filters: Vec<_> = filters.chain([proxy]).collect();
    let mut bootstrap = bootstrap(&[listener(&json!({"filter_chains": [{"filters": filters}]}))]);
    let tag = |name: &str| json!({"tag_name": name, "regex": "(x)"});
    let tags = ["direction", "destination", "protocol"].map(tag);
    bootstrap["stats_config"] = json!({"stats_tags": tags});
    bootstrap
}

pub fn string_value(configuration: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()})
}
