//! All that is looked at: each destination with each kind of client, the listeners, the filter, the statistics.

use std::collections::BTreeMap;

use super::destination::{Because, Destination, Side};
use super::diagnose;
use super::envoy::dump::Dump;
use super::input::Input;
use super::plugin::Plugin;
use super::simulate::{Client, Configured, Journey, Kind, configured, is_for, journey, kind};
use super::{listeners, wasm};
use crate::findings::Finding;

pub(super) struct Examination<'i> {
    pub(super) input: &'i str,
    pub(super) destinations: Vec<(&'i Destination, Vec<Journey<'i>>)>,
    /// The worst first.
    pub(super) findings: Vec<Finding>,
}

impl<'i> Examination<'i> {
    pub(super) fn new(input: &'i Input, destinations: &'i [Destination]) -> Self {
        let dump = &input.dump;
        let destinations: Vec<_> = destinations.iter().map(|to| (to, journeys(dump, to))).collect();
        let mut findings = Vec::new();
        let mut passed_on: BTreeMap<&str, Vec<Finding>> = BTreeMap::new();
        for (to, journeys) in &destinations {
            for finding in diagnose::findings(dump, to, journeys) {
                if to.because == Because::PassedOn {
                    passed_on.entry(finding.code).or_default().push(finding);
                } else {
                    findings.push(finding);
                }
            }
        }
        findings.extend(passed_on.into_values().filter_map(together));
        let all = !destinations.iter().any(|(to, _)| to.because == Because::Asked);
        findings.extend(listeners::findings(dump, input.statistics.as_ref(), all));
        findings.extend(wasm::findings(dump));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self { input: &input.name, destinations, findings }
    }
}

/// What becomes of each kind of client that may come.
fn journeys<'d>(dump: &'d Dump, to: &Destination) -> Vec<Journey<'d>> {
    let silent = journey(dump, to, Client::Silent);
    let header = expects_header(dump, to, &silent).then(|| journey(dump, to, Client::ProxyHeader));
    let inbound = to.side == Side::Inbound;
    let mesh =
        inbound.then(|| journey(dump, to, Client::Mesh)).filter(|mesh| is_for(mesh.client, mesh.chain));
    [Some(silent), header, mesh].into_iter().flatten().collect()
}

/// Whether something on the way takes a PROXY header away.
fn expects_header(dump: &Dump, to: &Destination, journey: &Journey) -> bool {
    let port = to.port;
    journey.listeners.iter().any(|listener| {
        let native = listener.listener_filters.iter().any(|filter| {
            let disabled = filter.filter_disabled.as_ref().is_some_and(|disabled| disabled.matches(port));
            !disabled && kind(filter, dump).0 == Kind::ProxyProtocol
        });
        let for_port = listener.chains().filter(|chain| {
            chain.filter_chain_match.destination_port.is_none_or(|wanted| wanted == u32::from(port))
        });
        let mut filters = for_port.flat_map(|chain| &chain.filters);
        native
            || filters.any(|filter| match configured(dump, filter) {
                Configured::Here(any) => {
                    Plugin::of(&filter.name, any).is_some_and(|plugin| plugin.receives_header(to))
                }
                Configured::Elsewhere | Configured::Missing => false,
            })
    })
}

/// Findings of destinations of which nothing says that a server speaks first there, in one.
fn together(findings: Vec<Finding>) -> Option<Finding> {
    let count = findings.len();
    let destinations: Vec<_> =
        findings.iter().filter_map(|finding| finding.place.destination.clone()).take(20).collect();
    let more = if count > destinations.len() { ", ..." } else { "" };
    let mut first = findings.into_iter().next()?;
    if count > 1 {
        first.place = crate::findings::Place {
            destination: Some(format!("{}{more}", destinations.join(", "))),
            ..Default::default()
        };
        first.why = format!("If a server speaks first there. Of the first: {}", first.why);
    } else {
        first.why = format!("If a server speaks first there: {}", first.why);
    }
    // For one of them: with --dest.
    first.fixes.clear();
    Some(first)
}
