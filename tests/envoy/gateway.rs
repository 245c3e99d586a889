//! `envoy/gateway/tcproute.yaml`: its patch puts the filter before `tcp_proxy`, and the patched listener inspects a session.
//!
//! One listener is written here, in the form of Envoy Gateway's for a TCPRoute. Another one is what Envoy Gateway itself makes of
//! the recipe. Its controller does not run here.

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
    assert_counts_a_session(&listener, &cluster);
}

/// Runs Envoy with a listener and a cluster, plays a session through it, and asserts each count.
fn assert_counts_a_session(listener: &Value, cluster: &Value) {
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let (listener_name, cluster_name) = (text(&listener["name"]), text(&cluster["name"]));
    let bootstrap =
        json!({"admin": {}, "static_resources": {"listeners": [listener], "clusters": [cluster]}});
    let server = Server::start();
    let options = EnvoyOptions::from_value(bootstrap).labels().upstream(&cluster_name, server.address());
    let envoy = Envoy::start(options);
    let mut diff = CounterDiff::new(&envoy, &cluster_name);
    let mut pair = Pair::open(envoy.listener_addr(&listener_name), &server);
    pair.play(&session());
    pair.close();
    diff.expect(&session_counts::session(Profile::Standard));
    diff.finish();
    assert_clean(&envoy.log());
}

/// Envoy Gateway's own translation of the recipe.
mod needs_egctl {
    use std::process::Command;

    use firstword_testing::temp_dir;

    use super::*;

    /// The Service that the recipe leaves to the user.
    const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: mysql, namespace: default}
spec: {clusterIP: 127.0.0.1, ports: [{port: 3306}]}
";

    /// What `egctl experimental translate` makes of the recipe, with the names of fields as they are in this repository.
    fn translated(recipe: &str) -> Value {
        let directory = temp_dir();
        let path = directory.path().join("recipe.yaml");
        std::fs::write(&path, format!("{recipe}{SERVICE}")).expect("a file");
        let mut egctl =
            Command::new(firstword_testing::built("EGCTL", "target/tools/egctl", "scripts/egctl.sh"));
        egctl.args(["experimental", "translate", "--from", "gateway-api", "--to", "xds,gateway-api"]);
        let output = egctl.args(["--output", "json", "--file"]).arg(&path).output().expect("egctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        snake_case(serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// Protobuf's JSON has `filterChains` for `filter_chains`.
    fn snake_case(value: Value) -> Value {
        let key = |key: String| -> String {
            let letter = |letter: char| match letter {
                'A'..='Z' => vec!['_', letter.to_ascii_lowercase()],
                _ => vec![letter],
            };
            if key.starts_with(|first: char| first.is_ascii_lowercase()) {
                key.chars().flat_map(letter).collect()
            } else {
                key
            }
        };
        match value {
            Value::Object(entries) => {
                entries.into_iter().map(|(name, entry)| (key(name), snake_case(entry))).collect()
            }
            Value::Array(items) => items.into_iter().map(snake_case).collect(),
            other => other,
        }
    }

    /// The resources of one kind in the configuration for the proxy.
    fn resources(translated: &Value, dump: &str, list: &str, resource: &str) -> Vec<Value> {
        let configs = translated["xds"]["default/mysql"]["configs"].as_array().expect("configurations");
        let dump =
            configs.iter().find(|config| config["@type"].as_str().is_some_and(|name| name.ends_with(dump)));
        let resources = dump.and_then(|dump| dump[list].as_array()).expect("resources");
        let without_type = |found: &Value| {
            let mut found = found.pointer(resource).expect("a resource").clone();
            found.as_object_mut().expect("an object").remove("@type");
            found
        };
        resources.iter().map(without_type).collect()
    }

    fn listener(translated: &Value) -> Value {
        let listeners =
            resources(translated, "ListenersConfigDump", "dynamic_listeners", "/active_state/listener");
        let name = listener_name();
        listeners.into_iter().find(|listener| listener["name"] == name.as_str()).expect("the listener")
    }

    fn filters(listener: &Value) -> Vec<&str> {
        let chains = listener["filter_chains"].as_array().expect("filter chains");
        assert_eq!(chains.len(), 1);
        let filters = chains[0]["filters"].as_array().expect("filters");
        filters.iter().map(|filter| filter["name"].as_str().expect("a name")).collect()
    }

    /// The conditions that Envoy Gateway writes into the status of the resources: type, status and message.
    fn conditions(value: &Value, found: &mut Vec<[String; 3]>) {
        match value {
            Value::Object(entries) => {
                for condition in entries.get("conditions").and_then(Value::as_array).into_iter().flatten() {
                    found.push(
                        ["type", "status", "message"]
                            .map(|key| condition[key].as_str().expect("text").to_owned()),
                    );
                }
                entries.values().for_each(|entry| conditions(entry, found));
            }
            Value::Array(items) => items.iter().for_each(|item| conditions(item, found)),
            _ => {}
        }
    }

    #[test]
    #[ignore = "needs egctl: scripts/egctl.sh"]
    fn envoy_gateway_puts_the_filter_into_the_chain_of_a_tcp_route() {
        let recipe = std::fs::read_to_string(root().join("envoy/gateway/tcproute.yaml")).expect("the recipe");
        let made = translated(&recipe);
        let mut found = Vec::new();
        conditions(&made, &mut found);
        assert!(found.len() >= 9, "{found:#?}");
        let refused: Vec<_> = found.iter().filter(|[_, status, _]| status != "True").collect();
        assert!(refused.is_empty(), "{refused:#?}");

        let listener = listener(&made);
        assert_eq!(filters(&listener), ["firstword", "envoy.filters.network.tcp_proxy"]);
        assert_eq!(listener.get("listener_filters"), None, "nothing waits for the client");
        let tcp_proxy = &listener["filter_chains"][0]["filters"][1]["typed_config"];
        assert_eq!(tcp_proxy["idle_timeout"], "0s");

        let clusters = resources(&made, "ClustersConfigDump", "dynamic_active_clusters", "/cluster");
        let mut cluster =
            clusters.into_iter().find(|cluster| cluster["name"] == tcp_proxy["cluster"]).expect("a cluster");
        assert_eq!(cluster["circuit_breakers"]["thresholds"][0]["max_connections"], u32::MAX);
        // Endpoints in the file, because there is no control plane.
        let endpoints =
            resources(&made, "EndpointsConfigDump", "dynamic_endpoint_configs", "/endpoint_config");
        let [endpoints] = endpoints.try_into().expect("the endpoints of one cluster");
        assert_eq!(cluster["eds_cluster_config"]["service_name"], endpoints["cluster_name"]);
        cluster.as_object_mut().expect("a cluster").remove("eds_cluster_config");
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = endpoints;
        assert_counts_a_session(&listener, &cluster);

        // Another name of the listener, as of another Gateway: the filter is in no chain.
        let wrong = recipe.replace("name: default/mysql/mysql", "name: default/mysql/other");
        assert_ne!(wrong, recipe);
        assert_eq!(filters(&self::listener(&translated(&wrong))), ["envoy.filters.network.tcp_proxy"]);
    }
}
