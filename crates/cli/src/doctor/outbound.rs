//! Diagnoses for connections from the pod of a sidecar.

use serde_json::Value;

use super::diagnose::{Case, name, short};
use super::envoy::dump::Dump;
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::cluster;
use super::envoy::listener::Listener;
use super::envoy::listener_filter::Kind;
use super::fix::{self, ServicePort, Workload};
use super::names;
use super::simulate::{Journey, Wait};
use crate::findings::Fix;

impl Case<'_> {
    /// Code, beginning of the sentence, and fixes for an inspector in Istio's listener of all outbound connections.
    pub(super) fn outbound_inspector(&self, wait: &Wait) -> (&'static str, String, Vec<Fix>) {
        let by_istio = wait.kind == Kind::HttpInspector;
        let from = if by_istio {
            "Istio puts it there with outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS"
        } else {
            "an EnvoyFilter puts it there: remove that"
        };
        let (name, filter) = (name(wait.listener), short(&wait.filter));
        let why = format!(
            "The listener {name} accepts every connection from the pod, and has {filter} ({from}). It"
        );
        let fix = by_istio.then(|| self.workload.dynamic_dns(self.to.port));
        ("outbound-inspector", why, fix.into_iter().collect())
    }

    /// The same for an inspector in an outbound listener of a Service.
    pub(super) fn service_inspector(
        &self,
        journey: &Journey,
        wait: &Wait,
    ) -> (&'static str, String, Vec<Fix>) {
        let (port, name, filter) = (self.to.port, name(wait.listener), short(&wait.filter));
        if wait.listener.addresses().any(|address| address.ip().is_unspecified()) {
            let services = http_services(self.dump, port);
            let who = match services.as_slice() {
                [] => "Some HTTP Service declares".to_owned(),
                [one] => format!("{one} declares"),
                more => format!("{} declare", more.join(", ")),
            };
            if let Some(pods) = self.headless(wait.listener) {
                let why = format!(
                    "{who} port {port} as HTTP. The pods of the headless Service {}/{} are filter chains of the listener {name} for \
                     all addresses of the port, which inspects each connection before it chooses a chain. Its {filter}",
                    pods.namespace, pods.name
                );
                return ("headless-pods", why, self.headless_fixes(&services));
            }
            let why = format!(
                "{who} port {port} as HTTP. Istio therefore inspects each connection to the port whose address has no \
                 listener of its own, in the listener {name}. Its {filter}"
            );
            return ("port-conflict", why, self.own_listener(&services));
        }
        let why = format!(
            "The listener {name} is for a port that declares no protocol, or HTTP and TCP at once. Its {filter}"
        );
        ("undeclared-port", why, self.declared_tcp(journey, wait.listener))
    }

    /// Fixes for a listener of all addresses: a listener for this address, or no listener filter.
    fn own_listener(&self, services: &[String]) -> Vec<Fix> {
        let port = self.to.port;
        let add = self.to.ip.map(|ip| self.workload.listener_add(ip, port));
        let mut fixes = self.service_entries();
        fixes.extend(add);
        fixes.push(Workload::other_port(services, port));
        fixes.extend(self.to.ip.map(|_| self.workload.sidecar()));
        fixes.push(self.workload.sniff_timeout(port));
        fixes
    }

    /// The host's name, if a name server outside the mesh has its address. Otherwise the one host of the port that the proxy
    /// itself resolves by DNS.
    fn dns_name(&self) -> Option<String> {
        let asked = self.to.host.clone().filter(|_| self.to.from_dns);
        asked.or_else(|| match names::by_dns(self.dump).get(&self.to.port)?.as_slice() {
            [only] if self.to.host.is_none() && fix::is_name(only) => Some((*only).to_owned()),
            _ => None,
        })
    }

    /// The headless Service whose pod is a chain of a listener for all addresses; `None` if the destination is no such pod.
    fn headless(&self, listener: &Listener) -> Option<ServicePort> {
        let is_pod = |chain: &&FilterChain| {
            let mut ranges = chain.filter_chain_match.prefix_ranges.iter();
            ranges.any(|network| network.address().is_some() && network.address() == self.to.ip)
        };
        let filters = listener.chains().filter(is_pod).flat_map(|chain| &chain.filters);
        filters.filter_map(|filter| cluster(filter, self.dump)).find_map(ServicePort::of_cluster)
    }

    fn headless_fixes(&self, services: &[String]) -> Vec<Fix> {
        let port = self.to.port;
        let mut fixes = Workload::without_merged_listeners();
        fixes.insert(1, Workload::other_port(services, port));
        fixes.extend(self.to.ip.map(|ip| self.workload.pods_entry(ip, port)));
        fixes.push(self.workload.sniff_timeout(port));
        fixes
    }

    /// ServiceEntries for the destination, the one that stays right first.
    pub(super) fn service_entries(&self) -> Vec<Fix> {
        let port = self.to.port;
        let Some(ip) = self.to.ip else {
            return vec![Fix::advice(
                format!(
                    "Run the command again with --dest HOST:{port} or --dest ADDRESS:{port}, to get the exact fix"
                ),
                "none.",
            )];
        };
        let name = self.dns_name();
        let by_address = self.workload.service_entry(ip, port, name.is_some());
        match name {
            Some(host) => vec![self.workload.dns_name(&host, port), by_address],
            None => {
                let by_name = Fix::advice(
                    format!(
                        "If clients use a host name, run the command again with --dest HOST:{port}, to get the fix by name"
                    ),
                    "it needs Istio's DNS proxying in the clients' pods.",
                );
                vec![by_address, by_name]
            }
        }
    }

    /// A fix that declares the port of a Service as TCP; without a Service, one that creates a listener for the address.
    pub(super) fn declared_tcp(&self, journey: &Journey, listener: &Listener) -> Vec<Fix> {
        let of_journey = journey.cluster.as_deref().and_then(ServicePort::of_cluster);
        match of_journey.or_else(|| ServicePort::of_listener(listener, self.dump)) {
            Some(service) => vec![fix::service_port_tcp(&service)],
            None => {
                let entry = |ip| {
                    let mut fix = self.workload.service_entry(ip, self.to.port, self.to.from_dns);
                    fix.what.push_str(", instead of the ServiceEntry that has the address now");
                    fix
                };
                self.to.ip.map(entry).into_iter().collect()
            }
        }
    }
}

/// The names of a few Services that declare this port as HTTP.
fn http_services(dump: &Dump, port: u16) -> Vec<String> {
    let prefix = format!("outbound|{port}|");
    let chains = || dump.listeners.iter().flat_map(Listener::chains);
    let is_forwarded = |cluster: &str| {
        let mut filters =
            chains().flat_map(|chain| &chain.filters).filter_map(|filter| filter.typed_config.as_ref());
        filters.any(|config| config.body().get("cluster").and_then(Value::as_str) == Some(cluster))
    };
    let names = dump.clusters.iter().flat_map(|clusters| clusters.keys());
    let services = names.filter(|name| name.starts_with(&prefix) && !is_forwarded(name)).map(|name| {
        let host = name.rsplit('|').next().unwrap_or_default();
        ServicePort::of_cluster(name).map_or_else(
            || host.to_owned(),
            |service| format!("Service {}/{}", service.namespace, service.name),
        )
    });
    services.take(3).collect()
}
