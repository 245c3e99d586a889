//! What is to be said of listeners on their own: those that Envoy refused, connections that wait now, headers that are not
//! required after all.

use firstword::escape;

use super::candidates::passes_bytes_on;
use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::listener::Listener;
use super::fix::Workload;
use super::simulate::{Kind, kind};
use super::statistics::Statistics;
use crate::findings::{Finding, Place, Severity};

/// The code of what is said about a listener on a Unix socket.
pub(super) const UNIX_SOCKET: &str = "unix-socket-skipped";

/// The one statistic that shows a connection in a listener filter.
const WAITING: &str = "downstream_pre_cx_active";

/// `all`: the input is looked at as a whole, and not for certain destinations.
pub(super) fn findings(dump: &Dump, statistics: Option<&Statistics>, all: bool) -> Vec<Finding> {
    let mut found: Vec<_> = dump.refused.iter().map(|(name, why)| refused(name, why)).collect();
    if all {
        found.extend(dump.listeners.iter().filter_map(|listener| unix_socket(dump, listener)));
    }
    for listener in &dump.listeners {
        found.extend(bypassed(dump, listener));
        found.extend(misled(dump, listener));
        found.extend(statistics.and_then(|statistics| waiting(listener, statistics)));
    }
    if dump.node.is_of_istio() && statistics.is_some_and(|statistics| !statistics.has_any(WAITING)) {
        found.push(Finding {
            severity: Severity::Info,
            code: "hang-not-visible",
            place: Place::default(),
            why: format!(
                "The proxy does not export {WAITING}, the one statistic that shows connections that wait in a listener filter: \
                 Istio leaves it out unless the pod's annotations ask for it."
            ),
            fixes: vec![Workload::of(dump).annotations()],
        });
    }
    found
}

fn place(listener: &Listener) -> Place {
    Place {
        listener: Some(escape::text(name(listener))),
        resource: listener.metadata.resource().map(|resource| escape::text(&resource)),
        ..Place::default()
    }
}

fn refused(name: &str, why: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code: "listener-refused",
        place: Place { listener: Some(escape::text(name)), ..Place::default() },
        why: format!(
            "Envoy has refused the newest configuration of this listener and keeps the one before: {}",
            escape::text(why)
        ),
        fixes: Vec::new(),
    }
}

/// A listener whose connections have no destination that could be followed.
fn unix_socket(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let path = listener.unix_sockets().next()?;
    listener.chains().find(|chain| passes_bytes_on(dump, chain))?;
    Some(Finding {
        severity: Severity::Warning,
        code: UNIX_SOCKET,
        place: place(listener),
        why: format!(
            "The listener accepts connections on the Unix socket {}. doctor does not look at such listeners: it does not know \
             whether a listener filter, TLS or a missing cluster keeps the greeting back there.",
            escape::text(path)
        ),
        fixes: Vec::new(),
    })
}

/// A header that is required can be gone without by waiting.
fn bypassed(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let filter = listener.listener_filters.iter().find(|filter| {
        let allows = filter.typed_config.as_ref().is_some_and(|config| {
            config.body().get("allow_requests_without_proxy_protocol") == Some(&true.into())
        });
        kind(filter, dump).0 == Kind::ProxyProtocol && !allows
    })?;
    let timeout = listener.timeout().filter(|_| listener.continue_on_listener_filters_timeout)?;
    Some(Finding {
        severity: Severity::Warning,
        code: "proxy-protocol-bypassed",
        place: Place { filter: Some(escape::text(&filter.name)), ..place(listener) },
        why: format!(
            "The PROXY header is required, but with continue_on_listener_filters_timeout a client that sends nothing for {} ms is \
             let in without one, and takes its own address for granted.",
            timeout.as_millis()
        ),
        fixes: Vec::new(),
    })
}

/// A header behind `original_dst` has the last word about where the client wanted to go.
fn misled(dump: &Dump, listener: &Listener) -> Option<Finding> {
    let kinds: Vec<_> = listener.listener_filters.iter().map(|filter| kind(filter, dump).0).collect();
    let original = kinds.iter().position(|kind| *kind == Kind::OriginalDst)?;
    let header = kinds.iter().rposition(|kind| *kind == Kind::ProxyProtocol)?;
    let filter = listener.listener_filters.get(header).filter(|_| header > original)?;
    Some(Finding {
        severity: Severity::Warning,
        code: "proxy-protocol-after-original-dst",
        place: Place { filter: Some(escape::text(&filter.name)), ..place(listener) },
        why: "The filter stands behind original_dst, so that the destination in the PROXY header, a load balancer's, decides which \
              filter chain and server a connection gets. Put it in front (INSERT_FIRST)."
            .to_owned(),
        fixes: Vec::new(),
    })
}

fn waiting(listener: &Listener, statistics: &Statistics) -> Option<Finding> {
    let prefix = listener.statistics();
    let count = statistics.of_listener(&prefix, WAITING).filter(|count| *count > 0)?;
    let (connections, wait) = if count == 1 { ("connection", "waits") } else { ("connections", "wait") };
    let timed_out = statistics.of_listener(&prefix, "downstream_pre_cx_timeout").unwrap_or(0);
    let until = listener.timeout().map_or_else(
        || "for ever (listener_filters_timeout is 0s)".to_owned(),
        |timeout| {
            format!("up to {} ms; {timed_out} have waited so long since Envoy started", timeout.as_millis())
        },
    );
    Some(Finding {
        severity: Severity::Warning,
        code: "connections-waiting",
        place: place(listener),
        why: format!(
            "{count} {connections} {wait} in the listener filters at this moment, {until}. If that is more than a moment, look at \
             the destination with --dest: its clients wait for the server's greeting."
        ),
        fixes: Vec::new(),
    })
}
