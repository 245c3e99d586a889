//! ServiceEntries without addresses that share one listener.

use std::collections::BTreeMap;

use firstword::escape;

use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::filter_config::cluster;
use super::envoy::listener::Listener;
use super::fix::Workload;
use super::names;
use crate::findings::{Finding, Location, Severity};

/// Maximum number of hosts that a finding names.
const MAX_NAMED: usize = 5;

/// One finding for each listener that several hosts share.
pub(super) fn findings(dump: &Dump) -> Vec<Finding> {
    let hosts = names::by_dns(dump);
    let listeners = dump.listeners.iter().filter(|listener| !listener.is_bound());
    listeners.filter_map(|listener| of(dump, listener, &hosts)).collect()
}

fn of(dump: &Dump, listener: &Listener, hosts: &BTreeMap<u16, Vec<&str>>) -> Option<Finding> {
    let address = listener.addresses().find(|address| address.ip().is_unspecified())?;
    let port = address.port();
    let hosts = hosts.get(&port).filter(|hosts| hosts.len() > 1)?;
    let filters = listener.chains().flat_map(|chain| &chain.filters);
    let prefix = format!("outbound|{port}||");
    let mut clusters = filters.filter_map(|filter| cluster(filter, dump)?.strip_prefix(&prefix));
    let first = clusters.find(|host| hosts.contains(host))?;
    let others = hosts.iter().filter(|host| **host != first).map(|host| escape::text(host));
    let others: Vec<_> = others.take(MAX_NAMED).collect();
    let (first, others) = (escape::text(first), others.join(", "));
    let why = format!(
        "The ServiceEntries for {first} and {others} have no addresses, so the listener {} of all addresses on port {port} accepts \
         the connections to both. It forwards them to {first}.",
        escape::text(name(listener))
    );
    let location = Location { listener: Some(escape::text(name(listener))), ..Location::default() };
    let fixes = vec![Workload::of(dump).dns_proxying(), Workload::own_ports()];
    let mut finding = Finding::new(Severity::Error, "shared-listener", location, why, fixes);
    finding.title = format!("connections to {others} go to {first}");
    Some(finding)
}
