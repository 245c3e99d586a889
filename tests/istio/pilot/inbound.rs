//! The listener for connections to a pod: one for all ports, with chains for each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::http;
use super::mesh::{Mesh, Port, Protocol, Proxy, Service};
use super::outbound::PLAINTEXT_HTTP;
use super::resource::{ROOT_NAMESPACE, Resource, of_kind};
use super::shape::{shape, tcp_proxy};
use super::wasm_plugin::{Direction, Plugin, before};

/// Mode of mutual TLS in a `PeerAuthentication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mtls {
    Disable,
    Permissive,
    Strict,
}

impl Mtls {
    fn parse(mode: &Value) -> Option<Self> {
        match mode.as_str()? {
            "DISABLE" => Some(Self::Disable),
            "PERMISSIVE" => Some(Self::Permissive),
            "STRICT" => Some(Self::Strict),
            _ => None,
        }
    }
}

const HTTP_OVER_MTLS: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const TCP_OVER_MTLS: [&str; 2] = ["istio-peer-exchange", "istio"];
const ALL_OVER_MTLS: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Match and action of a chain.
struct Chain {
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates_tls: bool,
}

const fn chain(
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates_tls: bool,
) -> Chain {
    Chain { alpn, transport, http, terminates_tls }
}

/// Chains of one port.
fn chains(protocol: Protocol, mtls: Mtls) -> Vec<Chain> {
    const TLS: &str = "tls";
    const RAW: &str = "raw_buffer";
    match (protocol, mtls) {
        (Protocol::Http, Mtls::Strict) => vec![chain(&[], TLS, true, true)],
        (Protocol::Http, Mtls::Permissive) => {
            vec![chain(&ALL_OVER_MTLS, TLS, true, true), chain(&[], RAW, true, false)]
        }
        (Protocol::Http, Mtls::Disable) => vec![chain(&[], RAW, true, false)],
        (Protocol::Auto, Mtls::Strict) => {
            vec![chain(&HTTP_OVER_MTLS, TLS, true, true), chain(&[], TLS, false, true)]
        }
        (Protocol::Auto, Mtls::Permissive) => vec![
            chain(&HTTP_OVER_MTLS, TLS, true, true),
            chain(&PLAINTEXT_HTTP, RAW, true, false),
            chain(&TCP_OVER_MTLS, TLS, false, true),
            chain(&[], RAW, false, false),
            chain(&[], TLS, false, false),
        ],
        (Protocol::Auto, Mtls::Disable) => {
            vec![chain(&PLAINTEXT_HTTP, RAW, true, false), chain(&[], RAW, false, false)]
        }
        (Protocol::Tcp | Protocol::Mysql, Mtls::Strict) => vec![chain(&[], TLS, false, true)],
        (Protocol::Tcp | Protocol::Mysql, Mtls::Permissive) => {
            vec![
                chain(&ALL_OVER_MTLS, TLS, false, true),
                chain(&[], TLS, false, false),
                chain(&[], RAW, false, false),
            ]
        }
        (Protocol::Tcp | Protocol::Mysql, Mtls::Disable) => vec![chain(&[], RAW, false, false)],
    }
}

/// Modes of a pod: that of the workload, else of the namespace, else of the mesh, else PERMISSIVE. Single ports can have
/// their own mode, which only a `PeerAuthentication` with a selector can set.
struct Modes {
    workload: Mtls,
    ports: BTreeMap<u16, Mtls>,
}

impl Modes {
    fn of(proxy: &Proxy, resources: &[Resource]) -> Self {
        let mut modes = Self { workload: Mtls::Permissive, ports: BTreeMap::new() };
        let mut levels: Vec<_> = of_kind(resources, "PeerAuthentication")
            .filter(|policy| policy.selects(&proxy.namespace, &proxy.labels, "/selector/matchLabels"))
            .map(|policy| {
                let selects = policy.spec().pointer("/selector/matchLabels").is_some();
                ((selects, policy.namespace != ROOT_NAMESPACE), policy.spec())
            })
            .collect();
        levels.sort_by_key(|(level, _)| *level);
        for ((selects, _), spec) in levels {
            modes.workload = Mtls::parse(&spec["mtls"]["mode"]).unwrap_or(modes.workload);
            let ports = spec["portLevelMtls"].as_object().filter(|_| selects);
            for (port, setting) in ports.into_iter().flatten() {
                let mode = Mtls::parse(&setting["mode"]).unwrap_or(modes.workload);
                modes.ports.insert(port.parse().expect("a port"), mode);
            }
        }
        modes
    }

    fn at(&self, port: u16) -> Mtls {
        self.ports.get(&port).copied().unwrap_or(self.workload)
    }
}

/// The listener on port 15006.
pub fn virtual_listener(
    mesh: &Mesh,
    proxy: &Proxy,
    services: &[Service],
    resources: &[Resource],
    plugins: &[Plugin],
) -> Value {
    let modes = Modes::of(proxy, resources);
    let mut declared = BTreeMap::new();
    for service in services.iter().filter(|service| proxy.is_selected_by(service)) {
        for port in &service.ports {
            declared.entry(port.target).or_insert(*port);
        }
    }
    // Ports without a Service: 0 for all of them, and those with a mode of their own.
    let undeclared = modes.ports.keys().copied().filter(|port| !declared.contains_key(port));
    let passthrough: Vec<_> = std::iter::once(0).chain(undeclared).collect();

    let mut all = vec![json!({
        "name": "virtualInbound-blackhole",
        "filter_chain_match": {"destination_port": 15006},
        "filters": [tcp_proxy("BlackHoleCluster")],
    })];
    for target in passthrough {
        let port = Port { number: 0, target, protocol: Protocol::Auto };
        for chain in chains(Protocol::Auto, if target == 0 { modes.workload } else { modes.at(target) }) {
            let name = if chain.http { "virtualInbound-catchall-http" } else { "virtualInbound" };
            all.push(filter_chain(mesh, name, "InboundPassthroughCluster", &port, &chain, plugins));
        }
    }
    for port in declared.values() {
        let cluster = format!("inbound|{}||", port.target);
        for chain in chains(port.protocol, modes.at(port.target)) {
            all.push(filter_chain(
                mesh,
                &format!("0.0.0.0_{}", port.target),
                &cluster,
                port,
                &chain,
                plugins,
            ));
        }
    }

    let mut listener =
        shape("listener", &[("name", "virtualInbound"), ("address", "0.0.0.0"), ("port", "15006")]);
    listener["traffic_direction"] = json!("INBOUND");
    listener["continue_on_listener_filters_timeout"] = json!(true);
    listener["listener_filters_timeout"] = json!(mesh.detection_timeout);
    listener["listener_filters"] = json!(listener_filters(&all));
    listener["filter_chains"] = json!(all);
    listener
}

fn filter_chain(
    mesh: &Mesh,
    name: &str,
    cluster: &str,
    port: &Port,
    chain: &Chain,
    plugins: &[Plugin],
) -> Value {
    let mut matching = json!({"transport_protocol": chain.transport});
    if !chain.alpn.is_empty() {
        matching["application_protocols"] = json!(chain.alpn);
    }
    if port.target != 0 {
        matching["destination_port"] = json!(port.target);
    }
    // istiod compares a plugin's ports with the container's port in HTTP chains, and with the Service's in TCP chains.
    let (filter, compared) = if chain.http {
        (http::inbound(&format!("{name};"), cluster), port.target)
    } else {
        (tcp_proxy(cluster), port.number)
    };
    let filters = before(plugins, Direction::Server, compared, filter);
    let mut built = json!({"name": name, "filter_chain_match": matching, "filters": filters});
    if chain.terminates_tls {
        let mut socket = shape("downstream_tls", &[("certificates", &mesh.certificates)]);
        let alpn: &[&str] =
            if chain.http { &["h2", "http/1.1"] } else { &["istio-peer-exchange", "h2", "http/1.1"] };
        socket["typed_config"]["common_tls_context"]["alpn_protocols"] = json!(alpn);
        built["transport_socket"] = socket;
    }
    built
}

/// Inspectors for the ports with a chain that needs them. Port 0 means all ports without their own chain.
fn listener_filters(chains: &[Value]) -> Vec<Value> {
    let mut tls = BTreeMap::new();
    let mut http = BTreeMap::new();
    for chain in chains {
        let matching = &chain["filter_chain_match"];
        let port = matching["destination_port"].as_u64().unwrap_or(0);
        let alpn = matching["application_protocols"].as_array();
        let plain = alpn.is_some_and(|alpn| alpn.iter().any(|name| name == "http/1.1" || name == "h2c"));
        *tls.entry(port).or_insert(false) |= matching["transport_protocol"] == "tls";
        *http.entry(port).or_insert(false) |= plain;
    }
    let with = |inspectors: &BTreeMap<u64, bool>, needed: bool| -> BTreeSet<u64> {
        inspectors.iter().filter(|(_, needs)| **needs == needed).map(|(port, _)| *port).collect()
    };

    let mut filters = vec![shape("original_dst", &[])];
    if tls.values().any(|needed| *needed) {
        let mut inspector = shape("tls_inspector", &[]);
        // List the ports without the inspector, or those with it if port 0 has none.
        let everywhere = tls[&0];
        let excepted: BTreeSet<_> = with(&tls, !everywhere).into_iter().filter(|port| *port != 0).collect();
        if let Some(ports) = predicate(&excepted) {
            inspector["filter_disabled"] = if everywhere { ports } else { json!({"not_match": ports}) };
        }
        filters.push(inspector);
    }
    if http.values().any(|needed| *needed) {
        let mut inspector = shape("http_inspector", &[]);
        if let Some(ports) = predicate(&with(&http, false)) {
            inspector["filter_disabled"] = ports;
        }
        filters.push(inspector);
    }
    filters
}

fn predicate(ports: &BTreeSet<u64>) -> Option<Value> {
    let mut ranges: Vec<_> = ports
        .iter()
        .map(|port| {
            let mut range = json!({"end": port + 1});
            // protobuf omits zeros.
            if *port != 0 {
                range["start"] = json!(port);
            }
            json!({"destination_port_range": range})
        })
        .collect();
    match ranges.len() {
        0 => None,
        1 => ranges.pop(),
        _ => Some(json!({"or_match": {"rules": ranges}})),
    }
}
