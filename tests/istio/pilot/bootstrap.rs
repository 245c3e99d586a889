//! What a proxy starts with: Istio's bootstrap, with what the pod's annotations add to it, and the rest inside.

use serde_json::{Value, json};

use super::Xds;
use super::mesh::Proxy;
use super::shape::shape;

/// The port of a sidecar's admin interface, on loopback.
pub const ADMIN: u16 = 15000;

/// A bootstrap. `annotations` are those of the pod; `sidecar.istio.io/extraStatTags` and the `proxyStatsMatcher` in
/// `proxy.istio.io/config` count.
pub fn bootstrap(xds: &Xds, proxy: &Proxy, annotations: &Value) -> Value {
    let mut statistics = shape("stats_config", &[]);
    let tags = statistics["stats_tags"].as_array_mut().expect("stats_tags");
    let extra = annotations["sidecar.istio.io/extraStatTags"].as_str().unwrap_or_default();
    let extra = extra.split(',').filter(|tag| !tag.is_empty());
    let extra = extra.map(|tag| json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}));
    // In front of Istio's own that search anywhere.
    tags.splice(1..1, extra);

    let config = annotations["proxy.istio.io/config"].as_str().unwrap_or("{}");
    let config: Value = serde_norway::from_str(config).expect("proxy.istio.io/config is YAML");
    let patterns = &mut statistics["stats_matcher"]["inclusion_list"]["patterns"];
    let inclusions = config["proxyStatsMatcher"]["inclusionRegexps"].as_array();
    for regex in inclusions.into_iter().flatten() {
        patterns.as_array_mut().expect("patterns").push(json!({"safe_regex": {"regex": regex}}));
    }
    json!({
        "node": node(proxy, annotations),
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN}}},
        "stats_config": statistics,
        "static_resources": {"listeners": xds.listeners, "clusters": xds.clusters},
    })
}

/// Who the proxy says it is: what the agent knows of the pod.
fn node(proxy: &Proxy, annotations: &Value) -> Value {
    let Proxy { namespace, labels, address, gateway } = proxy;
    let kind = if *gateway { "router" } else { "sidecar" };
    let name = labels.values().next().expect("a label");
    json!({
        "id": format!("{kind}~{address}~{name}-0.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": format!("{name}.{namespace}"),
        "metadata": {
            "ANNOTATIONS": annotations, "INSTANCE_IPS": address, "LABELS": labels, "NAMESPACE": namespace,
            "WORKLOAD_NAME": name,
        },
    })
}
