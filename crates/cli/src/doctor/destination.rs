//! Where clients connect to, and how their connections come to this Envoy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::envoy::chain::Network;
use super::envoy::dump::Dump;
use super::envoy::listener::{Direction, Listener};
use super::simulate::has_original_dst;

/// A destination of connections, from inside the pod or into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// `None`: any address without a listener of its own.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) side: Side,
    pub(super) because: Because,
}

/// Which of a proxy's two sides a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// Others connect to the pod, or to a gateway, or to a proxy on its own.
    Inbound,
    /// The pod's application connects to somewhere.
    Outbound,
}

/// Why a destination is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Because {
    /// There is a chain that passes bytes on for it, whatever they are.
    PassedOn,
    /// Its port, or a name, is that of a protocol whose server speaks first.
    Known,
    /// It was asked for.
    Asked,
}

/// How a connection comes to Envoy.
pub(super) enum Entry<'d> {
    /// To the listener's own address.
    Listener(&'d Listener),
    /// By redirection, so that its destination has to be asked for.
    Redirected(&'d Listener),
    /// Past it.
    Bypass(&'static str),
    Nobody,
}

impl Destination {
    /// The address that stands for it.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), self.port)
    }

    /// `10.1.2.3:3306`, `*:3306`
    pub(super) fn text(&self) -> String {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).to_string(),
            None => format!("*:{}", self.port),
        }
    }

    pub(super) fn entry<'d>(&self, dump: &'d Dump) -> Entry<'d> {
        let bound = || dump.listeners.iter().filter(|listener| listener.is_bound());
        let exact = |listener: &&Listener| listener.addresses().any(|address| address == self.address());
        if let Some(listener) = self.ip.and_then(|_| bound().find(exact)) {
            return Entry::Listener(listener);
        }
        if let Some(listener) = redirected(dump, self.side) {
            return match past(dump, self) {
                Some(why) => Entry::Bypass(why),
                None => Entry::Redirected(listener),
            };
        }
        let any = |listener: &&Listener| {
            listener.addresses().any(|address| address.ip().is_unspecified() && address.port() == self.port)
        };
        if let Some(listener) = bound().find(any) {
            return Entry::Listener(listener);
        }
        // A port that the kernel chooses is in no configuration.
        let chosen = |listener: &&Listener| {
            let may = |ip: IpAddr| ip.is_unspecified() || self.ip.is_none_or(|own| own == ip);
            listener.addresses().any(|address| address.port() == 0 && may(address.ip()))
        };
        match bound().filter(chosen).collect::<Vec<_>>().as_slice() {
            [listener] => Entry::Listener(listener),
            _ => Entry::Nobody,
        }
    }
}

/// The listener that connections of a side are redirected to, if any is made for that.
pub(super) fn redirected(dump: &Dump, side: Side) -> Option<&Listener> {
    let restores = |listener: &Listener| listener.use_original_dst || has_original_dst(listener, dump);
    let is_for = |listener: &&Listener| {
        let inbound = listener.traffic_direction == Direction::Inbound;
        let listens = listener.is_bound() && listener.addresses().next().is_some();
        inbound == (side == Side::Inbound) && listens && restores(listener)
    };
    dump.listeners.iter().find(is_for)
}

/// The side of a destination that was asked for: the pod's own addresses are what others connect to.
pub(super) fn side(dump: &Dump, ip: IpAddr) -> Side {
    let sidecar = redirected(dump, Side::Outbound).is_some();
    if sidecar && !dump.node.addresses().contains(&ip) { Side::Outbound } else { Side::Inbound }
}

/// Why Istio's redirection leaves a connection alone, if the pod's annotations say so.
fn past(dump: &Dump, to: &Destination) -> Option<&'static str> {
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

/// Whether an address is in a network in CIDR notation, as iptables reads it.
fn covers(network: &str, ip: Option<IpAddr>) -> bool {
    Network::parse(network).is_some_and(|network| network.covers(ip).is_some())
}
