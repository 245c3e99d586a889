//! The difference of two configurations.

use std::collections::BTreeSet;

use super::super::statistics::Statistics;
use super::configuration::Configuration;
use super::update::{Change, Effect, Update};

/// The difference of two configurations.
pub(super) struct Difference {
    pub(super) before: Configuration,
    pub(super) after: Configuration,
    /// Changed listeners, by name.
    pub(super) updates: Vec<Update>,
    /// Statistics before the change.
    pub(super) statistics: Option<Statistics>,
    /// Changed filters that Envoy discovers by name.
    pub(super) filters: Vec<(String, Change)>,
    /// What the comparison leaves out, in sentences.
    pub(super) not_compared: Vec<String>,
}

impl Difference {
    pub(super) fn between(
        before: Configuration,
        after: Configuration,
        statistics: Option<Statistics>,
    ) -> Self {
        let names: BTreeSet<_> = before.listeners.keys().chain(after.listeners.keys()).collect();
        let update = |name: &&String| {
            Update::of(name, before.listeners.get(name.as_str()), after.listeners.get(name.as_str()))
        };
        let updates: Vec<_> = names.iter().filter_map(update).collect();
        let filters = filters(&before, &after);
        let not_compared = not_compared(&before, &after, &updates);
        Self { before, after, updates, statistics, filters, not_compared }
    }

    /// 0: no connection is closed. 3: some are. 1: Envoy refuses a part of the change.
    pub(super) fn status(&self) -> u8 {
        let is_refused = |update: &Update| matches!(update.effect, Effect::Refuse(_));
        if !self.after.refused.is_empty() || self.updates.iter().any(is_refused) {
            1
        } else if self.updates.iter().any(Update::drains) {
            3
        } else {
            0
        }
    }
}

/// The filters that Envoy discovers by name, as far as they differ.
fn filters(before: &Configuration, after: &Configuration) -> Vec<(String, Change)> {
    let names: BTreeSet<_> = before.extensions.keys().chain(after.extensions.keys()).collect();
    let change = |name: &String| match (before.extensions.get(name), after.extensions.get(name)) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(old), Some(new)) if old != new => Some(Change::Changed),
        _ => None,
    };
    names.into_iter().filter_map(|name| Some((name.clone(), change(name)?))).collect()
}

fn not_compared(before: &Configuration, after: &Configuration, updates: &[Update]) -> Vec<String> {
    let mut all = vec![
        "clusters, endpoints, routes, secrets, and the rest of the bootstrap".to_owned(),
        "private keys inside a listener, because a dump hides them".to_owned(),
    ];
    let unnamed = before.unnamed.max(after.unnamed);
    if unnamed > 0 {
        all.push(format!(
            "{unnamed} listeners without a name: Envoy replaces such a listener in each update of listeners"
        ));
    }
    all.extend(updates.iter().filter(|update| update.effect == Effect::Skip).map(|update| {
        format!("the listener {}, because it does not accept TCP connections", update.listener)
    }));
    if before.content != after.content {
        all.push(
            "the spelling of values: the inputs are of two kinds, so a value in another spelling counts as a change"
                .to_owned(),
        );
    }
    if before.node != after.node {
        all.push(format!(
            "the pods: the inputs are of two nodes ({:?} and {:?}), so a difference of the pods counts as a change",
            before.node, after.node
        ));
    }
    all
}
