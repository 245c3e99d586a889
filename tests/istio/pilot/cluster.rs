//! Clusters of a proxy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::mesh::{Mesh, OutboundPolicy, Proxy, Service};
use super::resource::{Resource, of_kind};
use super::shape::shape;

/// Source address of a sidecar's connections to its own pod, by which iptables distinguishes them.
const INBOUND_SOURCE: &str = "127.0.0.6";

pub fn clusters(mesh: &Mesh, proxy: &Proxy, services: &[Service], resources: &[Resource]) -> Vec<Value> {
    let mut clusters = vec![shape("black_hole_cluster", &[])];
    // By name, because several addresses of a ServiceEntry share a cluster.
    let mut outbound = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            let name = service.cluster(port);
            let endpoints: Vec<_> = service
                .endpoints_at(port)
                .map(|to| {
                    let address = json!({"address": to.ip().to_string(), "port_value": to.port()});
                    json!({"endpoint": {"address": {"socket_address": address}}})
                })
                .collect();
            let mut cluster = match endpoints.is_empty() {
                _ if service.by_dns => {
                    let number = port.number.to_string();
                    shape("dns_cluster", &[("name", &name), ("host", &service.host), ("port", &number)])
                }
                true => shape("original_dst_cluster", &[("name", &name)]),
                false => shape("static_cluster", &[("name", &name)]),
            };
            if !endpoints.is_empty() {
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = json!(endpoints);
            }
            if let Some(version) = proxy_protocol(&service.host, resources) {
                cluster["transport_socket"] = shape("upstream_proxy_protocol", &[("version", &version)]);
            }
            outbound.insert(name, cluster);
        }
    }
    clusters.extend(outbound.into_values());
    if mesh.outbound == OutboundPolicy::AllowAnyDynamicDns {
        clusters.push(shape("dynamic_dns_cluster", &[]));
    }
    if !proxy.gateway {
        clusters.push(shape("original_dst_cluster", &[("name", "PassthroughCluster")]));
        let own = services.iter().filter(|service| proxy.is_selected_by(service));
        let mut names: Vec<_> =
            own.flat_map(|service| &service.ports).map(|port| format!("inbound|{}||", port.target)).collect();
        names.push("InboundPassthroughCluster".into());
        names.sort();
        names.dedup();
        for name in names {
            let mut cluster = shape("original_dst_cluster", &[("name", &name)]);
            let source = json!({"address": INBOUND_SOURCE, "port_value": 0});
            cluster["upstream_bind_config"] = json!({"source_address": source});
            clusters.push(cluster);
        }
    }
    clusters
}

/// Version of the PROXY header that a `DestinationRule` sends to the host. `None` if it sends none.
fn proxy_protocol(host: &str, resources: &[Resource]) -> Option<String> {
    let rule = of_kind(resources, "DestinationRule").find(|rule| rule.spec()["host"] == host)?;
    let policy = rule.spec()["trafficPolicy"].as_object().expect("a trafficPolicy");
    assert!(policy.keys().all(|key| key == "proxyProtocol"), "{}: {policy:?}", rule.name);
    // protobuf omits V1, because it is the default.
    Some(policy["proxyProtocol"]["version"].as_str().unwrap_or("V1").to_owned())
}
