//! The addresses of a host: by the proxy's own table, its clusters and listeners, and then by the system.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, ToSocketAddrs as _};

use super::envoy::dump::Dump;
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::cluster;
use super::envoy::listener::Listener;
use super::waypoint;

/// Maximum number of addresses of a host that are examined.
const MAX_ADDRESSES: usize = 8;

/// The addresses of a host.
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// Whether a name server outside the mesh has them.
    pub(super) from_dns: bool,
}

/// An address that the user gave.
pub(super) fn of_address(ip: IpAddr) -> Found {
    Found { addresses: vec![ip], from_dns: false }
}

/// The addresses to which a client in the pod connects.
pub(super) fn resolve(dump: &Dump, host: &str, port: u16) -> Result<Found, String> {
    let names = full_names(dump, host);
    let table = names.iter().find_map(|name| dump.names.get(name)).filter(|found| !found.is_empty());
    let mut addresses = table.cloned().unwrap_or_default();
    if addresses.is_empty() {
        addresses = names
            .iter()
            .map(|name| of_listeners(dump, name, port))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
    }
    let from_dns = addresses.is_empty();
    if from_dns {
        let resolved = (host, port).to_socket_addrs().map_err(|error| {
            format!(
                "{host}: the configuration does not have the host, and the system does not resolve it ({error}); give its address \
                 with --dest ADDRESS:{port}"
            )
        })?;
        addresses = resolved.map(|address| address.ip()).collect();
        // A resolver may return an address once for each type of socket.
        addresses.dedup();
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(Found { addresses, from_dns })
}

/// The names in a mesh that a short name of a Service may mean, the nearest first.
fn full_names(dump: &Dump, host: &str) -> Vec<String> {
    let namespace = dump.node.namespace().unwrap_or("default");
    vec![
        host.to_owned(),
        format!("{host}.{namespace}.svc.cluster.local"),
        format!("{host}.svc.cluster.local"),
        format!("{host}.cluster.local"),
    ]
}

/// The addresses of listeners and chains that forward to the host.
fn of_listeners(dump: &Dump, host: &str, port: u16) -> Vec<IpAddr> {
    let name = format!("outbound|{port}||{host}");
    let forwards =
        |chain: &&FilterChain| chain.filters.iter().any(|filter| cluster(filter, dump) == Some(&name));
    let of_listener = |listener: &Listener| -> Vec<IpAddr> {
        let chains: Vec<_> = listener.chains().filter(forwards).collect();
        let own = listener
            .addresses()
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified() && !chains.is_empty());
        let ranges = chains.iter().flat_map(|chain| &chain.filter_chain_match.prefix_ranges);
        own.chain(ranges.filter_map(|network| network.address())).collect()
    };
    // The chains of a waypoint, as in inbound-vip|3306|tcp|mysql.db.svc.cluster.local.
    let end = format!("|{host}");
    let named = dump.waypoint().map(|(_, inner)| waypoint::named(inner)).into_iter().flatten();
    let of_waypoint = named
        .filter(|named| named.port == Some(port) && named.chains.iter().any(|chain| chain.ends_with(&end)));
    dump.listeners.iter().flat_map(of_listener).chain(of_waypoint.map(|named| named.ip)).collect()
}

/// Hosts that the proxy resolves by DNS and that have no listener of their own, by port. One pass over the listeners.
pub(super) fn by_dns(dump: &Dump) -> BTreeMap<u16, Vec<&str>> {
    let mut addressed = HashSet::new();
    for listener in &dump.listeners {
        let own = listener.addresses().any(|address| !address.ip().is_unspecified());
        for chain in listener.chains() {
            let mut ranges = chain.filter_chain_match.prefix_ranges.iter();
            if own || ranges.any(|network| network.address().is_some()) {
                addressed.extend(chain.filters.iter().filter_map(|filter| cluster(filter, dump)));
            }
        }
    }
    let mut found: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let clusters = dump.clusters.iter().flatten();
    for (name, _) in clusters.filter(|(_, cluster)| cluster.is_resolved_by_dns()) {
        let mut parts = name.splitn(4, '|');
        let (Some("outbound"), Some(port), Some(""), Some(host)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if let Some(port) = port.parse().ok().filter(|_| !addressed.contains(name.as_str())) {
            found.entry(port).or_default().push(host);
        }
    }
    found
}
