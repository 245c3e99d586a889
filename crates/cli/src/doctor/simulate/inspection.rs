//! The way of a connection through the filters of a listener: their waits and the results of their inspection.

use std::net::SocketAddr;

use super::super::destination::Destination;
use super::super::envoy::dump::Dump;
use super::super::envoy::listener::Listener;
use super::super::envoy::listener_filter::{Kind, allows_no_header, kind, message};
use super::journey::{Cause, Journey, Outcome, Wait};
use super::socket::{MESH_ALPN, Socket, Unread};

/// Runs all listener filters. An error is the outcome of a connection that does not come further.
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
        let kind = kind(filter, dump);
        let has_other_bytes = kind == Kind::ProxyProtocol && socket.unread == Unread::ClientHello;
        if has_other_bytes && !allows_no_header(filter) {
            return Err(Outcome::Closed(Cause::NoHeader));
        }
        if passes(kind, socket, to) {
            continue;
        }
        let (message, timeout) = (message(filter, dump), listener.timeout());
        let name = if filter.name.is_empty() { message.to_owned() } else { filter.name.clone() };
        journey.waits.push(Wait { listener, filter: name, kind, message, timeout });
        let Some(timeout) = timeout else { return Err(Outcome::Hang(Cause::ListenerFilter)) };
        journey.after = journey.after.saturating_add(timeout);
        if !listener.continue_on_listener_filters_timeout {
            return Err(Outcome::Closed(Cause::ListenerFilter));
        }
        // Envoy skips the remaining filters, also original_dst.
        return Ok(());
    }
    // Envoy appends original_dst to the configured filters.
    if listener.use_original_dst && !handed_over {
        restore(socket, to);
    }
    Ok(())
}

/// Whether the filter decides by the bytes that the client has sent. If not, it waits.
fn passes(kind: Kind, socket: &mut Socket, to: &Destination) -> bool {
    match (kind, socket.unread) {
        (Kind::OriginalDst, _) => restore(socket, to),
        (Kind::Other, _) => {}
        // The filter waits even if it allows connections without a header.
        (Kind::ProxyProtocol, Unread::Nothing) => return false,
        (Kind::ProxyProtocol, Unread::ProxyHeader) => {
            // The header names the address to which the client connected, that of a load balancer.
            socket.unread = Unread::Nothing;
            socket.restored = true;
        }
        (Kind::ProxyProtocol, Unread::ClientHello) => {}
        // It skips connections for which an earlier inspector has found another protocol.
        (Kind::HttpInspector, _) if !["", "raw_buffer"].contains(&socket.transport_protocol) => {}
        (Kind::TlsInspector | Kind::HttpInspector | Kind::OtherInspector, Unread::Nothing) => return false,
        (Kind::TlsInspector, Unread::ClientHello) => {
            socket.transport_protocol = "tls";
            socket.application_protocols = MESH_ALPN;
        }
        // A PROXY header is neither TLS nor HTTP.
        (Kind::TlsInspector, Unread::ProxyHeader) => socket.transport_protocol = "raw_buffer",
        (Kind::HttpInspector | Kind::OtherInspector, _) => {}
    }
    true
}

/// Replaces the listener's own address by the original destination.
fn restore(socket: &mut Socket, to: &Destination) {
    let original: SocketAddr = to.address();
    socket.restored |= original != socket.local;
    socket.local = original;
}
