//! The destinations that a configuration itself suggests, where none was asked for: whatever may carry a protocol whose
//! server speaks first.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use firstword::ports;
use serde_json::Value;

use super::destination::{Because, Destination, Side, redirected};
use super::envoy::chain::FilterChain;
use super::envoy::dump::Dump;
use super::envoy::filter::Any;
use super::envoy::listener::Listener;
use super::plugin::Plugin;
use super::simulate::{Configured, TCP_PROXY, configured};

/// In the name of a listener or cluster, they tell what is behind it.
const NAMES: [&str; 8] = ["mysql", "mariadb", "percona", "galera", "vitess", "tidb", "proxysql", "maxscale"];

/// A port that stands for all without a listener or chain of their own.
const ANY_PORT: u16 = 3306;

/// All of them, each once, by side and address.
pub(super) fn all(dump: &Dump) -> Vec<Destination> {
    let declared = declared(dump);
    let mut found: Vec<Destination> = Vec::new();
    let mut places = HashMap::new();
    let mut add = |ip: Option<IpAddr>, port: u16, side: Side, names: &[&str]| {
        let named =
            names.iter().any(|name| NAMES.iter().any(|known| name.to_ascii_lowercase().contains(known)));
        let known = named || ports::is_known(port) || declared.iter().any(|range| range.contains(&port));
        let because = if known { Because::Known } else { Because::PassedOn };
        let place = *places.entry((ip, port, side)).or_insert(found.len());
        match found.get_mut(place) {
            Some(there) => there.because = there.because.max(because),
            None => found.push(Destination { ip, port, side, because }),
        }
    };
    let outbound = redirected(dump, Side::Outbound);
    let inbound = redirected(dump, Side::Inbound);
    for listener in &dump.listeners {
        if outbound.is_some_and(|outbound| outbound == listener) {
            add(None, ANY_PORT, Side::Outbound, &[]);
            continue;
        }
        if inbound.is_some_and(|inbound| inbound == listener) {
            for chain in listener.chains().filter(|chain| passes_bytes_on(dump, chain)) {
                let port =
                    chain.filter_chain_match.destination_port.and_then(|port| u16::try_from(port).ok());
                let own = listener.addresses().any(|address| Some(address.port()) == port);
                if let Some(port) = port.filter(|_| !own) {
                    add(
                        dump.node.addresses().first().copied(),
                        port,
                        Side::Inbound,
                        &names(listener, chain, dump),
                    );
                }
            }
            continue;
        }
        let side = if outbound.is_some() && !listener.is_bound() { Side::Outbound } else { Side::Inbound };
        for chain in listener.chains().filter(|chain| passes_bytes_on(dump, chain)) {
            // Of several ports a name does not tell which is meant.
            let names =
                if listener.addresses().count() == 1 { names(listener, chain, dump) } else { Vec::new() };
            for address in listener.addresses().filter(|address| address.port() != 0) {
                let networks =
                    chain.filter_chain_match.prefix_ranges.iter().filter_map(|network| network.first());
                let own = Some(address.ip()).filter(|ip| !ip.is_unspecified());
                add(own, address.port(), side, &names);
                for ip in networks.filter(|_| own.is_none()) {
                    add(Some(ip), address.port(), side, &names);
                }
            }
        }
    }
    found
}

/// Ports that rules of Firstword's name.
fn declared(dump: &Dump) -> Vec<RangeInclusive<u16>> {
    let filters = dump.listeners.iter().flat_map(Listener::chains).flat_map(|chain| &chain.filters);
    let named = |filter| {
        let Configured::Here(any) = configured(dump, filter) else { return None };
        Some(Plugin::of(&filter.name, any)?.config()?.named_ports().collect::<Vec<_>>())
    };
    filters.filter_map(named).flatten().collect()
}

/// Whether a chain passes bytes on to a server, whatever they are.
pub(super) fn passes_bytes_on(dump: &Dump, chain: &FilterChain) -> bool {
    let config = |filter| match configured(dump, filter) {
        Configured::Here(any) => Some(any),
        Configured::Elsewhere | Configured::Missing => None,
    };
    chain.filters.iter().filter_map(config).any(|any| any.kind() == TCP_PROXY && !is_black_hole(dump, any))
}

fn is_black_hole(dump: &Dump, tcp_proxy: &Any) -> bool {
    let name = tcp_proxy.body().get("cluster").and_then(Value::as_str);
    name.is_some_and(|name| {
        name == "BlackHoleCluster" || dump.cluster(name).is_some_and(|cluster| cluster.is_empty())
    })
}

fn names<'d>(listener: &'d Listener, chain: &'d FilterChain, dump: &'d Dump) -> Vec<&'d str> {
    let cluster = chain.filters.iter().filter_map(|filter| match configured(dump, filter) {
        Configured::Here(any) => any.body().get("cluster")?.as_str(),
        Configured::Elsewhere | Configured::Missing => None,
    });
    let unique: BTreeSet<_> = cluster.chain([listener.name.as_str(), chain.name.as_str()]).collect();
    unique.into_iter().collect()
}
