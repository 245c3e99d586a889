//! Listeners for connections of a pod's application.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http;
use super::mesh::{Mesh, OutboundPolicy, Port, Protocol, Service};
use super::shape::{shape, tcp_proxy};
use super::wasm_plugin::{Direction, Plugin, before};

const WILDCARD: &str = "0.0.0.0";

/// Protocols that Envoy's inspector detects in HTTP without TLS.
pub const PLAINTEXT_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// Services that share a listener.
struct Entry<'s> {
    /// `Auto` if inspection distinguishes HTTP and TCP.
    protocol: Protocol,
    /// Services of its HTTP chain, if it has one.
    http: Vec<&'s Service>,
    /// Whether the client's bytes select that chain.
    sniffed: bool,
    /// Chains of TCP Services: the destination network, `None` for all, and the cluster.
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
    // A listener cannot bind to a network, so it binds to the wildcard address, and its chain matches the network.
    let network = service.address.contains('/').then(|| service.address.clone());
    let wildcard = network.is_some() || service.address == WILDCARD || port.protocol == Protocol::Http;
    let bind = if wildcard { WILDCARD } else { &service.address };
    let chain = (network, service.cluster(port));
    let Some(entry) = entries.get_mut(&(bind.to_owned(), port.number)) else {
        let entry = match port.protocol {
            // Even a port that is declared HTTP is inspected, because other destinations can use it for other protocols.
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
    // A port cannot have MySQL and another protocol. istiod ignores the later Service.
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
        // istiod adds no plugin to the chain for unknown traffic.
        None => {
            let filters = [tcp_proxy(mesh.outbound.cluster())];
            listener["default_filter_chain"] =
                json!({"name": "PassthroughFilterChain", "filter_chain_match": {}, "filters": filters});
        }
    }
    listener["filter_chains"] = json!(chains);
    listener
}

/// The listener on port 15001. It accepts each connection of the application, and hands it to the listener for its
/// destination, if there is one.
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
