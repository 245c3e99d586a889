//! Diagnoses for inbound clients of a database's pod, by the mode of mutual TLS and by the declaration of the port.

use std::net::SocketAddr;

use super::diagnose::{Case, Diagnosis, short};
use super::envoy::dump::Dump;
use super::envoy::listener::Listener;
use super::envoy::listener_filter::{self, Kind, kind};
use super::fix::{ServicePort, Workload};
use super::simulate::{Client, Journey, Wait};
use crate::findings::{Fix, Severity};

const HTTP_CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Facts about a port, from its filter chains.
struct Port {
    /// Whether a Service has the port.
    declared: bool,
    /// Whether clients may connect with the mesh's mutual TLS.
    mtls: bool,
    /// Whether clients may connect without it.
    plain: bool,
    /// Whether Envoy treats some connections as HTTP.
    http: bool,
}

impl Port {
    fn of(listener: &Listener, port: u16) -> Self {
        let is = |wanted: Option<u32>| wanted == Some(port.into());
        let own: Vec<_> =
            listener.chains().filter(|chain| is(chain.filter_chain_match.destination_port)).collect();
        // Connections to a port that only a PeerAuthentication names use the same chains as those to unknown ports.
        let names_unknown = own.iter().all(|chain| chain.name.starts_with("virtualInbound"));
        let chains = if own.is_empty() {
            listener.chains().filter(|chain| chain.filter_chain_match.destination_port.is_none()).collect()
        } else {
            own
        };
        Self {
            declared: !names_unknown,
            mtls: chains.iter().any(|chain| chain.terminates_tls()),
            plain: chains.iter().any(|chain| chain.filter_chain_match.transport_protocol != "tls"),
            http: chains.iter().flat_map(|chain| &chain.filters).any(|filter| {
                filter.typed_config.as_ref().is_some_and(|config| config.kind() == HTTP_CONNECTION_MANAGER)
            }),
        }
    }
}

impl Case<'_> {
    /// The diagnosis for an inspector that waits for a client without a sidecar.
    pub(super) fn inbound(
        &self,
        journey: &Journey,
        wait: &Wait,
        severity: Severity,
        ends: &str,
    ) -> Diagnosis {
        let number = self.to.port;
        let port = Port::of(wait.listener, number);
        let filter = short(&wait.filter);
        let mut fixes: Vec<_> = port.mtls.then(Workload::into_the_mesh).into_iter().collect();
        fixes.push(match self.own_service() {
            Some(service) if port.declared && port.http => {
                self.workload.declared(&service, number, port.mtls)
            }
            _ if port.declared => self.workload.peer_authentication(number),
            _ => self.workload.service(number, port.mtls),
        });
        if journey.client == Client::ProxyHeader {
            let why = format!(
                "Envoy's proxy_protocol listener filter removes the header before {filter}, which waits for the bytes after it; {ends}"
            );
            fixes.push(self.workload.receive(number, false));
            return Diagnosis { code: "proxy-protocol-before-inspector", why, fixes, severity };
        }
        let (code, because, severity) = match (port.mtls, port.plain) {
            (true, true) => (
                "inbound-permissive",
                "Mutual TLS is PERMISSIVE for the port, so Envoy has to find out whether the client begins TLS",
                severity,
            ),
            (true, false) => (
                "inbound-strict",
                "Mutual TLS is STRICT for the port, as it should be in a mesh. A client without it is not refused at once",
                Severity::Info,
            ),
            (false, _) if port.declared => (
                "inbound-undeclared",
                "No protocol is declared for the port, so Envoy has to find out whether the client speaks HTTP",
                severity,
            ),
            (false, _) => (
                "inbound-undeclared",
                "No Service has the port, so Envoy has to find out whether the client speaks HTTP, even without TLS",
                severity,
            ),
        };
        let more = match (port.mtls, port.plain) {
            (true, true) => " Clients with a sidecar are not affected.",
            (true, false) => {
                " Clients with a sidecar are not affected. If all clients are in the mesh, do nothing."
            }
            _ => "",
        };
        let why = format!("{because}. Its {filter} waits for the client's first bytes, and {ends}{more}");
        Diagnosis { code, why, fixes, severity }
    }

    /// The diagnosis for Envoy's own `proxy_protocol` filter that waits for a header.
    pub(super) fn waits_for_header(&self, journey: &Journey, wait: &Wait, ends: &str) -> Diagnosis {
        let why = format!(
            "Envoy's proxy_protocol listener filter waits for a PROXY header, also where it allows connections without one. The \
             client sends none and waits for the greeting: {ends}. Clients whose proxy sends a header at once are not affected."
        );
        let receive = || self.workload.receive(self.to.port, Port::of(wait.listener, self.to.port).mtls);
        let through =
            || Fix::advice("Let these clients connect through the proxy that sends the header", "none.");
        let of_istio = || [through(), receive()];
        let fixes = self.is_istio_inbound().then(of_istio).into_iter().flatten().collect();
        // If a header is required, it is right to refuse a client without one.
        let allowed = allows_no_header(journey, self.dump);
        let severity = if allowed { Severity::Warning } else { Severity::Info };
        Diagnosis { code: "proxy-protocol-waits", why, fixes, severity }
    }

    /// The Service that has this port of the pod as an endpoint.
    fn own_service(&self) -> Option<ServicePort> {
        let own = self.dump.node.addresses();
        let has = |name: &String| {
            let assigned = self.dump.endpoints.as_ref().and_then(|endpoints| endpoints.get(name));
            let inline = self.dump.cluster(name).and_then(|cluster| cluster.assignment());
            assigned
                .into_iter()
                .chain(inline)
                .any(|assignment| own.iter().any(|ip| assignment.has(SocketAddr::new(*ip, self.to.port))))
        };
        let clusters = self.dump.clusters.as_ref()?;
        let by_endpoint =
            clusters.keys().filter(|name| has(name)).find_map(|name| ServicePort::of_cluster(name));
        by_endpoint.or_else(|| {
            let inbound = clusters.get(&format!("inbound|{}||", self.to.port))?;
            let (name, namespace) = inbound.metadata.service()?;
            let host = format!("{name}.{namespace}.svc.cluster.local");
            ServicePort::of_cluster(&format!("outbound|{}||{host}", self.to.port))
        })
    }
}

/// Whether a `proxy_protocol` filter on the way accepts connections without a header.
fn allows_no_header(journey: &Journey, dump: &Dump) -> bool {
    let filters = journey.listeners.iter().flat_map(|listener| &listener.listener_filters);
    let mut headers = filters.filter(|filter| kind(filter, dump) == Kind::ProxyProtocol);
    headers.any(listener_filter::allows_no_header)
}
