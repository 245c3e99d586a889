//! Envoy's rule for a changed listener: which filter chains it drains.
//!
//! Envoy's `ListenerManagerImpl::addOrUpdateListenerInternal` and `ListenerImpl::supportUpdateFilterChain` (1.36 to 1.40) decide:
//! 1. If only filter chains and their matcher differ, Envoy updates the listener in place. It drains each chain of the old
//!    listener that the new one does not have in exactly the same form. All other connections stay.
//! 2. Otherwise it replaces the listener and drains all of its chains.
//!
//! A filter that Envoy discovers by name is in the chain only with its name. Its configuration therefore drains nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::super::envoy::dump::typed;
use super::super::envoy::listener::Listener;
use super::configuration::{Entry, text};
use super::equivalent::differing_fields;

/// The change of one listener.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) listener: String,
    pub(super) effect: Effect,
    /// Chains of the old listener, and those that the new one adds.
    pub(super) chains: Vec<Chain>,
    /// The name of the listener in statistics, if it has connections to lose.
    pub(super) statistics: Option<String>,
}

/// What Envoy does with the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is new.
    Add,
    Remove,
    /// Envoy replaces it, because of these fields or facts.
    Replace(Vec<String>),
    /// Envoy changes its filter chains, and keeps the listener.
    InPlace,
    /// Envoy refuses the change, for this reason.
    Refuse(&'static str),
    /// Only a new process reads it.
    Restart,
    /// It does not accept TCP connections, so this command does not judge it.
    Skip,
}

/// A filter chain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name, or its number in the listener.
    pub(super) name: String,
    pub(super) change: Change,
    /// The fields that differ, and the names of filters that come or go.
    pub(super) differences: Vec<String>,
    /// Whether Envoy drains it.
    pub(super) drained: bool,
}

/// What becomes of a chain, or of a filter that Envoy discovers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Removed,
    Changed,
    Kept,
    Added,
}

impl Effect {
    /// Whether Envoy closes every connection of the listener.
    fn drains_all(&self) -> bool {
        matches!(self, Self::Remove | Self::Replace(_) | Self::Restart)
    }
}

impl Update {
    /// The change of a listener between two configurations; `None` without a change.
    pub(super) fn of(name: &str, before: Option<&Entry>, after: Option<&Entry>) -> Option<Self> {
        let effect = match (before, after) {
            (None, None) => return None,
            (Some(before), Some(after)) if before.value == after.value => return None,
            (Some(one), other) | (other, Some(one))
                if !is_tcp(one) || other.is_some_and(|two| !is_tcp(two)) =>
            {
                Effect::Skip
            }
            (Some(one), other) | (other, Some(one))
                if one.is_static || other.is_some_and(|two| two.is_static) =>
            {
                Effect::Restart
            }
            (None, Some(_)) => Effect::Add,
            (Some(_), None) => Effect::Remove,
            (Some(before), Some(after)) => effect(&before.value, &after.value),
        };
        let statistics = before.and_then(|before| statistics(&before.value));
        let chains = chains(before, after, &effect);
        Some(Self { listener: name.to_owned(), effect, chains, statistics })
    }

    /// Whether the change closes every connection of the listener.
    pub(super) fn drains_all(&self) -> bool {
        self.effect.drains_all()
    }

    /// Whether the change closes connections.
    pub(super) fn drains(&self) -> bool {
        self.drains_all() || self.chains.iter().any(|chain| chain.drained)
    }
}

/// What Envoy does with a listener that it can update.
fn effect(before: &Value, after: &Value) -> Effect {
    if reuses_port(before) != reuses_port(after) {
        return Effect::Refuse("enable_reuse_port cannot change in an update");
    }
    let mut because = differing_fields(before, after);
    if list(after, "filter_chains").is_empty() {
        because.push("no filter_chains, so Envoy cannot update in place".to_owned());
    }
    if uses_proxy_protocol(before) != uses_proxy_protocol(after) {
        because.push("use_proxy_proto of the first chain".to_owned());
    }
    if because.is_empty() { Effect::InPlace } else { Effect::Replace(because) }
}

/// The chains of both listeners, and whether Envoy drains them.
fn chains(before: Option<&Entry>, after: Option<&Entry>, effect: &Effect) -> Vec<Chain> {
    let old = before.map(|entry| labelled(&entry.value)).unwrap_or_default();
    let new = after.map(|entry| labelled(&entry.value)).unwrap_or_default();
    let kept: HashSet<(bool, &Value)> = new.iter().map(|chain| (chain.is_default, chain.value)).collect();
    let before: HashSet<(bool, &Value)> = old.iter().map(|chain| (chain.is_default, chain.value)).collect();
    let by_name: BTreeMap<&str, &Value> =
        new.iter().map(|chain| (chain.name.as_str(), chain.value)).collect();
    let names: BTreeSet<&str> = old.iter().map(|chain| chain.name.as_str()).collect();
    let mut all = Vec::new();
    for chain in &old {
        let same = kept.contains(&(chain.is_default, chain.value));
        let (change, differences) = match by_name.get(chain.name.as_str()) {
            _ if same => (Change::Kept, Vec::new()),
            Some(new) => (Change::Changed, differences(chain.value, new)),
            None => (Change::Removed, Vec::new()),
        };
        let drained = effect.drains_all() || (*effect == Effect::InPlace && !same);
        all.push(Chain { name: chain.name.clone(), change, differences, drained });
    }
    for chain in &new {
        let is_new =
            !before.contains(&(chain.is_default, chain.value)) && !names.contains(chain.name.as_str());
        if is_new {
            let (name, change) = (chain.name.clone(), Change::Added);
            all.push(Chain { name, change, differences: Vec::new(), drained: false });
        }
    }
    all
}

/// A chain with the name that texts use.
struct Labelled<'v> {
    name: String,
    is_default: bool,
    value: &'v Value,
}

fn labelled(listener: &Value) -> Vec<Labelled<'_>> {
    let mut all = Vec::new();
    for (number, value) in (1_usize..).zip(list(listener, "filter_chains")) {
        let name = match text(value, "name") {
            "" => format!("number {number}"),
            name => name.to_owned(),
        };
        all.push(Labelled { name, is_default: false, value });
    }
    if let Some(value) = listener.get("default_filter_chain") {
        all.push(Labelled { name: "default_filter_chain".to_owned(), is_default: true, value });
    }
    all
}

/// The fields in which two chains differ, and the filters that come or go.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let keys = |chain: &Value| {
        chain.as_object().map(|fields| fields.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default()
    };
    let differing = keys(before)
        .union(&keys(after))
        .filter(|key| before.get(key) != after.get(key))
        .cloned()
        .collect::<Vec<_>>();
    let names = |chain| {
        let filters: &[Value] = list(chain, "filters");
        filters.iter().map(|filter| text(filter, "name").to_owned()).collect::<BTreeSet<_>>()
    };
    let (old, new) = (names(before), names(after));
    let with = new.difference(&old).map(|name| format!("with {name}"));
    let without = old.difference(&new).map(|name| format!("without {name}"));
    differing.into_iter().chain(with).chain(without).collect()
}

/// The elements of a list; none if there is no list.
fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether each worker has a socket of its own, which is Envoy's default on Linux.
fn reuses_port(listener: &Value) -> bool {
    listener.get("enable_reuse_port") != Some(&false.into())
}

/// The deprecated field, of which Envoy reads only the one in the first chain.
fn uses_proxy_protocol(listener: &Value) -> bool {
    let first = list(listener, "filter_chains").first().or_else(|| listener.get("default_filter_chain"));
    first.and_then(|chain| chain.get("use_proxy_proto")) == Some(&true.into())
}

/// Whether the listener accepts TCP connections, connections to a Unix socket, or those of another listener.
fn is_tcp(entry: &Entry) -> bool {
    let protocol = entry.value.pointer("/address/socket_address/protocol").and_then(Value::as_str);
    entry.value.get("api_listener").is_none() && protocol != Some("UDP")
}

/// The name of the listener in statistics.
fn statistics(listener: &Value) -> Option<String> {
    if listener.get("internal_listener").is_some() && listener.get("stat_prefix").is_none() {
        return Some(format!("envoy_internal_{}", text(listener, "name")));
    }
    let listener: Listener = typed(listener, "$").ok()?;
    Some(listener.statistics()).filter(|name| !name.is_empty())
}
