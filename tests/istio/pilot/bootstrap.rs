//! Bootstrap of a proxy: Istio's, with the additions from the pod's annotations, and with static listeners and clusters.

use serde_json::{Value, json};

use super::Xds;
use super::mesh::Proxy;
use super::shape::shape;

/// Port of a sidecar's admin interface, on loopback.
pub const ADMIN: u16 = 15000;

/// A bootstrap. `annotations` are those of the pod. It uses `sidecar.istio.io/extraStatTags`, and `proxyStatsMatcher` in
/// `proxy.istio.io/config`.
pub fn bootstrap(xds: &Xds, proxy: &Proxy, annotations: &Value) -> Value {
    let mut statistics = shape("stats_config", &[]);
    let tags = statistics["stats_tags"].as_array_mut().expect("stats_tags");
    let extra = annotations["sidecar.istio.io/extraStatTags"].as_str().unwrap_or_default();
    let extra = extra.split(',').filter(|tag| !tag.is_empty());
    let extra = extra.map(|tag| json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}));
    // Before Istio's own tags that match anywhere in a name.
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

/// Identity of the proxy, from the pod's metadata.
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
