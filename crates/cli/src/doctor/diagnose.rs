//! Turns the outcomes of connections into findings with a cause and fixes.

use std::time::Duration;

use super::destination::{Destination, Reason, Side, redirected};
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use super::envoy::listener::Listener;
use super::envoy::listener_filter::Kind;
use super::fix::{self, ServicePort, Workload};
use super::simulate::{Cause, Client, Journey, Outcome, Wait};
use crate::findings::{Finding, Fix, Location, Severity};
use firstword::escape;

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
                why: format!(
                    "The configuration does not decide what happens to the connection: {}.",
                    escape::text(why)
                ),
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
        let Diagnosis { code, why, mut fixes, .. } = diagnosis;
        Fix::sort(&mut fixes);
        let mut finding = Finding::new(severity, code, location, escape::text(&why), fixes);
        finding.title = self.title(journey);
        finding.verify = self.verify().filter(|_| severity > Severity::Info).unwrap_or_default();
        Some(finding)
    }

    /// The connections and what becomes of them.
    fn title(&self, journey: &Journey) -> String {
        let to = match &self.to.host {
            Some(host) => format!("{} ({})", escape::text(host), self.to.text()),
            None => self.to.text(),
        };
        let who = match journey.client {
            Client::Silent => "connections",
            Client::ProxyHeader => "connections with a PROXY header",
            Client::Mesh => "connections by mutual TLS",
        };
        let after = journey.after.as_millis();
        let what = match &journey.outcome {
            Outcome::Greeting | Outcome::Bypass(_) => format!("get the greeting after {after} ms"),
            Outcome::Hang(_) => "hang".to_owned(),
            Outcome::Closed(_) if after == 0 => "are closed at once".to_owned(),
            Outcome::Closed(_) => format!("are closed after {after} ms"),
            Outcome::Unknown(_) => "cannot be judged".to_owned(),
        };
        format!("{who} to {to} {what}")
    }

    /// The command that shows a listener for the address.
    fn verify(&self) -> Option<String> {
        let ip = self.to.ip.filter(|_| self.to.side == Side::Outbound && self.is_istio())?;
        let Destination { port, .. } = self.to;
        let pod = self.workload.argument();
        Some(format!("istioctl proxy-config listener {pod} --address {ip} --port {port}"))
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
        let why = "The filter decides by the client's first bytes, which come after the greeting. A client that is refused receives \
                   the greeting, and is closed when it responds.";
        let location = Location {
            destination: Some(self.to.text()),
            listener: journey.listeners.last().map(|listener| escape::text(name(listener))),
            chain: Some(escape::text(&chain.name)).filter(|name| !name.is_empty()),
            filter: Some(escape::text(&filter.name)),
            ..Location::default()
        };
        let (severity, code) = (Severity::Info, "rbac-after-greeting");
        Some(Finding::new(severity, code, location, why.to_owned(), Vec::new()))
    }

    /// Envoy's default limit of connections. Istio sets another limit for each of its clusters.
    fn limit(&self, journey: &Journey) -> Option<Finding> {
        let name = journey.cluster.as_deref().filter(|_| journey.outcome == Outcome::Greeting)?;
        self.dump.cluster(name).filter(|cluster| cluster.has_default_limit())?;
        let why = format!(
            "Envoy lets 1024 connections of the cluster {name} be open at once, and closes each further one before the greeting. Set \
             max_connections in circuit_breakers.thresholds of the cluster."
        );
        let location = Location { destination: Some(self.to.text()), ..Location::default() };
        let (severity, code) = (Severity::Info, "default-connection-limit");
        Some(Finding::new(severity, code, location, escape::text(&why), Vec::new()))
    }

    /// The diagnosis for a listener filter that waited.
    fn waits(&self, journey: &Journey, wait: &Wait) -> Diagnosis {
        let (severity, ends) = consequence(journey, wait);
        let who = match journey.client {
            Client::Silent => "the client waits for the server's greeting",
            Client::ProxyHeader => {
                "the client has sent its PROXY header, which was removed, and waits for the greeting"
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
        let (code, why, fixes) = if let Some(cause) = self.waypoint_inspector(wait) {
            cause
        } else if takes_all {
            self.outbound_inspector(wait)
        } else if is_outbound {
            self.service_inspector(journey, wait)
        } else {
            self.inspector(journey, wait)
        };
        let mut why = format!("{why} waits for the client's first bytes, and {who}: {ends}.");
        if takes_all && wait.listener.continue_on_listener_filters_timeout && journey.chain.is_some() {
            why.push_str(
                " The time-out also skips original_dst, so the connection goes to the listener's own port.",
            );
        }
        Diagnosis { code, why, fixes, severity }
    }

    /// The same for an inspector of a gateway or of a standalone Envoy.
    fn inspector(&self, journey: &Journey, wait: &Wait) -> (&'static str, String, Vec<Fix>) {
        let (port, name, filter) = (self.to.port, name(wait.listener), short(&wait.filter));
        if self.dump.node.is_gateway() {
            let why = format!(
                "The gateway's server on port {port} has protocol TLS or HTTPS, or another server on the port has. The \
                 listener's {filter}"
            );
            let service = ServicePort::of_listener(wait.listener, self.dump);
            return ("gateway-inspector", why, vec![self.workload.gateway(port, service.as_ref())]);
        }
        let other = if journey.listeners.len() > 1 {
            "A listener for the exact address, without inspectors, changes nothing for other connections to the port \
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
                "The filter chain ends TLS. It waits for the client's ClientHello, and the client waits for the server's greeting. A \
                 MySQL client begins TLS only after the greeting."
                    .to_owned(),
                if self.is_istio_inbound() { vec![self.workload.peer_authentication(port)] } else { Vec::new() },
            ),
            Cause::Filter(filter) => (
                "client-first-filter",
                Severity::Error,
                format!(
                    "The filter chain ends in {}, which waits for the client's request, and the client waits for the server's greeting.",
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
                "A PROXY header is required here. A client without one is closed, as configured.".to_owned(),
                Vec::new(),
            ),
            Cause::NoEarlyData => (
                "early-data-missing",
                Severity::Error,
                "Firstword is configured to connect after the header (connect_upstream: after_header). tcp_proxy has no \
                 max_early_data_bytes, so it reads nothing before it has connected. Every connection ends after \
                 receive.timeout."
                    .to_owned(),
                if self.dump.node.is_gateway() { vec![self.workload.receive_at_gateway(port)] } else { Vec::new() },
            ),
            Cause::NoChain => (
                "no-chain",
                Severity::Error,
                "No filter chain of the listener matches such a connection, so Envoy closes it at once.".to_owned(),
                Vec::new(),
            ),
            Cause::NoEndpoint(name) if name == "BlackHoleCluster" => (
                "black-hole",
                Severity::Error,
                "The mesh forwards only to hosts that it knows (outboundTrafficPolicy REGISTRY_ONLY), and it does not know this \
                 destination. Envoy closes the connection at once."
                    .to_owned(),
                self.service_entries(),
            ),
            Cause::NoEndpoint(name) => (
                "no-endpoint",
                Severity::Error,
                format!("The cluster {} has no endpoint, so Envoy closes the connection at once.", escape::text(name)),
                Vec::new(),
            ),
            Cause::NoCluster(name) => (
                "no-cluster",
                Severity::Error,
                format!("There is no cluster {}, so Envoy closes the connection at once.", escape::text(name)),
                Vec::new(),
            ),
            Cause::NoListener => (
                "no-listener",
                Severity::Error,
                "No listener of this Envoy accepts such a connection. It does not reach this Envoy, or is refused.".to_owned(),
                Vec::new(),
            ),
        };
        Some(Diagnosis { code, why, fixes, severity })
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
            format!("each connection waits for the {} of listener_filters_timeout", time(wait.timeout)),
        ),
        Outcome::Closed(_) => (
            Severity::Error,
            format!(
                "Envoy closes the connection after the {} of listener_filters_timeout",
                time(wait.timeout)
            ),
        ),
        _ => (Severity::Error, "without a time limit, because listener_filters_timeout is 0s".to_owned()),
    }
}

/// A fix that disables the filter for the port; `None` if its name may not stand in YAML.
fn disabled(wait: &Wait, port: u16) -> Option<Fix> {
    let Wait { filter, message, .. } = wait;
    let config = format!("  typed_config: {{\"@type\": type.googleapis.com/{message}}}\n");
    let config = if message.is_empty() { String::new() } else { config };
    let end = u32::from(port).saturating_add(1);
    let range = format!("{{destination_port_range: {{start: {port}, end: {end}}}}}");
    let yaml = format!("listener_filters:\n- name: {filter}\n{config}  filter_disabled: {range}\n");
    let what =
        format!("Disable {} for port {port}, or remove it if the port is for MySQL alone", short(filter));
    let price =
        "HTTP or TLS on this port is no longer recognised. The listener's open connections are closed once.";
    let plain = fix::is_name(filter) && (message.is_empty() || fix::is_name(message));
    plain.then(|| Fix { from: vec!["envoy/port-range.yaml"], yaml, ..Fix::advice(what, price) })
}

/// The name of a listener in texts.
pub(super) fn name(listener: &Listener) -> &str {
    if listener.name.is_empty() { "without a name" } else { &listener.name }
}

/// `envoy.filters.listener.tls_inspector` -> `tls_inspector`
pub(super) fn short(filter: &str) -> &str {
    filter.rsplit('.').next().unwrap_or(filter)
}
