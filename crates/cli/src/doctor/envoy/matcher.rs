//! `xds.type.matcher.v3.Matcher`, as far as Istio uses it to choose the filter chains of a waypoint.

use std::net::IpAddr;

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
    pub(in super::super) chains: Vec<&'m str>,
}

/// An error: the matcher has a part that is not evaluated.
struct NotEvaluated;

/// The name of the chain; `None` if nothing matches. An error if the matcher has a part that is not evaluated.
pub(in super::super) fn find<'m>(matcher: &'m Value, facts: &Facts) -> Result<Option<&'m str>, String> {
    evaluate(matcher, facts)
        .map_err(|NotEvaluated| "the listener chooses its chains by filter_chain_matcher".to_owned())
}

fn evaluate<'m>(matcher: &'m Value, facts: &Facts) -> Result<Option<&'m str>, NotEvaluated> {
    let tree = matcher.get("matcher_tree").ok_or(NotEvaluated)?;
    let input = tree.get("input").and_then(kind).ok_or(NotEvaluated)?;
    let found = match (input, tree.get("custom_match")) {
        ("DestinationIPInput", Some(custom)) => by_network(custom, facts.ip)?,
        ("DestinationIPInput", None) => by_text(tree, facts.ip.map(|ip| ip.to_string()))?,
        ("DestinationPortInput", None) => by_text(tree, Some(facts.port.to_string()))?,
        ("TransportProtocolInput", None) => by_text(tree, Some(facts.transport_protocol.to_owned()))?,
        ("ApplicationProtocolInput", None) => {
            let quoted: Vec<_> = facts.application_protocols.iter().map(|name| format!("'{name}'")).collect();
            by_text(tree, (!quoted.is_empty()).then(|| quoted.join(",")))?
        }
        // A client that waits has not named a server, and a connection has no state of Envoy's filters here.
        ("ServerNameInput" | "FilterStateInput", None) => None,
        _ => return Err(NotEvaluated),
    };
    if let Some(chain) = found.map(|on_match| act(on_match, facts)).transpose()?.flatten() {
        return Ok(Some(chain));
    }
    matcher.get("on_no_match").map_or(Ok(None), |on_no_match| act(on_no_match, facts))
}

/// Follows an `OnMatch`: a chain, or another matcher.
fn act<'m>(on_match: &'m Value, facts: &Facts) -> Result<Option<&'m str>, NotEvaluated> {
    match on_match.get("matcher") {
        Some(matcher) => evaluate(matcher, facts),
        None => chain(on_match).map(Some).ok_or(NotEvaluated),
    }
}

/// The name of the chain of an action.
fn chain(on_match: &Value) -> Option<&str> {
    let action = on_match.get("action")?;
    let value = action.get("typed_config").and_then(|config| config.get("value"));
    value.or_else(|| action.get("name"))?.as_str()
}

fn by_text(tree: &Value, text: Option<String>) -> Result<Option<&Value>, NotEvaluated> {
    let map = tree.get("exact_match_map").ok_or(NotEvaluated)?.get("map").ok_or(NotEvaluated)?;
    Ok(text.and_then(|text| map.get(&text)))
}

/// The entries of an `IPMatcher`, each with its networks.
fn ranges(custom: &Value) -> Option<impl Iterator<Item = (&Value, &[Value])>> {
    let config = custom.get("typed_config").filter(|_| kind(custom) == Some("IPMatcher"))?;
    let ranges = config.get("range_matchers").and_then(Value::as_array).into_iter().flatten();
    Some(ranges.filter_map(|range| {
        let networks = range.get("ranges").and_then(Value::as_array)?;
        Some((range.get("on_match")?, networks.as_slice()))
    }))
}

/// The entry of the smallest network with the address.
fn by_network(custom: &Value, ip: Option<IpAddr>) -> Result<Option<&Value>, NotEvaluated> {
    let ranges = ranges(custom).ok_or(NotEvaluated)?;
    let covering = ranges.filter_map(|(on_match, networks)| {
        let best = networks.iter().filter_map(|network| prefix_len(network, ip)).max()?;
        Some((best, on_match))
    });
    Ok(covering.max_by_key(|(length, _)| *length).map(|(_, on_match)| on_match))
}

/// The prefix length of a network with the address. A network of one address is compared without a copy, because a waypoint has
/// one for each Service.
fn prefix_len(network: &Value, ip: Option<IpAddr>) -> Option<u8> {
    let length = network.get("prefix_len").and_then(Value::as_u64).unwrap_or(0);
    let prefix: IpAddr = network.get("address_prefix")?.as_str()?.parse().ok()?;
    let bits = if prefix.is_ipv4() { 32 } else { 128 };
    if length >= bits {
        return (ip == Some(prefix)).then_some(u8::MAX);
    }
    Network::of(network)?.covers(ip)
}

/// The type of an extension, without its package.
fn kind(extension: &Value) -> Option<&str> {
    extension.get("typed_config")?.get("@type")?.as_str()?.rsplit('.').next()
}

/// All destinations that a matcher names by address.
pub(in super::super) fn named(matcher: &Value) -> Vec<Named<'_>> {
    let custom = matcher.get("matcher_tree").and_then(|tree| tree.get("custom_match"));
    let mut found = Vec::new();
    for (on_match, networks) in custom.and_then(ranges).into_iter().flatten() {
        for ip in networks.iter().filter_map(Network::of).filter_map(|network| network.address()) {
            let ports = on_match.get("matcher").and_then(ports);
            match ports {
                Some(ports) => {
                    found.extend(ports.map(|(port, chains)| Named { ip, port: Some(port), chains }))
                }
                None => found.push(Named { ip, port: None, chains: chains(on_match) }),
            }
        }
    }
    found
}

/// Whether a matcher names an address without asking for the port.
pub(in super::super) fn names_any_port(matcher: &Value) -> bool {
    let custom = matcher.get("matcher_tree").and_then(|tree| tree.get("custom_match"));
    let mut ranges = custom.and_then(ranges).into_iter().flatten();
    ranges.any(|(on_match, _)| on_match.get("matcher").and_then(ports).is_none())
}

/// The ports of a matcher by port, each with its chains; `None` if it is another matcher.
fn ports(matcher: &Value) -> Option<impl Iterator<Item = (u16, Vec<&str>)>> {
    let tree = matcher.get("matcher_tree")?;
    if tree.get("input").and_then(kind) != Some("DestinationPortInput") {
        return None;
    }
    let map = tree.get("exact_match_map")?.get("map")?.as_object()?;
    Some(map.iter().filter_map(|(port, on_match)| Some((port.parse().ok()?, chains(on_match)))))
}

/// The chains of an `OnMatch` and of the matchers in it, each once. Readers of JSON limit the depth.
fn chains(on_match: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    if let Some(chain) = chain(on_match) {
        found.push(chain);
    }
    if let Some(matcher) = on_match.get("matcher") {
        let map =
            matcher.get("matcher_tree").and_then(|tree| tree.get("exact_match_map")?.get("map")?.as_object());
        let inside = map.into_iter().flat_map(|map| map.values()).chain(matcher.get("on_no_match"));
        found.extend(inside.flat_map(chains));
    }
    found.sort_unstable();
    found.dedup();
    found
}
