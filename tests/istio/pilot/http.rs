//! HTTP connection managers. istiod sends their routes by RDS. Here they are inline.

use serde_json::{Value, json};

use super::mesh::{OutboundPolicy, Service};
use super::shape::shape;

/// Manager for the requests of several Services on one port, by host. Other hosts have the route for unknown traffic.
pub fn outbound(listener: &str, port: u16, services: &[&Service], policy: OutboundPolicy) -> Value {
    let mut hosts: Vec<_> = services
        .iter()
        .map(|service| {
            let port = service.ports.iter().find(|candidate| candidate.number == port).expect("its port");
            let mut names = vec![service.host.clone(), service.address.clone()];
            let labels: Vec<_> = service.host.split('.').collect();
            if let [name, namespace, "svc", ..] = labels.as_slice() {
                names.extend([
                    format!("{name}.{namespace}.svc"),
                    format!("{name}.{namespace}"),
                    (*name).to_owned(),
                ]);
            }
            let with_port = names.iter().map(|name| format!("{name}:{}", port.number));
            let domains: Vec<_> = names.clone().into_iter().chain(with_port).collect();
            host(&format!("{}:{}", service.host, port.number), &service.cluster(port), domains)
        })
        .collect();
    let (name, cluster) = match policy {
        OutboundPolicy::AllowAny => ("allow_any", policy.cluster()),
        OutboundPolicy::RegistryOnly => ("block_all", policy.cluster()),
        OutboundPolicy::AllowAnyDynamicDns => ("allow_any_dynamic_dns", "AllowAnyDynamicDNSCluster"),
    };
    hosts.push(host(name, cluster, vec!["*".to_owned()]));
    let mut manager = manager(&format!("outbound_{listener};"), &port.to_string(), hosts);
    if policy == OutboundPolicy::AllowAnyDynamicDns {
        with_dynamic_dns(&mut manager);
    }
    manager
}

/// Manager for requests to the pod.
pub fn inbound(stat_prefix: &str, cluster: &str) -> Value {
    manager(stat_prefix, cluster, vec![host("inbound|http|0", cluster, vec!["*".to_owned()])])
}

/// Manager for requests to hosts that Istio does not know.
pub fn dynamic_dns() -> Value {
    let hosts = vec![host("allow_any_dynamic_dns", "AllowAnyDynamicDNSCluster", vec!["*".to_owned()])];
    let mut manager = manager("allow_any_dynamic_dns", "allow_any_dynamic_dns", hosts);
    with_dynamic_dns(&mut manager);
    manager
}

fn with_dynamic_dns(manager: &mut Value) {
    let filters = manager["typed_config"]["http_filters"].as_array_mut().expect("HTTP filters");
    filters.insert(0, shape("dynamic_dns_filter", &[]));
}

fn manager(stat_prefix: &str, route: &str, hosts: Vec<Value>) -> Value {
    let mut manager = shape("http_connection_manager", &[("stat_prefix", stat_prefix)]);
    manager["typed_config"]["route_config"] = json!({"name": route, "virtual_hosts": hosts});
    manager
}

fn host(name: &str, cluster: &str, domains: Vec<String>) -> Value {
    let mut host = shape("virtual_host", &[("name", name), ("cluster", cluster)]);
    host["domains"] = json!(domains);
    host
}
