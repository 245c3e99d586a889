//! Findings about listeners without a destination: refused ones, connections that wait now, headers that a client can omit.

use firstword::escape;

use super::candidates::forwards_bytes;
use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::listener::{Listener, ListenerFilter};
use super::envoy::listener_filter::{Kind, allows_no_header, kind};
use super::fix::Workload;
use super::statistics::Statistics;
use crate::findings::{Finding, Location, Severity};

/// The code of the finding about a listener on a Unix socket.
pub(super) const UNIX_SOCKET: &str = "unix-socket-skipped";

/// The code of the finding about a listener whose port is not known.
pub(super) const UNKNOWN_PORT: &str = "unknown-port-skipped";

/// The code of the finding about connections that wait now. It comes first among those of its severity.
pub(super) const WAITING_NOW: &str = "connections-waiting";

/// The one statistic that shows a connection in a listener filter.
const WAITING: &str = "downstream_pre_cx_active";

/// The findings about all listeners. `waits`: the listeners in which an examined destination waits. `all`: whether the whole input
/// is examined, not only requested destinations.
pub(super) fn findings(
    dump: &Dump,
    statistics: Option<&Statistics>,
    waits: &[&Listener],
    all: bool,
) -> Vec<Finding> {
    let mut found: Vec<_> = dump.refused.iter().map(|(name, why)| refused(name, why)).collect();
    if all {
        found.extend(dump.listeners.iter().filter_map(|listener| unix_socket(dump, listener)));
        found.extend(dump.listeners.iter().filter_map(|listener| unknown_port(dump, listener)));
    }
    for listener in &dump.listeners {
        found.extend(bypassed(dump, listener));
        found.extend(misled(dump, listener));
        let hangs = waits.contains(&listener);
        found.extend(statistics.and_then(|statistics| waiting(listener, statistics, hangs)));
    }
    if dump.node.is_of_istio() && statistics.is_some_and(|statistics| !statistics.has_any(WAITING)) {
        let why = format!(
            "The proxy does not export {WAITING}, the one statistic that shows connections that wait in a listener filter. \
             Istio leaves it out unless the pod's annotations include it."
        );
        let fixes = vec![Workload::of(dump).annotations()];
        found.push(Finding::new(Severity::Info, "hang-not-visible", Location::default(), why, fixes));
    }
    found
}

fn location(listener: &Listener) -> Location {
    Location {
        listener: Some(escape::text(name(listener))),
        resource: listener.metadata.resource().map(|resource| escape::text(&resource)),
        ..Location::default()
    }
}

fn refused(name: &str, why: &str) -> Finding {
    let location = Location { listener: Some(escape::text(name)), ..Location::default() };
    let why = format!(
        "Envoy has refused the newest configuration of this listener and keeps the one before: {}",
        escape::text(why)
    );
    Finding::new(Severity::Error, "listener-refused", location, why, Vec::new())
}

/// A listener on a Unix socket. Its connections have no destination to examine.
fn unix_socket(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let path = listener.unix_sockets().next()?;
    listener.chains().find(|chain| forwards_bytes(dump, chain))?;
    let why = format!(
        "The listener accepts connections on the Unix socket {}. doctor does not look at such listeners: it does not know \
         whether a listener filter, TLS or a missing cluster keeps the greeting back there.",
        escape::text(path)
    );
    Some(Finding::new(Severity::Warning, UNIX_SOCKET, location(listener), why, Vec::new()))
}

/// A listener whose port the kernel chooses. The input does not show it.
fn unknown_port(dump: &Dump, listener: &Listener) -> Option<Finding> {
    listener.chains().find(|chain| listener.has_chosen_port() && forwards_bytes(dump, chain))?;
    let why = "The listener has port 0, so its address is not known. doctor does not look at it: it does not know whether a \
               listener filter, TLS or a missing cluster keeps the greeting back there. Give its address with --dest HOST:PORT, \
               or give Envoy's admin interface as the input.";
    Some(Finding::new(Severity::Warning, UNKNOWN_PORT, location(listener), why.to_owned(), Vec::new()))
}

/// A required header that a client can omit if it waits.
fn bypassed(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let requires_header =
        |filter: &&ListenerFilter| kind(filter, dump) == Kind::ProxyProtocol && !allows_no_header(filter);
    let filter = listener.listener_filters.iter().find(requires_header)?;
    let timeout = listener.timeout().filter(|_| listener.continue_on_listener_filters_timeout)?;
    let location = Location { filter: Some(escape::text(&filter.name)), ..location(listener) };
    let why = format!(
        "The PROXY header is required, but with continue_on_listener_filters_timeout a client that sends nothing for {} ms is let \
         in without one, under the address of its socket.",
        timeout.as_millis()
    );
    Some(Finding::new(Severity::Warning, "proxy-protocol-bypassed", location, why, Vec::new()))
}

/// A `proxy_protocol` filter after `original_dst`. The destination in the header then overrides the original one.
fn misled(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let kinds: Vec<_> = listener.listener_filters.iter().map(|filter| kind(filter, dump)).collect();
    let original = kinds.iter().position(|kind| *kind == Kind::OriginalDst)?;
    let header = kinds.iter().rposition(|kind| *kind == Kind::ProxyProtocol)?;
    let filter = listener.listener_filters.get(header).filter(|_| header > original)?;
    let location = Location { filter: Some(escape::text(&filter.name)), ..location(listener) };
    let why = "The filter runs after original_dst, so the destination in the PROXY header, a load balancer's, decides which filter \
               chain and server a connection gets. Put it first (INSERT_FIRST).";
    let (severity, code) = (Severity::Warning, "proxy-protocol-after-original-dst");
    Some(Finding::new(severity, code, location, why.to_owned(), Vec::new()))
}

/// Connections that wait at this moment. `hangs`: whether a destination that was examined hangs or is delayed there.
fn waiting(listener: &Listener, statistics: &Statistics, hangs: bool) -> Option<Finding> {
    let prefix = listener.statistics();
    let count = statistics.of_listener(&prefix, WAITING).filter(|count| *count > 0)?;
    let (connections, wait) = if count == 1 { ("connection", "waits") } else { ("connections", "wait") };
    let timed_out = statistics.of_listener(&prefix, "downstream_pre_cx_timeout").unwrap_or(0);
    let until = listener.timeout().map_or_else(
        || "without a time limit (listener_filters_timeout is 0s)".to_owned(),
        |timeout| {
            format!(
                "for at most {} ms. {timed_out} have waited so long since Envoy started",
                timeout.as_millis()
            )
        },
    );
    let more = if hangs {
        "The destination below says why. They do not recover: their clients must connect again."
    } else {
        "If that is more than a moment, look at the destination with --dest: its clients wait for the server's greeting."
    };
    let why = format!("{count} {connections} {wait} in the listener filters at this moment, {until}. {more}");
    let severity = if hangs { Severity::Error } else { Severity::Warning };
    let mut finding = Finding::new(severity, WAITING_NOW, location(listener), why, Vec::new());
    if hangs {
        let are = if count == 1 { "connection hangs" } else { "connections hang" };
        finding.title = format!("{count} {are} now in {}", escape::text(name(listener)));
    }
    Some(finding)
}
