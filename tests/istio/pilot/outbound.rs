//! Listeners for what a pod's application connects to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http;
use super::mesh::{Mesh, OutboundPolicy, Port, Protocol, Service};
use super::shape::{shape, tcp_proxy};
use super::wasm_plugin::{Direction, Plugin, before};

const WILDCARD: &str = "0.0.0.0";

/// What Envoy's inspector finds in plain text that is HTTP.
pub const PLAINTEXT_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// A listener in the making.
struct Entry<'s> {
    /// `Auto` where HTTP and TCP are told apart by inspection.
    protocol: Protocol,
    /// The Services behind its HTTP chain, if it has one.
    http: Vec<&'s Service>,
    /// Whether the client's bytes decide about that chain.
    sniffed: bool,
    /// Chains of TCP Services: the network they are for, where not all, and the cluster.
    tcp: Vec<(Option<String>, String)>,
}

/// One listener for each address and port of a TCP Service, one for all HTTP Services of a port.
pub fn listeners(mesh: &Mesh, services: &[Service], plugins: &[Plugin]) -> Vec<Value> {
    let mut entries: BTreeMap<(String, u16), Entry> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            add(&mut entries, service, port);
        }
    }
    entries.into_iter().map(|((bind, port), entry)| listener(mesh, &bind, port, &entry, plugins)).collect()
}

fn add<'s>(entries: &mut BTreeMap<(String, u16), Entry<'s>>, service: &'s Service, port: &Port) {
    // A listener cannot have a network for its address: it listens on all, and its chain matches the network.
    let network = service.address.contains('/').then(|| service.address.clone());
    let wildcard = network.is_some() || service.address == WILDCARD || port.protocol == Protocol::Http;
    let bind = if wildcard { WILDCARD } else { &service.address };
    let chain = (network, service.cluster(port));
    let Some(entry) = entries.get_mut(&(bind.to_owned(), port.number)) else {
        let entry = match port.protocol {
            // Anybody may use the port for something else, so even what is declared HTTP is inspected.
            Protocol::Http => {
                Entry { protocol: Protocol::Auto, http: vec![service], sniffed: true, tcp: vec![] }
            }
            Protocol::Auto => {
                Entry { protocol: Protocol::Auto, http: vec![service], sniffed: true, tcp: vec![chain] }
            }
            protocol => Entry { protocol, http: vec![], sniffed: false, tcp: vec![chain] },
        };
        entries.insert((bind.to_owned(), port.number), entry);
        return;
    };
    // One port cannot be MySQL's and another protocol's: who comes later is left out.
    let mysql = [port.protocol, entry.protocol].contains(&Protocol::Mysql);
    if mysql && port.protocol != entry.protocol {
        return;
    }
    match port.protocol {
        Protocol::Http | Protocol::Auto => {
            entry.http.push(service);
            entry.sniffed = true;
            entry.protocol = Protocol::Auto;
            if port.protocol == Protocol::Auto {
                entry.tcp.push(chain);
            }
        }
        Protocol::Tcp | Protocol::Mysql => entry.tcp.push(chain),
    }
}

fn listener(mesh: &Mesh, bind: &str, port: u16, entry: &Entry, plugins: &[Plugin]) -> Value {
    let name = format!("{bind}_{port}");
    let mut listener = shape("listener", &[("name", &name), ("address", bind), ("port", &port.to_string())]);
    listener["continue_on_listener_filters_timeout"] = json!(true);
    listener["bind_to_port"] = json!(false);
    listener["listener_filters_timeout"] = json!("0s");
    if entry.sniffed {
        listener["listener_filters"] = json!([shape("http_inspector", &[])]);
        listener["listener_filters_timeout"] = json!(mesh.detection_timeout);
    }

    let mut chains = Vec::new();
    let mut fallback = None;
    for (network, cluster) in &entry.tcp {
        let mut chain = json!({"filters": before(plugins, Direction::Client, port, tcp_proxy(cluster))});
        match network.as_ref().map(|network| network.split_once('/').expect("a network")) {
            Some((address, length)) => {
                let length: u8 = length.parse().expect("a prefix length");
                let range = json!({"address_prefix": address, "prefix_len": length});
                chain["filter_chain_match"] = json!({"prefix_ranges": [range]});
                chains.push(chain);
            }
            None => fallback = Some(chain),
        }
    }
    if !entry.http.is_empty() {
        let manager = http::outbound(&name, port, &entry.http, mesh.outbound);
        chains.push(json!({
            "filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": PLAINTEXT_HTTP},
            "filters": before(plugins, Direction::Client, port, manager),
        }));
    }
    match fallback {
        Some(chain) if chains.is_empty() => chains.push(chain),
        Some(chain) => listener["default_filter_chain"] = chain,
        // No plugin stands in a chain for what Istio does not know.
        None => {
            let filters = [tcp_proxy(mesh.outbound.cluster())];
            listener["default_filter_chain"] =
                json!({"name": "PassthroughFilterChain", "filter_chain_match": {}, "filters": filters});
        }
    }
    listener["filter_chains"] = json!(chains);
    listener
}

/// Takes every connection of the application's and hands it to the listener for its destination, if there is one.
pub fn virtual_listener(mesh: &Mesh) -> Value {
    let mut listener =
        shape("listener", &[("name", "virtualOutbound"), ("address", WILDCARD), ("port", "15001")]);
    listener["use_original_dst"] = json!(true);
    let mut chains = vec![json!({
        "name": "virtualOutbound-blackhole",
        "filter_chain_match": {"destination_port": 15001},
        "filters": [tcp_proxy("BlackHoleCluster")],
    })];
    if mesh.outbound == OutboundPolicy::AllowAnyDynamicDns {
        listener["listener_filters"] = json!([shape("http_inspector", &[])]);
        chains.push(json!({
            "name": "virtualOutbound-catchall-tcp-http",
            "filter_chain_match": {"application_protocols": PLAINTEXT_HTTP},
            "filters": [http::dynamic_dns()],
        }));
    }
    chains.push(json!({
        "name": "virtualOutbound-catchall-tcp",
        "filters": [tcp_proxy(mesh.outbound.cluster())],
    }));
    listener["filter_chains"] = json!(chains);
    listener
}
