//! `crate::pilot` generates the same configuration for each case as istiod.
//!
//! `istiod/*.json` is the output of the discovery server of github.com/istio/istio at 86c9f01 (August 2026, 1.32-dev) for the
//! Services, the mesh configuration and the resources of each case. It is reduced to the fields that decide where bytes go.
//! The cases by name (N) and of headless Services (H) are from the stand-in alone, in the shape of istiod's source.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::case::Case;
use crate::cases::CASES;
use crate::pilot::{Xds, xds};
use firstword_testing::root;

const PROXY: [u8; 4] = [10, 1, 0, 2];

fn golden(case: &Case) -> PathBuf {
    root().join("tests/istio/istiod").join(case.name.replace(' ', "-") + ".json")
}

fn ours(case: &Case) -> Xds {
    let proxy = case.proxy(PROXY.into());
    xds(&case.mesh(&proxy, "/etc/certs"), &proxy, &case.all_resources())
}

#[test]
fn each_case_has_the_configuration_that_istiod_generates() {
    for case in CASES {
        if case.is_of_the_stand_in() {
            assert!(!golden(case).exists(), "{}: compare it with istiod's output", case.name);
            continue;
        }
        let text = std::fs::read_to_string(golden(case));
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", golden(case).display()));
        let theirs: Value = serde_json::from_str(&text).expect("JSON");
        let ours = ours(case);
        let ours = reduced(&json!({"listeners": ours.listeners, "clusters": ours.clusters}));
        assert_eq!(pretty(&ours), pretty(&theirs), "{}", case.name);
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// The fields that decide where and when bytes go.
fn reduced(xds: &Value) -> Value {
    let by_name = |key: &str, reduce: fn(&Value) -> Value| {
        let mut list: Vec<_> = xds[key].as_array().expect("a list").iter().map(reduce).collect();
        list.sort_by_key(|one| one["name"].to_string());
        json!(list)
    };
    json!({"listeners": by_name("listeners", listener), "clusters": by_name("clusters", cluster)})
}

fn listener(listener: &Value) -> Value {
    let keys = [
        "name",
        "address",
        "additional_addresses",
        "bind_to_port",
        "use_original_dst",
        "traffic_direction",
        "listener_filters",
        "listener_filters_timeout",
        "continue_on_listener_filters_timeout",
    ];
    let mut kept = pick(listener, &keys);
    if kept["listener_filters"] == json!([]) {
        // protobuf omits empty lists.
        remove(&mut kept, "listener_filters");
    }
    if let Some(seconds) = listener["listener_filters_timeout"].as_str() {
        let seconds: f64 = seconds.trim_end_matches('s').parse().expect("a duration");
        kept["listener_filters_timeout"] = json!(seconds);
    }
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let mut chains: Vec<_> = chains.map(chain).collect();
    // Sort, because Envoy selects a chain by its match and not by its order.
    chains.sort_by_key(Value::to_string);
    kept["filter_chains"] = json!(chains);
    if let Some(fallback) = listener.get("default_filter_chain") {
        kept["default_filter_chain"] = chain(fallback);
    }
    kept
}

fn chain(chain: &Value) -> Value {
    let mut kept = pick(chain, &["name", "filter_chain_match"]);
    // Ignore filters that only Istio's build of Envoy has. They change no bytes.
    let own = |filter: &&Value| !filter["name"].as_str().is_some_and(|name| name.starts_with("istio."));
    let filters = chain["filters"].as_array().expect("filters").iter().filter(own);
    kept["filters"] = filters
        .map(|filter| {
            let mut kept = pick(filter, &["name"]);
            match filter.get("config_discovery") {
                Some(discovery) => {
                    kept["config_discovery"] = discovery.clone();
                    // protobuf's JSON adds the default version.
                    remove(&mut kept["config_discovery"]["config_source"], "resource_api_version");
                }
                None => {
                    kept["cluster"] = filter["typed_config"]["cluster"].clone();
                    if let Some(bytes) = filter["typed_config"].get("max_early_data_bytes") {
                        kept["max_early_data_bytes"] = bytes.clone();
                    }
                }
            }
            kept
        })
        .collect();
    if let Some(tls) = chain.get("transport_socket") {
        kept["transport_socket"] = pick(&tls["typed_config"], &["@type", "require_client_certificate"]);
        kept["transport_socket"]["alpn_protocols"] =
            tls["typed_config"]["common_tls_context"]["alpn_protocols"].clone();
    }
    kept
}

fn cluster(cluster: &Value) -> Value {
    let mut kept = pick(cluster, &["name"]);
    // istiod sends endpoints by EDS, but here they are inline. A cluster of another extension has `cluster_type`.
    kept["type"] = match cluster["type"].as_str() {
        Some("EDS") => json!("STATIC"),
        _ => cluster.get("type").cloned().unwrap_or_else(|| cluster["cluster_type"]["name"].clone()),
    };
    // If istiod chooses between mutual TLS and plain text, each choice is a match.
    let matches = cluster["transport_socket_matches"].as_array().into_iter().flatten();
    let sockets = matches.map(|one| &one["transport_socket"]).chain(cluster.get("transport_socket"));
    for socket in sockets.filter(|socket| {
        socket["name"].as_str().is_some_and(|name| name.ends_with("upstream_proxy_protocol"))
    }) {
        kept["proxy_protocol"] = socket["typed_config"]["config"]["version"].clone();
    }
    kept["source"] = cluster["upstream_bind_config"]["source_address"]["address"].clone();
    kept
}

fn pick(value: &Value, keys: &[&str]) -> Value {
    let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), value.get(key)?.clone())));
    Value::Object(kept.collect())
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().expect("an object").remove(key);
}
