//! Turns the outcomes of connections into findings with a cause and fixes.

use std::time::Duration;

use firstword::escape;
use serde_json::Value;

use super::destination::{Destination, Reason, Side, redirected};
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use super::envoy::filter_config::cluster;
use super::envoy::listener::Listener;
use super::envoy::listener_filter::Kind;
use super::fix::{self, ServicePort, Workload};
use super::simulate::{Cause, Client, Journey, Outcome, Wait};
use crate::findings::{Finding, Fix, Location, Severity};

/// The cause of a bad outcome: a code, one or two sentences, and fixes.
pub(super) struct Diagnosis {
    pub(super) code: &'static str,
    pub(super) why: String,
    pub(super) fixes: Vec<Fix>,
    pub(super) severity: Severity,
}

/// The findings for the clients of one destination.
pub(super) fn findings(dump: &Dump, to: &Destination, journeys: &[Journey]) -> Vec<Finding> {
    let case = Case { dump, to, workload: Workload::of(dump) };
    let mut found: Vec<Finding> = journeys.iter().filter_map(|journey| case.finding(journey)).collect();
    found.extend(journeys.iter().find_map(|journey| case.authorization(journey)));
    found.extend(journeys.iter().find_map(|journey| case.limit(journey)));
    // A finding that is the same for all clients appears once.
    found.dedup_by(|later, earlier| later.code == earlier.code && later.location == earlier.location);
    found
}

/// Connections to one destination.
pub(super) struct Case<'c> {
    pub(super) dump: &'c Dump,
    pub(super) to: &'c Destination,
    pub(super) workload: Workload,
}

impl Case<'_> {
    fn finding(&self, journey: &Journey) -> Option<Finding> {
        let diagnosis = match (&journey.outcome, journey.waits.last()) {
            (Outcome::Greeting | Outcome::Bypass(_), None) => return None,
            (Outcome::Unknown(why), _) => Diagnosis {
                code: "undecided",
                why: format!("What becomes of the connection cannot be decided: {}.", escape::text(why)),
                fixes: Vec::new(),
                severity: Severity::Info,
            },
            (_, Some(wait)) => self.waits(journey, wait),
            (Outcome::Hang(cause) | Outcome::Closed(cause), None) => self.ends(journey, cause)?,
        };
        let mut severity = diagnosis.severity;
        if self.to.reason == Reason::Forwarded {
            // Nothing suggests a server-first protocol there.
            severity = Severity::Info;
        }
        let wait = journey.waits.last();
        let listener = wait.map(|wait| wait.listener).or(journey.listeners.last().copied());
        let chain = journey.chain.filter(|_| wait.is_none());
        let of_cluster =
            || self.dump.cluster(journey.cluster.as_deref()?).and_then(|cluster| cluster.metadata.resource());
        let location = Location {
            destination: Some(self.to.text()),
            listener: listener.map(|listener| escape::text(name(listener))),
            chain: chain.map(|chain| escape::text(&chain.name)).filter(|name| !name.is_empty()),
            filter: wait.map(|wait| escape::text(&wait.filter)),
            resource: chain
                .and_then(|chain| chain.metadata.resource())
                .or_else(|| listener.and_then(|listener| listener.metadata.resource()))
                .or_else(of_cluster)
                .map(|resource| escape::text(&resource)),
            ..Location::default()
        };
        let Diagnosis { code, why, fixes, .. } = diagnosis;
        Some(Finding { severity, code, location, why: escape::text(&why), fixes })
    }

    /// An AuthorizationPolicy. It refuses a client only after the client has received the greeting.
    fn authorization(&self, journey: &Journey) -> Option<Finding> {
        const RBAC: &str = "envoy.extensions.filters.network.rbac.v3.RBAC";
        let chain = journey.chain.filter(|_| journey.outcome == Outcome::Greeting)?;
        let refuses = |filter: &&Filter| {
            let config = filter.typed_config.as_ref().filter(|config| config.kind() == RBAC);
            config.is_some_and(|config| config.body().get("rules").is_some())
        };
        let filter = chain.filters.iter().find(refuses)?;
        let why = "The filter decides by the client's first bytes, which come after the greeting: who is refused gets the greeting, \
                   and is closed when it answers.";
        let location = Location {
            destination: Some(self.to.text()),
            listener: journey.listeners.last().map(|listener| escape::text(name(listener))),
            chain: Some(escape::text(&chain.name)).filter(|name| !name.is_empty()),
            filter: Some(escape::text(&filter.name)),
            ..Location::default()
        };
        let (severity, code) = (Severity::Info, "rbac-after-greeting");
        Some(Finding { severity, code, location, why: why.to_owned(), fixes: Vec::new() })
    }

    /// Envoy's default limit of connections. Istio sets another limit for each of its clusters.
    fn limit(&self, journey: &Journey) -> Option<Finding> {
        let name = journey.cluster.as_deref().filter(|_| journey.outcome == Outcome::Greeting)?;
        self.dump.cluster(name).filter(|cluster| cluster.has_default_limit())?;
        let why = format!(
            "Envoy lets 1024 connections of the cluster {name} be open at once unless configured otherwise, and closes each further \
             one before the greeting; circuit_breakers.thresholds of the cluster has max_connections for another number."
        );
        let location = Location { destination: Some(self.to.text()), ..Location::default() };
        let (severity, code) = (Severity::Info, "default-connection-limit");
        Some(Finding { severity, code, location, why: escape::text(&why), fixes: Vec::new() })
    }

    /// The diagnosis for a listener filter that waited.
    fn waits(&self, journey: &Journey, wait: &Wait) -> Diagnosis {
        let (severity, ends) = consequence(journey, wait);
        let who = match journey.client {
            Client::Silent => "the client waits for the server's greeting",
            Client::ProxyHeader => {
                "the client has sent its PROXY header, which was taken away, and waits for the greeting"
            }
            Client::Mesh => "the client's sidecar waits too",
        };
        if wait.kind == Kind::ProxyProtocol {
            return self.waits_for_header(journey, wait, &ends);
        }
        if self.is_istio_inbound() {
            return self.inbound(journey, wait, severity, &format!("{who}: {ends}."));
        }
        let is_outbound = self.to.side == Side::Outbound && self.is_istio();
        let takes_all = is_outbound && redirected(self.dump, Side::Outbound) == Some(wait.listener);
        let (code, why, fixes) = if takes_all {
            self.outbound_inspector(wait)
        } else if is_outbound {
            self.service_inspector(journey, wait)
        } else {
            self.inspector(journey, wait)
        };
        let mut why = format!("{why} waits for the client's first bytes, and {who}: {ends}.");
        if takes_all && wait.listener.continue_on_listener_filters_timeout && journey.chain.is_some() {
            why.push_str(
                " The time-out also skips original_dst, so that the connection goes nowhere but to the listener's \
                 own port.",
            );
        }
        Diagnosis { code, why, fixes, severity }
    }

    /// Code, beginning of the sentence, and fixes for an inspector in Istio's listener of all outbound connections.
    fn outbound_inspector(&self, wait: &Wait) -> (&'static str, String, Vec<Fix>) {
        let by_istio = wait.kind == Kind::HttpInspector;
        let from = if by_istio {
            "Istio puts it there with outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS"
        } else {
            "some EnvoyFilter has put it there: take it away"
        };
        let (name, filter) = (name(wait.listener), short(&wait.filter));
        let why = format!(
            "The listener {name}, which takes every connection of the pod's, has {filter} ({from}). It"
        );
        let fix = by_istio.then(|| self.workload.dynamic_dns(self.to.port));
        ("outbound-inspector", why, fix.into_iter().collect())
    }

    /// The same for an inspector in an outbound listener of a Service.
    fn service_inspector(&self, journey: &Journey, wait: &Wait) -> (&'static str, String, Vec<Fix>) {
        let (port, name, filter) = (self.to.port, name(wait.listener), short(&wait.filter));
        if wait.listener.addresses().any(|address| address.ip().is_unspecified()) {
            let services = http_services(self.dump, port);
            let who = if services.is_empty() { "Some HTTP Service".to_owned() } else { services.join(", ") };
            let why = format!(
                "{who} has port {port} as HTTP, so that the listener {name} takes connections to every address on it \
                 that has no listener of its own. Its {filter}"
            );
            return ("port-conflict", why, self.own_listener());
        }
        let why = format!(
            "The listener {name} is made for a port that declares no protocol, or HTTP and TCP at once. Its {filter}"
        );
        ("undeclared-port", why, self.declared_tcp(journey, wait.listener))
    }

    /// The same for an inspector of a gateway or of a standalone Envoy.
    fn inspector(&self, journey: &Journey, wait: &Wait) -> (&'static str, String, Vec<Fix>) {
        let (port, name, filter) = (self.to.port, name(wait.listener), short(&wait.filter));
        if self.dump.node.is_gateway() {
            let why = format!(
                "The gateway's server on port {port} is one for TLS, or has one beside it. The listener's {filter}"
            );
            let service = journey_service(wait.listener, self.dump);
            return ("gateway-inspector", why, vec![self.workload.gateway(port, service.as_ref())]);
        }
        let other = if journey.listeners.len() > 1 {
            "A listener of the exact address and without inspectors leaves other connections to the port as they are \
             (envoy/exact-address.yaml). "
        } else {
            ""
        };
        let why = format!("{other}The listener {name} has {filter}, which");
        ("inspector", why, disabled(wait, port).into_iter().collect())
    }

    /// Whether the proxy belongs to Istio. In an input of listeners alone, the names of the listeners decide.
    fn is_istio(&self) -> bool {
        let names = ["virtualOutbound", "virtualInbound"];
        self.dump.node.is_of_istio()
            || self.dump.listeners.iter().any(|listener| names.contains(&listener.name.as_str()))
    }

    pub(super) fn is_istio_inbound(&self) -> bool {
        self.to.side == Side::Inbound && redirected(self.dump, Side::Inbound).is_some()
    }

    /// The diagnosis for a connection that ends after the listener filters.
    fn ends(&self, journey: &Journey, cause: &Cause) -> Option<Diagnosis> {
        let port = self.to.port;
        let (code, severity, why, fixes) = match cause {
            Cause::ListenerFilter => return None,
            Cause::Tls => (
                "tls-first",
                Severity::Error,
                "The filter chain terminates TLS: it waits for the client's ClientHello, and the client waits for the server's \
                 greeting, for ever. A MySQL client begins TLS only after the greeting."
                    .to_owned(),
                if self.is_istio_inbound() { vec![self.workload.peer_authentication(port)] } else { Vec::new() },
            ),
            Cause::Filter(filter) => (
                "client-first-filter",
                Severity::Error,
                format!(
                    "The filter chain ends in {}, which waits for the client's request, and the client waits for the server's \
                     greeting, for ever.",
                    escape::text(short(filter))
                ),
                journey
                    .listeners
                    .last()
                    .filter(|_| self.is_istio() && self.to.side == Side::Outbound)
                    .map(|last| self.declared_tcp(journey, last))
                    .unwrap_or_default(),
            ),
            Cause::NoConfiguration(name) => (
                "extension-missing",
                Severity::Error,
                format!(
                    "{} the configuration of the filter {}, and the filter has no default_config: Envoy closes every connection.",
                    if self.dump.refused_filters.contains(name) {
                        "Envoy has refused"
                    } else {
                        "Envoy has not received"
                    },
                    escape::text(name)
                ),
                if name == "istio-system.firstword" {
                    vec![fix::extension(self.to.ip, port)]
                } else {
                    Vec::new()
                },
            ),
            Cause::NoHeader => (
                "header-required",
                Severity::Info,
                "A PROXY header is required here: a client that comes without one is closed, as configured.".to_owned(),
                Vec::new(),
            ),
            Cause::NoEarlyData => (
                "early-data-missing",
                Severity::Error,
                "Firstword has been configured to connect after the header (connect_upstream: after_header), but tcp_proxy, \
                 which has no max_early_data_bytes, reads nothing before it has connected: every connection ends after \
                 receive.timeout."
                    .to_owned(),
                if self.dump.node.is_gateway() { vec![self.workload.receive_at_gateway(port)] } else { Vec::new() },
            ),
            Cause::NoChain => (
                "no-chain",
                Severity::Error,
                "No filter chain of the listener is for such a connection: Envoy closes it at once.".to_owned(),
                Vec::new(),
            ),
            Cause::NoEndpoint(name) if name == "BlackHoleCluster" => (
                "black-hole",
                Severity::Error,
                "The mesh passes on only what it knows (outboundTrafficPolicy REGISTRY_ONLY), and this destination it does not \
                 know: Envoy closes the connection at once."
                    .to_owned(),
                self.own_listener(),
            ),
            Cause::NoEndpoint(name) => (
                "no-endpoint",
                Severity::Error,
                format!("The cluster {} has no endpoint: Envoy closes the connection at once.", escape::text(name)),
                Vec::new(),
            ),
            Cause::NoCluster(name) => (
                "no-cluster",
                Severity::Error,
                format!("There is no cluster {}: Envoy closes the connection at once.", escape::text(name)),
                Vec::new(),
            ),
            Cause::NoListener => (
                "no-listener",
                Severity::Error,
                "No listener takes such a connection, so it does not come to this Envoy, or is refused.".to_owned(),
                Vec::new(),
            ),
        };
        Some(Diagnosis { code, why, fixes, severity })
    }

    /// Fixes that create a listener for the address.
    fn own_listener(&self) -> Vec<Fix> {
        let port = self.to.port;
        let of_ip = self.to.ip.map(|ip| {
            [
                self.workload.service_entry(ip, port),
                self.workload.listener_add(ip, port),
                self.workload.sidecar(),
            ]
        });
        of_ip.into_iter().flatten().chain([self.workload.sniff_timeout(port)]).collect()
    }

    /// A fix that declares the port of a Service as TCP; without a Service, one that creates a listener for the address.
    fn declared_tcp(&self, journey: &Journey, listener: &Listener) -> Vec<Fix> {
        let of_journey = journey.cluster.as_deref().and_then(ServicePort::of_cluster);
        match of_journey.or_else(|| journey_service(listener, self.dump)) {
            Some(service) => vec![fix::service_port_tcp(&service)],
            None => {
                let entry = |ip| {
                    let mut fix = self.workload.service_entry(ip, self.to.port);
                    fix.what.push_str("; instead of the ServiceEntry that has the address now");
                    fix
                };
                self.to.ip.map(entry).into_iter().collect()
            }
        }
    }
}

/// The severity and the consequence of a wait.
fn consequence(journey: &Journey, wait: &Wait) -> (Severity, String) {
    let time = |timeout: Option<Duration>| {
        timeout.map_or_else(String::new, |timeout| format!("{} ms", timeout.as_millis()))
    };
    match &journey.outcome {
        Outcome::Greeting => (
            Severity::Warning,
            format!("each connection pays the {} of listener_filters_timeout", time(wait.timeout)),
        ),
        Outcome::Closed(_) => (
            Severity::Error,
            format!(
                "Envoy closes the connection after the {} of listener_filters_timeout",
                time(wait.timeout)
            ),
        ),
        _ => (Severity::Error, "for ever, as listener_filters_timeout is 0s".to_owned()),
    }
}

/// The Service's port to which a listener forwards bytes.
fn journey_service(listener: &Listener, dump: &Dump) -> Option<ServicePort> {
    let filters = listener.chains().flat_map(|chain| &chain.filters);
    let clusters = filters.filter_map(|filter| cluster(filter, dump));
    clusters.filter_map(ServicePort::of_cluster).next()
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

/// A fix that disables the filter for the port; `None` if its name may not stand in YAML.
fn disabled(wait: &Wait, port: u16) -> Option<Fix> {
    let Wait { filter, message, .. } = wait;
    let config = format!("  typed_config: {{\"@type\": type.googleapis.com/{message}}}\n");
    let config = if message.is_empty() { String::new() } else { config };
    let end = u32::from(port).saturating_add(1);
    let range = format!("{{destination_port_range: {{start: {port}, end: {end}}}}}");
    let yaml = format!("listener_filters:\n- name: {filter}\n{config}  filter_disabled: {range}\n");
    let what = format!(
        "port {port} left out of the inspection; on a port of MySQL's alone, no listener filter at all"
    );
    let plain = fix::is_name(filter) && (message.is_empty() || fix::is_name(message));
    plain.then(|| Fix { what, from: vec!["envoy/port-range.yaml"], yaml })
}

/// The name of a listener in texts.
pub(super) fn name(listener: &Listener) -> &str {
    if listener.name.is_empty() { "without a name" } else { &listener.name }
}

/// `envoy.filters.listener.tls_inspector` -> `tls_inspector`
pub(super) fn short(filter: &str) -> &str {
    filter.rsplit('.').next().unwrap_or(filter)
}
