//! The destinations that a configuration suggests: those that may carry a server-first protocol. They are examined if the
//! user names none.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use firstword::ports;
use serde_json::Value;

use super::destination::{Destination, Reason, Side, redirected};
use super::envoy::dump::Dump;
use super::envoy::filter::Any;
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::{TCP_PROXY, cluster, known};
use super::envoy::listener::Listener;
use super::plugin::Plugin;
use super::waypoint;

/// Words in the name of a listener or cluster that suggest a MySQL server.
const NAMES: [&str; 8] = ["mysql", "mariadb", "percona", "galera", "vitess", "tidb", "proxysql", "maxscale"];

/// A port that stands for all ports without a listener or chain of their own.
const ANY_PORT: u16 = 3306;

/// All candidates, each once, by side and address.
pub(super) fn all(dump: &Dump) -> Vec<Destination> {
    let declared = declared(dump);
    let mut found: Vec<Destination> = Vec::new();
    let mut indices = HashMap::new();
    let mut add = |ip: Option<IpAddr>, port: u16, side: Side, names: &[&str]| {
        let named =
            names.iter().any(|name| NAMES.iter().any(|known| name.to_ascii_lowercase().contains(known)));
        let is_known = named || ports::is_known(port) || declared.iter().any(|range| range.contains(&port));
        let reason = if is_known { Reason::Known } else { Reason::Forwarded };
        let index = *indices.entry((ip, port, side)).or_insert(found.len());
        match found.get_mut(index) {
            Some(known) => known.reason = known.reason.max(reason),
            None => found.push(Destination { ip, port, host: None, from_dns: false, side, reason }),
        }
    };
    let outbound = redirected(dump, Side::Outbound);
    let inbound = redirected(dump, Side::Inbound);
    if let Some((_, inner)) = dump.waypoint() {
        for named in waypoint::named(inner) {
            let tcp = |chain: &&str| inner.chain(chain).is_some_and(|known| forwards_bytes(dump, known));
            if let Some(port) = named.port.filter(|_| named.chains.iter().any(tcp)) {
                let chains: Vec<_> = named.chains.into_iter().collect();
                add(Some(named.ip), port, Side::Inbound, &chains);
            }
        }
        return found;
    }
    for listener in &dump.listeners {
        if outbound.is_some_and(|outbound| outbound == listener) {
            add(None, ANY_PORT, Side::Outbound, &[]);
            continue;
        }
        if inbound.is_some_and(|inbound| inbound == listener) {
            for chain in listener.chains().filter(|chain| forwards_bytes(dump, chain)) {
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
        for chain in listener.chains().filter(|chain| forwards_bytes(dump, chain)) {
            // With several ports, the name does not show which port it is about.
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

/// The ports in the rules of Firstword.
fn declared(dump: &Dump) -> Vec<RangeInclusive<u16>> {
    let filters = dump.listeners.iter().flat_map(Listener::chains).flat_map(|chain| &chain.filters);
    let named = |filter| {
        let any = known(filter, dump)?;
        Some(Plugin::of(&filter.name, any)?.config()?.named_ports().collect::<Vec<_>>())
    };
    filters.filter_map(named).flatten().collect()
}

/// Whether a chain forwards any bytes to a server.
pub(super) fn forwards_bytes(dump: &Dump, chain: &FilterChain) -> bool {
    chain
        .filters
        .iter()
        .filter_map(|filter| known(filter, dump))
        .any(|any| any.kind() == TCP_PROXY && !is_black_hole(dump, any))
}

fn is_black_hole(dump: &Dump, tcp_proxy: &Any) -> bool {
    let name = tcp_proxy.body().get("cluster").and_then(Value::as_str);
    name.is_some_and(|name| {
        name == "BlackHoleCluster" || dump.cluster(name).is_some_and(|cluster| cluster.is_empty())
    })
}

fn names<'d>(listener: &'d Listener, chain: &'d FilterChain, dump: &'d Dump) -> Vec<&'d str> {
    let clusters = chain.filters.iter().filter_map(|filter| cluster(filter, dump));
    let unique: BTreeSet<_> = clusters.chain([listener.name.as_str(), chain.name.as_str()]).collect();
    unique.into_iter().collect()
}
