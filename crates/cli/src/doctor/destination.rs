//! The destinations of connections, and the way of these connections to this Envoy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::envoy::dump::Dump;
use super::envoy::filter_chain::Network;
use super::envoy::listener::{Direction, Listener};
use super::envoy::listener_filter::has_original_dst;

/// A destination of connections from the pod or into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// `None` for any address without a listener of its own.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    /// The name by which the user asked for it.
    pub(super) host: Option<String>,
    /// Whether the address comes from a name server outside the mesh, so that it may change.
    pub(super) from_dns: bool,
    pub(super) side: Side,
    pub(super) reason: Reason,
}

/// The side of the proxy from which a connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// A client connects to the pod, to a gateway, or to a standalone proxy.
    Inbound,
    /// The pod's application is the client.
    Outbound,
}

/// Why a destination is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// A chain forwards any bytes to it.
    Forwarded,
    /// Its port or a name suggests a server-first protocol.
    Known,
    /// The user named it.
    Requested,
}

/// The way of a connection to Envoy.
pub(super) enum Entry<'d> {
    /// To the listener's own address.
    Listener(&'d Listener),
    /// To a listener by redirection, so that the listener has to restore the destination.
    Redirected(&'d Listener),
    /// Inside a tunnel that ends at the first listener. The second one accepts it, with its own destination.
    Tunnelled(&'d Listener, &'d Listener),
    /// Not through this Envoy, because of this reason.
    Bypass(&'static str),
    NoListener,
    /// Perhaps to one of several listeners whose ports the kernel chooses.
    Unknown,
}

impl Destination {
    /// The address, or an unspecified address with the port.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), self.port)
    }

    /// Text such as `10.1.2.3:3306` or `*:3306`.
    pub(super) fn text(&self) -> String {
        text(self.ip, self.port)
    }

    pub(super) fn entry<'d>(&self, dump: &'d Dump) -> Entry<'d> {
        if let Some((outer, inner)) = dump.waypoint() {
            return Entry::Tunnelled(outer, inner);
        }
        let bound = || dump.listeners.iter().filter(|listener| listener.is_bound());
        let exact = |listener: &&Listener| listener.addresses().any(|address| address == self.address());
        if let Some(listener) = self.ip.and_then(|_| bound().find(exact)) {
            return Entry::Listener(listener);
        }
        if let Some(listener) = redirected(dump, self.side) {
            return match bypass_reason(dump, self) {
                Some(why) => Entry::Bypass(why),
                None => Entry::Redirected(listener),
            };
        }
        if let Some(listener) = bound().find(|listener| listener.is_for_any_address(self.port)) {
            return Entry::Listener(listener);
        }
        // The configuration does not show a port that the kernel chooses.
        let chosen = |listener: &&Listener| {
            let may = |ip: IpAddr| ip.is_unspecified() || self.ip.is_none_or(|own| own == ip);
            listener.addresses().any(|address| address.port() == 0 && may(address.ip()))
        };
        match bound().filter(chosen).collect::<Vec<_>>().as_slice() {
            [] => Entry::NoListener,
            [listener] => Entry::Listener(listener),
            _ => Entry::Unknown,
        }
    }
}

/// Text such as `10.1.2.3:3306` or `*:3306`.
pub(super) fn text(ip: Option<IpAddr>, port: u16) -> String {
    match ip {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None => format!("*:{port}"),
    }
}

/// The listener to which the connections of a side are redirected; `None` without redirection.
pub(super) fn redirected(dump: &Dump, side: Side) -> Option<&Listener> {
    let restores = |listener: &Listener| listener.use_original_dst || has_original_dst(listener, dump);
    let is_for = |listener: &&Listener| {
        let inbound = listener.traffic_direction == Direction::Inbound;
        let listens = listener.is_bound() && listener.addresses().next().is_some();
        inbound == (side == Side::Inbound) && listens && restores(listener)
    };
    dump.listeners.iter().find(is_for)
}

/// The side of a destination that the user named. The pod's own addresses are inbound.
pub(super) fn side(dump: &Dump, ip: IpAddr) -> Side {
    let sidecar = redirected(dump, Side::Outbound).is_some();
    if sidecar && !dump.node.addresses().contains(&ip) { Side::Outbound } else { Side::Inbound }
}

/// Why Istio does not redirect a connection, by the pod's annotations; `None` if Istio redirects it.
fn bypass_reason(dump: &Dump, to: &Destination) -> Option<&'static str> {
    const PREFIX: &str = "traffic.sidecar.istio.io/";
    let list = |name: &str| dump.node.annotation(&format!("{PREFIX}{name}"));
    let has_port = |list: &str| list.split(',').any(|port| port.trim().parse() == Ok(to.port));
    let has_ip = |list: &str| list.split(',').any(|network| covers(network.trim(), to.ip));
    if to.side == Side::Inbound {
        let included = list("includeInboundPorts").is_none_or(|list| list.trim() == "*" || has_port(list));
        return match list("excludeInboundPorts") {
            Some(list) if has_port(list) => {
                Some("traffic.sidecar.istio.io/excludeInboundPorts leaves it out")
            }
            _ if !included => Some("traffic.sidecar.istio.io/includeInboundPorts leaves it out"),
            _ => None,
        };
    }
    if to.ip.is_some_and(|ip| ip.is_loopback()) {
        return Some("connections to loopback addresses are not redirected");
    }
    if list("excludeOutboundIPRanges").is_some_and(has_ip) {
        return Some("traffic.sidecar.istio.io/excludeOutboundIPRanges leaves it out");
    }
    if list("excludeOutboundPorts").is_some_and(has_port) {
        return Some("traffic.sidecar.istio.io/excludeOutboundPorts leaves it out");
    }
    let included = list("includeOutboundIPRanges").is_none_or(|list| list.trim() == "*" || has_ip(list));
    let port_included = list("includeOutboundPorts").is_some_and(has_port);
    (!included && !port_included).then_some("traffic.sidecar.istio.io/includeOutboundIPRanges leaves it out")
}

/// Whether an address is in a network in CIDR notation, in the way of iptables.
fn covers(network: &str, ip: Option<IpAddr>) -> bool {
    Network::parse(network).is_some_and(|network| network.covers(ip).is_some())
}
