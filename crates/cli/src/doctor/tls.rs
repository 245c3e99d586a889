//! Findings about TLS in the proxy: TLS that loses logins, and TLS that verifies nothing.

use firstword::escape;
use serde_json::Value;

use super::destination::Destination;
use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::known;
use super::envoy::listener::Listener;
use super::simulate::Journey;
use crate::findings::{Finding, Fix, Location, Severity};

const MYSQL_PROXY: &str = "envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy";

/// The findings for a destination, each once.
pub(super) fn findings(dump: &Dump, to: &Destination, journeys: &[Journey]) -> Vec<Finding> {
    let downstream = journeys.iter().find_map(|journey| loses_logins(dump, to, journey));
    let upstream = journeys.iter().find_map(|journey| verifies_nothing(dump, to, journey));
    downstream.into_iter().chain(upstream).collect()
}

fn location(to: &Destination, journey: &Journey, filter: Option<&Filter>) -> Location {
    Location {
        destination: Some(to.text()),
        listener: journey.listeners.last().map(|listener| escape::text(name(listener))),
        chain: journey.chain.map(|chain| escape::text(&chain.name)).filter(|name| !name.is_empty()),
        filter: filter.map(|filter| escape::text(&filter.name)),
        ..Location::default()
    }
}

/// A chain that ends a MySQL client's own TLS, and reads its ClientHello too early.
fn loses_logins(dump: &Dump, to: &Destination, journey: &Journey) -> Option<Finding> {
    let chain = journey.chain?;
    let ends_tls = |filter: &&Filter| {
        let config = known(filter, dump).filter(|config| config.kind() == MYSQL_PROXY);
        let mode = config.and_then(|config| config.body().get("downstream_ssl")).and_then(Value::as_str);
        mode.is_some_and(|mode| ["ALLOW", "REQUIRE"].contains(&mode))
    };
    if let Some(filter) = chain.filters.iter().find(ends_tls) {
        let why = "mysql_proxy with downstream_ssl drops all bytes after the client's request for TLS. If the client's ClientHello \
                   arrives together with it, the client waits until its own time-out. The filter also sees passwords in plain \
                   text, and it uses no TLS to the server.";
        let fixes = vec![pass_through("Remove downstream_ssl from mysql_proxy")];
        let location = location(to, journey, Some(filter));
        let code = "mysql-proxy-downstream-ssl";
        return Some(Finding::new(Severity::Error, code, location, why.to_owned(), fixes));
    }
    if !chain.starts_tls() || is_split(journey) {
        return None;
    }
    let why = "The chain has the transport socket starttls, which reads in plain text until a filter begins TLS. If the client's \
               ClientHello arrives together with its request for TLS, it is lost, and the login fails or hangs. No listener before \
               this one separates the two.";
    let split = Fix::advice(
        "End the client's TLS in a second, internal listener with a tls transport socket, and use the native module with \
         tls.downstream: terminate on both listeners (docs/tls-terminate.md)",
        "the clients must trust a certificate of yours, and Envoy can read the sessions.",
    );
    let fixes = vec![pass_through("Remove the transport socket starttls"), split];
    let location = location(to, journey, None);
    Some(Finding::new(Severity::Error, "starttls-without-split", location, why.to_owned(), fixes))
}

fn pass_through(what: &str) -> Fix {
    Fix::advice(
        format!("{what}, so that TLS passes to the server"),
        "commands inside TLS are not visible to filters.",
    )
}

/// Whether a listener on the way separates the request for TLS from what follows.
fn is_split(journey: &Journey) -> bool {
    let Some((_, before)) = journey.listeners.split_last() else { return false };
    let filters = before
        .iter()
        .flat_map(|listener| Listener::chains(listener))
        .flat_map(|chain: &FilterChain| &chain.filters);
    filters.into_iter().any(|filter| filter.is_native_module_with("split"))
}

/// A cluster whose TLS accepts every certificate.
fn verifies_nothing(dump: &Dump, to: &Destination, journey: &Journey) -> Option<Finding> {
    let name = journey.cluster.as_deref()?;
    dump.cluster(name).filter(|cluster| cluster.accepts_every_certificate())?;
    let why = format!(
        "The cluster {} uses TLS to the server, and its common_tls_context has no validation context. Envoy accepts every \
         certificate, so any host on the way can read and change the sessions, passwords too.",
        escape::text(name)
    );
    let fix = Fix::advice(
        "Set validation_context with trusted_ca and match_typed_subject_alt_names in the cluster's common_tls_context. In Istio set \
         caCertificates and subjectAltNames in the DestinationRule",
        "connections to servers with another certificate fail, as they should.",
    );
    let location = location(to, journey, None);
    Some(Finding::new(Severity::Warning, "tls-not-validated", location, why, vec![fix]))
}
