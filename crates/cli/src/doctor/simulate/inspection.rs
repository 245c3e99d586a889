//! Listener filters: which of them wait for a client's bytes, for how long, and what they find out.

use std::net::SocketAddr;

use super::super::destination::Destination;
use super::super::envoy::dump::Dump;
use super::super::envoy::listener::{Listener, ListenerFilter};
use super::{Cause, Journey, MESH_ALPN, Outcome, Socket, Unread, Wait};

/// What a listener filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    OriginalDst,
    ProxyProtocol,
    TlsInspector,
    HttpInspector,
    /// One that this does not know, but whose name says that it looks at bytes.
    OtherInspector,
    /// One that waits for nothing.
    Other,
}

const PREFIX: &str = "envoy.extensions.filters.listener.";

/// The filter, and the message its configuration is.
pub(in super::super) fn kind(filter: &ListenerFilter, dump: &Dump) -> (Kind, String) {
    let by_name = || dump.extensions.as_ref()?.get(&filter.name);
    let discovered = filter.config_discovery.as_ref();
    let config = filter
        .typed_config
        .as_ref()
        .or_else(|| discovered.and_then(|discovery| by_name().or(discovery.default_config.as_ref())));
    let message = config.map(|config| config.kind().to_owned()).unwrap_or_default();
    // Without a configuration the name is that of the factory.
    let short = message.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
    let short = short.or_else(|| filter.name.strip_prefix("envoy.filters.listener.")).unwrap_or(&filter.name);
    let kind = match short {
        "original_dst" => Kind::OriginalDst,
        "proxy_protocol" => Kind::ProxyProtocol,
        "tls_inspector" => Kind::TlsInspector,
        "http_inspector" => Kind::HttpInspector,
        other if other.ends_with("_inspector") => Kind::OtherInspector,
        _ => Kind::Other,
    };
    (kind, message)
}

/// Runs them all. An error is what becomes of the connection already here.
pub(super) fn run<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    listener: &'d Listener,
    socket: &mut Socket,
    to: &Destination,
    handed_over: bool,
) -> Result<(), Outcome> {
    for filter in &listener.listener_filters {
        if filter.filter_disabled.as_ref().is_some_and(|disabled| disabled.matches(socket.local.port())) {
            continue;
        }
        let (kind, message) = kind(filter, dump);
        if kind == Kind::ProxyProtocol && socket.unread == Unread::ClientHello {
            let allowed = filter.typed_config.as_ref().is_some_and(|config| {
                config.body().get("allow_requests_without_proxy_protocol") == Some(&true.into())
            });
            if !allowed {
                return Err(Outcome::Closed(Cause::NoHeader));
            }
        }
        if passes(kind, socket, to) {
            continue;
        }
        let timeout = listener.timeout();
        let name = if filter.name.is_empty() { message.clone() } else { filter.name.clone() };
        journey.waits.push(Wait { listener, filter: name, kind, message, timeout });
        let Some(timeout) = timeout else { return Err(Outcome::Hang(Cause::ListenerFilter)) };
        journey.after = journey.after.saturating_add(timeout);
        if !listener.continue_on_listener_filters_timeout {
            return Err(Outcome::Closed(Cause::ListenerFilter));
        }
        // The filters that remain are left out, original_dst among them.
        return Ok(());
    }
    // Envoy appends it to the filters that are configured.
    if listener.use_original_dst && !handed_over {
        restore(socket, to);
    }
    Ok(())
}

/// Whether the filter is done with what the client has sent; if not, it waits.
fn passes(kind: Kind, socket: &mut Socket, to: &Destination) -> bool {
    match (kind, socket.unread) {
        (Kind::OriginalDst, _) => restore(socket, to),
        (Kind::Other, _) => {}
        // It waits even where it allows connections without a header.
        (Kind::ProxyProtocol, Unread::Nothing) => return false,
        (Kind::ProxyProtocol, Unread::ProxyHeader) => {
            // The header names the address that the client connected to, a load balancer's.
            socket.unread = Unread::Nothing;
            socket.restored = true;
        }
        (Kind::ProxyProtocol, Unread::ClientHello) => {}
        // It leaves alone what an inspector before it has found to be something else.
        (Kind::HttpInspector, _) if !["", "raw_buffer"].contains(&socket.transport_protocol) => {}
        (Kind::TlsInspector | Kind::HttpInspector | Kind::OtherInspector, Unread::Nothing) => return false,
        (Kind::TlsInspector, Unread::ClientHello) => {
            socket.transport_protocol = "tls";
            socket.application_protocols = MESH_ALPN;
        }
        // A header is neither TLS nor HTTP.
        (Kind::TlsInspector, Unread::ProxyHeader) => socket.transport_protocol = "raw_buffer",
        (Kind::HttpInspector | Kind::OtherInspector, _) => {}
    }
    true
}

fn restore(socket: &mut Socket, to: &Destination) {
    let original: SocketAddr = to.address();
    socket.restored |= original != socket.local;
    socket.local = original;
}
