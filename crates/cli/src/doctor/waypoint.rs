//! Waypoints: the listener that accepts the connections of tunnels, and the reasons for which it inspects them.

use super::diagnose::{Case, short};
use super::envoy::listener::Listener;
use super::envoy::matcher::{Matcher, Named};
use super::fix::{self, ServicePort, Workload};
use super::simulate::{Wait, chain_for};
use crate::findings::Fix;

/// Code, beginning of the sentence, and fixes.
type Cause = (&'static str, String, Vec<Fix>);

impl Case<'_> {
    /// The cause of a wait in a waypoint's listener; `None` if the listener is another one.
    pub(super) fn waypoint_inspector(&self, wait: &Wait) -> Option<Cause> {
        let inner = self.dump.waypoint().map(|(_, inner)| inner)?;
        if inner != wait.listener {
            return None;
        }
        let (port, filter) = (self.to.port, short(&wait.filter));
        let chain = chain_for(inner, self.to);
        let own = chain.map(|chain| chain.name.as_str()).unwrap_or_default();
        let service = ServicePort::of_cluster(own);
        let of = service.as_ref().map_or_else(
            || "the workload".to_owned(),
            |service| format!("Service {}/{}", service.namespace, service.name),
        );
        let main_internal = self.workload.main_internal(port);
        if serves_workloads(inner) {
            let why = format!(
                "A workload uses the waypoint, so the waypoint inspects connections to every port of every Service. Its {filter}"
            );
            // The inspection that a waypoint for Services alone keeps.
            let others = others(inner, port, own);
            let also = match &service {
                Some(_) if undeclared(inner, own) => Some(format!("declare port {port} of {of} as TCP")),
                Some(_) if !others.is_empty() => {
                    Some(format!("give {} another port number", others.join(" and ")))
                }
                _ => None,
            };
            let mut fixes = vec![self.workload.waypoint_for_services(also.as_deref())];
            // Without a chain, the waypoint does not serve the destination.
            fixes.extend(chain.map(|_| main_internal));
            return Some(("waypoint-for-workloads", why, fixes));
        }
        if undeclared(inner, own) {
            let why = format!(
                "Port {port} of {of} declares no protocol, so the waypoint inspects connections to it for HTTP. Its {filter}"
            );
            let declared = service.as_ref().map(fix::service_port_tcp);
            return Some((
                "waypoint-undeclared-port",
                why,
                declared.into_iter().chain([main_internal]).collect(),
            ));
        }
        let others = others(inner, port, own);
        let who = if others.is_empty() { "Another Service".to_owned() } else { others.join(" and ") };
        let why = format!(
            "{who} in the same waypoint has port {port} as HTTP or without a protocol, and {of} has it as TCP. The waypoint inspects \
             a port number for all of its Services or for none. Its {filter}"
        );
        Some(("waypoint-mixed-port", why, vec![Workload::other_port(&others, port), main_internal]))
    }
}

/// Whether the inspector is on for every port, because workloads use the waypoint.
fn serves_workloads(inner: &Listener) -> bool {
    inner.filter_chain_matcher.as_ref().is_some_and(Matcher::names_any_port)
}

/// The destinations that a waypoint's listener names.
pub(super) fn named(inner: &Listener) -> Vec<Named<'_>> {
    inner.filter_chain_matcher.as_ref().map(Matcher::named).unwrap_or_default()
}

/// Whether the listener also has a chain for HTTP for the port of a chain for TCP.
fn undeclared(inner: &Listener, chain: &str) -> bool {
    let http = chain.replacen("|tcp|", "|http|", 1);
    http != chain && inner.chain(&http).is_some()
}

/// A few other Services of the waypoint with an HTTP chain for the port.
fn others(inner: &Listener, port: u16, own: &str) -> Vec<String> {
    let prefix = format!("inbound-vip|{port}|http|");
    let own = own.rsplit('|').next().unwrap_or_default();
    let hosts = inner.chains_with_prefix(&prefix).map(|chain| (chain, chain.strip_prefix(&prefix)));
    let others = hosts.filter_map(|(chain, host)| Some((chain, host.filter(|host| *host != own)?)));
    let names = others.map(|(chain, host)| {
        ServicePort::of_cluster(chain).map_or_else(
            || host.to_owned(),
            |service| format!("Service {}/{}", service.namespace, service.name),
        )
    });
    names.take(3).collect()
}
