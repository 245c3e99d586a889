//! Warnings: settings of a valid configuration that have no effect, or an effect that few operators want.

use firstword::config::{Config, Receive, Rule};
use firstword::rules::{Need, Untrusted};

use crate::reach::Reach;

/// A warning.
pub(super) struct Warning {
    pub(super) code: &'static str,
    /// The JSON path in the configuration.
    pub(super) path: String,
    pub(super) why: String,
}

/// The warnings of a configuration, whose filter sees these connections; empty if that is not known.
pub(super) fn of(config: &Config, reach: &[Reach]) -> Vec<Warning> {
    let rules = config.rules().iter().enumerate();
    rules
        .flat_map(|(index, rule)| [never_matches(index, rule, reach), trusts_no_network(index, rule)])
        .flatten()
        .collect()
}

fn never_matches(index: usize, rule: &Rule, reach: &[Reach]) -> Option<Warning> {
    if reach.is_empty() || reach.iter().any(|reach| reach.meets(rule)) {
        return None;
    }
    let seen: Vec<_> = reach.iter().map(Reach::in_words).collect();
    let why =
        format!("the rule can never match, because the filter only sees connections to {}", seen.join("; "));
    Some(Warning { code: "rule-never-matches", path: format!("$.rules[{index}].match"), why })
}

fn trusts_no_network(index: usize, rule: &Rule) -> Option<Warning> {
    let receive = rule.policy().proxy_protocol.receive.as_ref()?;
    let Receive { need: Need::Optional, untrusted: Untrusted::Close, trusted_networks, .. } = receive else {
        return None;
    };
    if trusted_networks.ranges().next().is_some() {
        return None;
    }
    let path = format!("$.rules[{index}].proxy_protocol.receive.trusted_networks");
    let why = "no network is trusted, so each connection with a PROXY header is closed. List the proxies that send headers";
    Some(Warning { code: "no-trusted-networks", path, why: why.to_owned() })
}
