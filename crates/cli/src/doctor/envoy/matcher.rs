//! `xds.type.matcher.v3.Matcher`, as far as Istio uses it to choose the filter chains of a waypoint.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::filter_chain::Network;

/// What a matcher can ask about a connection.
pub(in super::super) struct Facts<'f> {
    pub(in super::super) ip: Option<IpAddr>,
    pub(in super::super) port: u16,
    pub(in super::super) transport_protocol: &'f str,
    pub(in super::super) application_protocols: &'f [&'f str],
}

/// A destination that a matcher names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Named<'m> {
    pub(in super::super) ip: IpAddr,
    /// `None` for each port.
    pub(in super::super) port: Option<u16>,
    /// The filter chains among which the matcher chooses.
    pub(in super::super) chains: BTreeSet<&'m str>,
}

/// A matcher, read once: a waypoint's has a network for each Service, and each Service is a destination.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub(in super::super) struct Matcher {
    tree: Tree,
    on_no_match: Option<OnMatch>,
}

#[derive(Clone, Debug)]
enum Tree {
    Networks(Networks),
    Texts(Input, HashMap<String, OnMatch>),
    /// A part that is not evaluated.
    Other,
}

/// The fact that a tree compares as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Address,
    Port,
    TransportProtocol,
    ApplicationProtocols,
    /// No text: a client that waits has sent no server name, and no filter has set state yet.
    Never,
}

/// An `IPMatcher`.
#[derive(Clone, Debug, Default)]
struct Networks {
    results: Vec<OnMatch>,
    /// Indices of the results for single addresses.
    addresses: HashMap<IpAddr, usize>,
    /// The other networks, with the indices of their results.
    wide: Vec<(Network, usize)>,
    /// Whether a result with a single address does not depend on the port.
    has_any_port: bool,
}

#[derive(Clone, Debug)]
enum OnMatch {
    /// The name of a filter chain.
    Chain(String),
    Matcher(Box<Matcher>),
    /// A part that is not evaluated.
    Other,
}

/// An error: the matcher has a part that is not evaluated.
struct NotEvaluated;

impl Matcher {
    fn of(value: &Value) -> Self {
        let tree = value.get("matcher_tree").and_then(Tree::of).unwrap_or(Tree::Other);
        Self { tree, on_no_match: value.get("on_no_match").map(OnMatch::of) }
    }

    /// The name of the chain; `None` if nothing matches. An error if the matcher has a part that is not evaluated.
    pub(in super::super) fn find(&self, facts: &Facts) -> Result<Option<&str>, String> {
        self.evaluate(facts)
            .map_err(|NotEvaluated| "the listener chooses its chains by filter_chain_matcher".to_owned())
    }

    fn evaluate(&self, facts: &Facts) -> Result<Option<&str>, NotEvaluated> {
        let found = match &self.tree {
            Tree::Networks(networks) => networks.find(facts.ip),
            Tree::Texts(input, map) => input.text(facts).and_then(|text| map.get(&text)),
            Tree::Other => return Err(NotEvaluated),
        };
        if let Some(chain) = found.map(|on_match| on_match.act(facts)).transpose()?.flatten() {
            return Ok(Some(chain));
        }
        self.on_no_match.as_ref().map_or(Ok(None), |on_no_match| on_no_match.act(facts))
    }

    /// All destinations that the matcher names by address.
    pub(in super::super) fn named(&self) -> Vec<Named<'_>> {
        let mut found = Vec::new();
        for networks in self.networks() {
            for (ip, on_match) in networks.addresses() {
                match on_match.ports() {
                    Some(ports) => found.extend(ports.map(|(port, on_match)| Named {
                        ip,
                        port: Some(port),
                        chains: on_match.chains(),
                    })),
                    None => found.push(Named { ip, port: None, chains: on_match.chains() }),
                }
            }
        }
        found.sort_by_key(|named| (named.ip, named.port));
        found
    }

    /// Whether the matcher names an address without asking for the port.
    pub(in super::super) fn names_any_port(&self) -> bool {
        self.networks().any(|networks| networks.has_any_port)
    }

    /// The networks of this matcher, and of those that follow if nothing matches.
    fn networks(&self) -> impl Iterator<Item = &Networks> {
        let matchers = std::iter::successors(Some(self), |matcher| match &matcher.on_no_match {
            Some(OnMatch::Matcher(next)) => Some(next),
            _ => None,
        });
        matchers.filter_map(|matcher| match &matcher.tree {
            Tree::Networks(networks) => Some(networks),
            _ => None,
        })
    }
}

impl From<Value> for Matcher {
    fn from(value: Value) -> Self {
        Self::of(&value)
    }
}

impl Tree {
    fn of(tree: &Value) -> Option<Self> {
        let input = Input::of(kind(tree.get("input")?)?)?;
        if let Some(custom) = tree.get("custom_match") {
            return Networks::of(custom).filter(|_| input == Input::Address).map(Self::Networks);
        }
        let map = tree.get("exact_match_map")?.get("map")?.as_object()?;
        let map = map.iter().map(|(text, on_match)| (text.clone(), OnMatch::of(on_match)));
        Some(Self::Texts(input, map.collect()))
    }
}

impl Input {
    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "DestinationIPInput" => Self::Address,
            "DestinationPortInput" => Self::Port,
            "TransportProtocolInput" => Self::TransportProtocol,
            "ApplicationProtocolInput" => Self::ApplicationProtocols,
            "ServerNameInput" | "FilterStateInput" => Self::Never,
            _ => return None,
        })
    }

    fn text(self, facts: &Facts) -> Option<String> {
        match self {
            Self::Address => facts.ip.map(|ip| ip.to_string()),
            Self::Port => Some(facts.port.to_string()),
            Self::TransportProtocol => Some(facts.transport_protocol.to_owned()),
            Self::ApplicationProtocols => {
                let quoted: Vec<_> =
                    facts.application_protocols.iter().map(|name| format!("'{name}'")).collect();
                (!quoted.is_empty()).then(|| quoted.join(","))
            }
            Self::Never => None,
        }
    }
}

impl Networks {
    fn of(custom: &Value) -> Option<Self> {
        let config = custom.get("typed_config").filter(|_| kind(custom) == Some("IPMatcher"))?;
        let mut this = Self::default();
        for range in config.get("range_matchers").and_then(Value::as_array).into_iter().flatten() {
            let (Some(networks), Some(on_match)) =
                (range.get("ranges").and_then(Value::as_array), range.get("on_match"))
            else {
                continue;
            };
            let (index, on_match) = (this.results.len(), OnMatch::of(on_match));
            for network in networks.iter().filter_map(Network::of) {
                match network.address() {
                    Some(ip) => {
                        this.has_any_port |= on_match.ports().is_none();
                        this.addresses.insert(ip, index);
                    }
                    None => this.wide.push((network, index)),
                }
            }
            this.results.push(on_match);
        }
        Some(this)
    }

    /// The result for the smallest network with the address.
    fn find(&self, ip: Option<IpAddr>) -> Option<&OnMatch> {
        let covering = || {
            let wide = self.wide.iter();
            #[cfg(test)]
            let wide = wide.inspect(|_| super::super::work::step());
            let lengths = wide.filter_map(|(network, index)| Some((network.covers(ip)?, index)));
            lengths.max_by_key(|(length, _)| *length).map(|(_, index)| index)
        };
        let index = ip.and_then(|ip| self.addresses.get(&ip)).or_else(covering)?;
        self.results.get(*index)
    }

    fn addresses(&self) -> impl Iterator<Item = (IpAddr, &OnMatch)> {
        self.addresses.iter().filter_map(|(ip, index)| Some((*ip, self.results.get(*index)?)))
    }
}

impl OnMatch {
    fn of(on_match: &Value) -> Self {
        if let Some(matcher) = on_match.get("matcher") {
            return Self::Matcher(Box::new(Matcher::of(matcher)));
        }
        let action = on_match.get("action");
        let value = action.and_then(|action| action.get("typed_config")?.get("value"));
        let name = value.or_else(|| action?.get("name")).and_then(Value::as_str);
        name.map_or(Self::Other, |name| Self::Chain(name.to_owned()))
    }

    /// The chain, by another matcher if there is one.
    fn act(&self, facts: &Facts) -> Result<Option<&str>, NotEvaluated> {
        match self {
            Self::Chain(name) => Ok(Some(name)),
            Self::Matcher(matcher) => matcher.evaluate(facts),
            Self::Other => Err(NotEvaluated),
        }
    }

    /// The results by port; `None` if the port does not decide.
    fn ports(&self) -> Option<impl Iterator<Item = (u16, &Self)>> {
        let Self::Matcher(matcher) = self else { return None };
        let Tree::Texts(Input::Port, map) = &matcher.tree else { return None };
        Some(map.iter().filter_map(|(port, on_match)| Some((port.parse().ok()?, on_match))))
    }

    /// The chains of this and of the matchers in it. Readers of JSON limit the depth.
    fn chains(&self) -> BTreeSet<&str> {
        match self {
            Self::Chain(name) => BTreeSet::from([name.as_str()]),
            Self::Matcher(matcher) => {
                let map = match &matcher.tree {
                    Tree::Texts(_, map) => Some(map),
                    _ => None,
                };
                let inside = map.into_iter().flat_map(HashMap::values).chain(&matcher.on_no_match);
                inside.flat_map(Self::chains).collect()
            }
            Self::Other => BTreeSet::new(),
        }
    }
}

/// The type of an extension, without its package.
fn kind(extension: &Value) -> Option<&str> {
    extension.get("typed_config")?.get("@type")?.as_str()?.rsplit('.').next()
}
