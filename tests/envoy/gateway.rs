//! `envoy/gateway/tcproute.yaml`: its patch puts the filter before `tcp_proxy`, and the patched listener inspects a session.
//!
//! The listener has the form of Envoy Gateway's for a TCPRoute. Envoy Gateway itself does not run here.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bootstrap::MYSQL;
use crate::counter_diff::{CounterDiff, assert_clean};
use crate::session_counts;
use crate::traffic::{Pair, session};
use firstword::metrics::Profile;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::Server;
use firstword_testing::root;

/// A resource of the recipe.
fn resource(kind: &str) -> Value {
    let text = std::fs::read_to_string(root().join("envoy/gateway/tcproute.yaml")).expect("the recipe");
    let mut documents = serde_norway::Deserializer::from_str(&text).map(|document| {
        let value = serde_norway::Value::deserialize(document).expect("YAML");
        serde_json::to_value(value).expect("JSON")
    });
    documents.find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Envoy Gateway's name of a listener: namespace, gateway, listener.
fn listener_name() -> String {
    let gateway = resource("Gateway");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let (metadata, listener) = (&gateway["metadata"], &gateway["spec"]["listeners"][0]);
    [&metadata["namespace"], &metadata["name"], &listener["name"]].map(text).join("/")
}

#[test]
fn a_tcp_route_of_envoy_gateway_counts_a_session_exactly() {
    let patch = resource("EnvoyPatchPolicy")["spec"]["jsonPatches"][0].clone();
    let name = listener_name();
    assert_eq!(patch["type"], "type.googleapis.com/envoy.config.listener.v3.Listener");
    assert_eq!(patch["name"], name.as_str());
    let operation = &patch["operation"];
    assert_eq!((&operation["op"], &operation["path"]), (&json!("add"), &json!("/filter_chains/0/filters/0")));

    let tcp_proxy = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp-3306", "cluster": MYSQL, "idle_timeout": "0s",
    }});
    let listener = json!({
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 3306}},
        "max_connections_to_accept_per_socket_event": 1,
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [{"name": "tcproute/default/mysql/rule/-1", "filters": [operation["value"], tcp_proxy]}],
    });
    let endpoint = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 3306}}});
    let cluster = json!({"name": MYSQL, "type": "STATIC", "load_assignment": {
        "cluster_name": MYSQL, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
    }});
    let bootstrap =
        json!({"admin": {}, "static_resources": {"listeners": [listener], "clusters": [cluster]}});

    let server = Server::start();
    let options = EnvoyOptions::from_value(bootstrap).labels().upstream(MYSQL, server.address());
    let envoy = Envoy::start(options);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(&name), &server);
    pair.play(&session());
    pair.close();
    diff.expect(&session_counts::session(Profile::Standard));
    diff.finish();
    assert_clean(&envoy.log());
}
