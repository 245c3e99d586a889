//! `envoy.config.listener.v3.Listener`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::filter::Any;
use super::filter_chain::FilterChain;
use super::matcher::Matcher;
use super::{Metadata, duration};

/// Maximum time of the listener filters if a listener sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct Listener {
    #[serde(default)]
    pub(in super::super) name: String,
    address: Option<Address>,
    #[serde(default)]
    additional_addresses: Vec<AdditionalAddress>,
    #[serde(default)]
    stat_prefix: String,
    #[serde(default)]
    pub(in super::super) filter_chains: Vec<FilterChain>,
    pub(in super::super) default_filter_chain: Option<FilterChain>,
    pub(in super::super) filter_chain_matcher: Option<Matcher>,
    /// Indices of the chains by their names, for listeners with a chain for each Service.
    #[serde(skip)]
    names: OnceLock<BTreeMap<String, usize>>,
    #[serde(default)]
    pub(in super::super) use_original_dst: bool,
    bind_to_port: Option<bool>,
    deprecated_v1: Option<DeprecatedV1>,
    #[serde(default)]
    pub(in super::super) listener_filters: Vec<ListenerFilter>,
    #[serde(default, deserialize_with = "duration")]
    listener_filters_timeout: Option<Duration>,
    #[serde(default)]
    pub(in super::super) continue_on_listener_filters_timeout: bool,
    #[serde(default)]
    pub(in super::super) traffic_direction: Direction,
    #[serde(default)]
    pub(in super::super) metadata: Metadata,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(in super::super) enum Direction {
    Inbound,
    Outbound,
    #[default]
    #[serde(other)]
    Unspecified,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    socket_address: Option<SocketAddress>,
    pipe: Option<Pipe>,
}

/// A Unix socket.
#[derive(Clone, Debug, Deserialize)]
struct Pipe {
    #[serde(default)]
    path: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SocketAddress {
    #[serde(default)]
    protocol: Transport,
    /// `None` if the text is not an IP address.
    #[serde(default, deserialize_with = "ip")]
    address: Option<IpAddr>,
    #[serde(default)]
    port_value: u16,
    /// The port that the kernel has chosen in place of 0, if known.
    #[serde(skip)]
    chosen_port: Option<u16>,
}

/// An entry of `listener_statuses` in Envoy's `/listeners?format=json`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) name: String,
    local_address: Option<Address>,
    #[serde(default)]
    additional_local_addresses: Vec<Address>,
}

impl Status {
    /// The addresses of the sockets, in the order of the listener's addresses.
    pub(super) fn sockets(&self) -> Vec<SocketAddr> {
        let addresses = self.local_address.iter().chain(&self.additional_local_addresses);
        addresses.filter_map(|address| address.socket_address.as_ref()?.ip()).collect()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Transport {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Deserialize)]
struct AdditionalAddress {
    address: Option<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct DeprecatedV1 {
    bind_to_port: Option<bool>,
}

/// An entry of `listener_filters`.
#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct ListenerFilter {
    #[serde(default)]
    pub(in super::super) name: String,
    pub(in super::super) typed_config: Option<Any>,
    pub(in super::super) config_discovery: Option<super::filter::Discovery>,
    pub(in super::super) filter_disabled: Option<Predicate>,
}

/// `ListenerFilterChainMatchPredicate`: a condition on the destination port.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Predicate {
    OrMatch(Set),
    AndMatch(Set),
    NotMatch(Box<Predicate>),
    AnyMatch(bool),
    DestinationPortRange(PortRange),
}

#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct Set {
    #[serde(default)]
    rules: Vec<Predicate>,
}

/// A range with `start` and without `end`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(in super::super) struct PortRange {
    #[serde(default)]
    start: u32,
    #[serde(default)]
    end: u32,
}

/// Reads an address once, because many searches compare the addresses of listeners.
fn ip<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    Ok(String::deserialize(from)?.parse().ok())
}

impl SocketAddress {
    /// The address; `None` if it is not for TCP over IP.
    pub(super) fn ip(&self) -> Option<SocketAddr> {
        self.address
            .filter(|_| self.protocol == Transport::Tcp)
            .map(|ip| SocketAddr::new(ip, self.chosen_port.unwrap_or(self.port_value)))
    }
}

impl Predicate {
    pub(in super::super) fn matches(&self, port: u16) -> bool {
        match self {
            Self::OrMatch(set) => set.rules.iter().any(|rule| rule.matches(port)),
            Self::AndMatch(set) => set.rules.iter().all(|rule| rule.matches(port)),
            Self::NotMatch(rule) => !rule.matches(port),
            Self::AnyMatch(any) => *any,
            Self::DestinationPortRange(range) => (range.start..range.end).contains(&u32::from(port)),
        }
    }
}

impl Listener {
    /// The IP addresses on which the listener accepts TCP connections.
    pub(in super::super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let more = self.additional_addresses.iter().filter_map(|more| more.address.as_ref());
        self.address.iter().chain(more).filter_map(|address| address.socket_address.as_ref()?.ip())
    }

    /// Whether the listener accepts connections on this port of each address.
    pub(in super::super) fn is_for_any_address(&self, port: u16) -> bool {
        self.addresses().any(|address| address.ip().is_unspecified() && address.port() == port)
    }

    /// Whether the kernel chooses a port of the listener.
    pub(in super::super) fn has_chosen_port(&self) -> bool {
        self.is_bound() && self.addresses().any(|address| address.port() == 0)
    }

    /// Sets the ports that the kernel has chosen, from the addresses of the listener's sockets.
    pub(super) fn set_chosen_ports(&mut self, bound: &[SocketAddr]) {
        let more = self.additional_addresses.iter_mut().filter_map(|more| more.address.as_mut());
        let sockets =
            self.address.iter_mut().chain(more).filter_map(|address| address.socket_address.as_mut());
        for (socket, address) in sockets.zip(bound) {
            if socket.port_value == 0 {
                socket.chosen_port = Some(address.port());
            }
        }
    }

    /// The paths of the Unix sockets on which the listener accepts connections.
    pub(in super::super) fn unix_sockets(&self) -> impl Iterator<Item = &str> {
        let more = self.additional_addresses.iter().filter_map(|more| more.address.as_ref());
        self.address.iter().chain(more).filter_map(|address| Some(address.pipe.as_ref()?.path.as_str()))
    }

    /// Whether the listener has a socket of its own. Otherwise it accepts connections only from another listener.
    pub(in super::super) fn is_bound(&self) -> bool {
        let old = self.deprecated_v1.as_ref().and_then(|old| old.bind_to_port);
        self.bind_to_port.or(old).unwrap_or(true)
    }

    /// Maximum time of the listener filters; `None` without a maximum.
    pub(in super::super) fn timeout(&self) -> Option<Duration> {
        let timeout = self.listener_filters_timeout.unwrap_or(DEFAULT_TIMEOUT);
        (!timeout.is_zero()).then_some(timeout)
    }

    /// The chains, with the default chain last.
    pub(in super::super) fn chains(&self) -> impl Iterator<Item = &FilterChain> {
        let chains = self.filter_chains.iter().chain(&self.default_filter_chain);
        #[cfg(test)]
        let chains = chains.inspect(|_| super::super::work::step());
        chains
    }

    /// The chain with this name; the first one if there are several.
    pub(in super::super) fn chain(&self, name: &str) -> Option<&FilterChain> {
        self.filter_chains.get(*self.names().get(name)?)
    }

    /// The names of the chains that begin with this prefix.
    pub(in super::super) fn chains_with_prefix<'l>(
        &'l self,
        prefix: &'l str,
    ) -> impl Iterator<Item = &'l str> {
        let from = self.names().range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let names = from.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(prefix));
        #[cfg(test)]
        let names = names.inspect(|_| super::super::work::step());
        names
    }

    fn names(&self) -> &BTreeMap<String, usize> {
        self.names.get_or_init(|| {
            let chains = self.filter_chains.iter().enumerate().rev();
            chains.map(|(index, chain)| (chain.name.clone(), index)).collect()
        })
    }

    /// The name of the listener in its statistics: `listener.NAME.`.
    pub(in super::super) fn statistics(&self) -> String {
        if !self.stat_prefix.is_empty() {
            return self.stat_prefix.clone();
        }
        // Envoy uses the configured port, also if it is 0.
        let first = self.address.as_ref().and_then(|address| address.socket_address.as_ref());
        let ip = first.and_then(SocketAddress::ip);
        let port = first.map(|socket| socket.port_value).unwrap_or_default();
        let text = ip.map(|address| SocketAddr::new(address.ip(), port).to_string()).unwrap_or_default();
        text.replace(':', "_")
    }
}

/// Listeners of one dump are the same if they are one entry of it.
impl PartialEq for Listener {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Listener {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_predicate_matches_ports_as_in_envoy() {
        let predicate = |value| serde_json::from_value::<Predicate>(value).unwrap();
        let range = |start: u16, end: u32| json!({"destination_port_range": {"start": start, "end": end}});
        assert!(predicate(range(3306, 3307)).matches(3306));
        assert!(!predicate(range(3306, 3307)).matches(3307));
        assert!(predicate(json!({"destination_port_range": {"end": 1}})).matches(0));
        let or = json!({"or_match": {"rules": [range(1, 2), range(5, 6)]}});
        assert!(predicate(or.clone()).matches(5));
        assert!(!predicate(json!({"not_match": or})).matches(5));
        assert!(!predicate(json!({"and_match": {"rules": [range(1, 9), range(5, 6)]}})).matches(4));
        assert!(predicate(json!({"any_match": true})).matches(4));
    }
}
