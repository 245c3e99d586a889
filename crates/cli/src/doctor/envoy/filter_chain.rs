//! `envoy.config.listener.v3.FilterChain`.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::filter::{Any, Filter};
use super::{Metadata, duration};

#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct FilterChain {
    #[serde(default)]
    pub(in super::super) name: String,
    #[serde(default)]
    pub(in super::super) filter_chain_match: Match,
    #[serde(default)]
    pub(in super::super) filters: Vec<Filter>,
    transport_socket: Option<TransportSocket>,
    #[serde(default, deserialize_with = "duration")]
    pub(in super::super) transport_socket_connect_timeout: Option<Duration>,
    #[serde(default)]
    pub(in super::super) metadata: Metadata,
}

/// `FilterChainMatch`. An empty or absent condition matches every connection.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct Match {
    pub(in super::super) destination_port: Option<u32>,
    #[serde(default)]
    pub(in super::super) prefix_ranges: Vec<Network>,
    #[serde(default)]
    pub(in super::super) server_names: Vec<String>,
    #[serde(default)]
    pub(in super::super) transport_protocol: String,
    #[serde(default)]
    pub(in super::super) application_protocols: Vec<String>,
    #[serde(default)]
    direct_source_prefix_ranges: Vec<Value>,
    source_type: Option<String>,
    #[serde(default)]
    source_prefix_ranges: Vec<Value>,
    #[serde(default)]
    source_ports: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct Network {
    address_prefix: String,
    #[serde(default)]
    prefix_len: u8,
}

#[derive(Clone, Debug, Deserialize)]
struct TransportSocket {
    #[serde(default)]
    name: String,
    typed_config: Option<Any>,
}

impl FilterChain {
    /// Whether a filter of the chain can begin TLS in the middle of the connection.
    pub(in super::super) fn starts_tls(&self) -> bool {
        let kind = "envoy.extensions.transport_sockets.starttls.v3.StartTlsConfig";
        self.transport_socket.as_ref().is_some_and(|socket| match &socket.typed_config {
            Some(config) => config.kind() == kind,
            None => socket.name == "envoy.transport_sockets.starttls",
        })
    }

    /// Whether the client has to begin TLS before it receives anything.
    pub(in super::super) fn terminates_tls(&self) -> bool {
        let Some(socket) = &self.transport_socket else { return false };
        match &socket.typed_config {
            Some(config) => config.kind() == "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            None => socket.name == "envoy.transport_sockets.tls",
        }
    }
}

impl Match {
    /// Whether it depends on the client's address or port.
    pub(in super::super) fn depends_on_client(&self) -> bool {
        !self.direct_source_prefix_ranges.is_empty()
            || !self.source_prefix_ranges.is_empty()
            || !self.source_ports.is_empty()
            || self.source_type.as_ref().is_some_and(|source| source != "ANY")
    }
}

impl Network {
    /// Reads a network such as `10.0.0.0/8`, or an address alone.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let (prefix, length) = text.split_once('/').unwrap_or((text, "128"));
        prefix.parse::<IpAddr>().ok()?;
        Some(Self { address_prefix: prefix.to_owned(), prefix_len: length.parse().ok()? })
    }

    /// A `CidrRange` in JSON. Without a length, it is a whole address family.
    pub(in super::super) fn of(range: &Value) -> Option<Self> {
        let prefix_len = range.get("prefix_len").and_then(Value::as_u64).unwrap_or(0);
        let address_prefix = range.get("address_prefix")?.as_str()?.to_owned();
        Some(Self { address_prefix, prefix_len: u8::try_from(prefix_len).ok()? })
    }

    /// The prefix length if the address is in the network. Without an address, only the network of all addresses matches.
    pub(in super::super) fn covers(&self, address: Option<IpAddr>) -> Option<u8> {
        if self.prefix_len == 0 {
            return Some(0);
        }
        let ones = |bits: u8| u32::from(self.prefix_len.min(bits));
        let within = match (self.address_prefix.parse().ok()?, address?) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(ones(32))).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(ones(128))).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        };
        within.then_some(self.prefix_len)
    }

    /// The address, if the network has only one.
    pub(in super::super) fn address(&self) -> Option<IpAddr> {
        let ip: IpAddr = self.address_prefix.parse().ok()?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        (self.prefix_len >= bits).then_some(ip)
    }

    /// The first address of the network.
    pub(in super::super) fn first(&self) -> Option<IpAddr> {
        self.address_prefix.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_covers_the_addresses_with_its_prefix() {
        let network = |prefix: &str, length| Network { address_prefix: prefix.into(), prefix_len: length };
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(network("10.1.0.0", 16).covers(ip("10.1.2.3")), Some(16));
        assert_eq!(network("10.1.0.0", 16).covers(ip("10.2.2.3")), None);
        assert_eq!(network("10.1.2.3", 32).covers(ip("10.1.2.3")), Some(32));
        assert_eq!(network("10.1.2.3", 99).covers(ip("10.1.2.4")), None);
        assert_eq!(network("0.0.0.0", 0).covers(None), Some(0));
        assert_eq!(network("10.0.0.0", 8).covers(None), None);
        assert_eq!(network("fd00::", 8).covers(ip("fd12::1")), Some(8));
        assert_eq!(network("fd00::", 8).covers(ip("10.0.0.1")), None);
    }
}
