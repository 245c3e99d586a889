//! Listeners of a gateway: one for each port of the `Gateway`s that select it. Only TCP and TLS passthrough.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::mesh::{Proxy, Service};
use super::resource::{Resource, of_kind};
use super::shape::{shape, tcp_proxy};
use super::wasm_plugin::{Direction, Plugin, before};

pub fn listeners(
    services: &[Service],
    proxy: &Proxy,
    resources: &[Resource],
    plugins: &[Plugin],
) -> Vec<Value> {
    // The chains of each port, and whether any of them needs the server name of a ClientHello.
    let mut ports: BTreeMap<u64, (Vec<Value>, bool)> = BTreeMap::new();
    for gateway in of_kind(resources, "Gateway") {
        let selector = gateway.spec()["selector"].as_object().expect("a selector");
        // A Gateway selects in all namespaces.
        if !selector.iter().all(|(key, value)| proxy.labels.get(key).map(String::as_str) == value.as_str()) {
            continue;
        }
        for server in gateway.spec()["servers"].as_array().expect("servers") {
            let number = server["port"]["number"].as_u64().expect("a port");
            let (all, by_name) = ports.entry(number).or_default();
            all.extend(chains(services, gateway, server, resources, plugins));
            *by_name |= server["port"]["protocol"] == "TLS";
        }
    }
    let listener = |(port, (chains, by_name)): (u64, (Vec<Value>, bool))| {
        let (name, port) = (format!("0.0.0.0_{port}"), port.to_string());
        let mut listener = shape("listener", &[("name", &name), ("address", "0.0.0.0"), ("port", &port)]);
        if by_name {
            listener["listener_filters"] = json!([shape("tls_inspector", &[])]);
        }
        listener["filter_chains"] = json!(chains);
        listener
    };
    ports.into_iter().map(listener).collect()
}

/// Chains of a server, from the routes of the `VirtualService`s that name its gateway.
fn chains(
    services: &[Service],
    gateway: &Resource,
    server: &Value,
    resources: &[Resource],
    plugins: &[Plugin],
) -> Vec<Value> {
    let port = server["port"]["number"].as_u64().expect("a port");
    let routes = match (server["port"]["protocol"].as_str(), server["tls"]["mode"].as_str()) {
        (Some("TCP"), None) => "tcp",
        (Some("TLS"), Some("PASSTHROUGH")) => "tls",
        other => panic!("a server of a gateway with {other:?}"),
    };
    let ours = |service: &&Resource| {
        let names = service.spec()["gateways"].as_array().expect("gateways");
        service.namespace == gateway.namespace && names.iter().any(|name| *name == gateway.name)
    };
    let mut chains = Vec::new();
    for service in of_kind(resources, "VirtualService").filter(ours) {
        for route in service.spec()[routes].as_array().into_iter().flatten() {
            if !route["match"].as_array().expect("matches").iter().any(|matching| matching["port"] == port) {
                continue;
            }
            let destination = &route["route"][0]["destination"];
            let to = services.iter().find(|service| destination["host"] == service.host).expect("the host");
            let number = destination["port"]["number"].as_u64();
            let to_port = to.ports.iter().find(|port| number == Some(port.number.into())).expect("its port");
            let number = u16::try_from(port).expect("a port");
            let filter = tcp_proxy(&to.cluster(to_port));
            let any = |matching: &Value| routes == "tcp" || matching["sniHosts"] == json!(["*"]);
            assert!(route["match"].as_array().is_some_and(|all| all.iter().all(any)), "a host but `*`");
            chains.push(json!({"filters": before(plugins, Direction::Client, number, filter)}));
        }
    }
    chains
}
