//! Envoy's knowledge of a connection.

use std::net::{IpAddr, SocketAddr};

/// The part of the client's first bytes that Envoy has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Nothing,
    ProxyHeader,
    ClientHello,
}

#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) unread: Unread,
    /// The destination of the connection. An unspecified address stands for any address.
    pub(super) local: SocketAddr,
    /// Whether `local` is no longer the listener's own address.
    pub(super) restored: bool,
    /// The result of inspection; empty without one.
    pub(super) transport_protocol: &'static str,
    pub(super) application_protocols: &'static [&'static str],
}

/// The protocols that a client's sidecar requests.
pub(super) const MESH_ALPN: &[&str] = &["istio-peer-exchange", "istio"];

impl Socket {
    /// A connection of which Envoy knows nothing but its destination.
    pub(super) fn new(unread: Unread, local: SocketAddr) -> Self {
        Self { unread, local, restored: false, transport_protocol: "", application_protocols: &[] }
    }

    /// The address; `None` if it is unspecified.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        Some(self.local.ip()).filter(|ip| !ip.is_unspecified())
    }

    pub(super) fn transport_protocol(&self) -> &'static str {
        if self.transport_protocol.is_empty() { "raw_buffer" } else { self.transport_protocol }
    }
}
