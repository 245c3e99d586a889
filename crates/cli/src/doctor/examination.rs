//! The whole examination: each destination with each kind of client, the listeners, the filter, the statistics.

use std::collections::BTreeMap;

use super::destination::{Destination, Reason, Side};
use super::diagnose;
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::known;
use super::envoy::listener_filter::{Kind, kind};
use super::input::Input;
use super::listeners::WAITING_NOW;
use super::plugin::Plugin;
use super::simulate::{Client, Journey, chain_for, journey};
use super::{drain, listeners, native, shared, tls, wasm};
use crate::findings::{Finding, Location, Severity};

pub(super) struct Examination<'i> {
    pub(super) input: &'i str,
    pub(super) destinations: Vec<(&'i Destination, Vec<Journey<'i>>)>,
    /// Findings, the worst first.
    pub(super) findings: Vec<Finding>,
}

impl<'i> Examination<'i> {
    pub(super) fn new(input: &'i Input, destinations: &'i [Destination]) -> Self {
        let dump = &input.dump;
        let destinations: Vec<_> = destinations.iter().map(|to| (to, journeys(dump, to))).collect();
        let mut findings = Vec::new();
        let mut forwarded: BTreeMap<&str, Vec<Finding>> = BTreeMap::new();
        for (to, journeys) in &destinations {
            if to.reason != Reason::Forwarded {
                findings.extend(drain::finding(dump, to, journeys));
                findings.extend(tls::findings(dump, to, journeys));
            }
            for finding in diagnose::findings(dump, to, journeys) {
                if to.reason == Reason::Forwarded {
                    forwarded.entry(finding.code).or_default().push(finding);
                } else {
                    findings.push(finding);
                }
            }
        }
        findings.extend(forwarded.into_values().filter_map(merge));
        let all = !destinations.iter().any(|(to, _)| to.reason == Reason::Requested);
        let known = destinations.iter().filter(|(to, _)| to.reason != Reason::Forwarded);
        let waits: Vec<_> =
            known.flat_map(|(_, journeys)| journeys).flat_map(|journey| &journey.waits).collect();
        let waits: Vec<_> = waits.into_iter().map(|wait| wait.listener).collect();
        findings.extend(listeners::findings(dump, input.statistics.as_ref(), &waits, all));
        findings.extend(shared::findings(dump));
        findings.extend(native::finding(dump));
        findings.extend(wasm::findings(dump));
        // Connections that hang now come first.
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.code != WAITING_NOW));
        for (fix, number) in findings.iter_mut().flat_map(|finding| &mut finding.fixes).zip(1..) {
            fix.number = number;
        }
        Self { input: &input.name, destinations, findings }
    }

    /// Whether a finding is only good to know, so that the report names it on request.
    pub(super) fn is_note(&self, finding: &Finding) -> bool {
        let explains = |(to, journeys): &(&Destination, Vec<Journey>)| {
            to.reason == Reason::Requested
                && Some(to.text()) == finding.location.destination
                && journeys.iter().any(Journey::is_refused)
        };
        finding.severity == Severity::Info && !self.destinations.iter().any(explains)
    }
}

/// The connection of each kind of client that may connect.
fn journeys<'d>(dump: &'d Dump, to: &Destination) -> Vec<Journey<'d>> {
    let silent = journey(dump, to, Client::Silent);
    let header = expects_header(dump, to, &silent).then(|| journey(dump, to, Client::ProxyHeader));
    let inbound = to.side == Side::Inbound;
    let mesh = inbound.then(|| journey(dump, to, Client::Mesh)).filter(Journey::has_chain_for_client);
    [Some(silent), header, mesh].into_iter().flatten().collect()
}

/// Whether a filter on the way removes a PROXY header.
fn expects_header(dump: &Dump, to: &Destination, journey: &Journey) -> bool {
    let port = to.port;
    journey.listeners.iter().any(|listener| {
        let native = listener.listener_filters.iter().any(|filter| {
            let disabled = filter.filter_disabled.as_ref().is_some_and(|disabled| disabled.matches(port));
            !disabled && kind(filter, dump) == Kind::ProxyProtocol
        });
        let receives = |filter: &Filter| {
            let plugin = known(filter, dump).and_then(|any| Plugin::of(&filter.name, any));
            plugin.is_some_and(|plugin| plugin.receives_header(to))
        };
        let chain_receives = |chain: &FilterChain| chain.filters.iter().any(receives);
        if native || listener.filter_chain_matcher.is_some() {
            return native || chain_for(listener, to).is_some_and(chain_receives);
        }
        let mut for_port = listener.chains().filter(|chain| {
            chain.filter_chain_match.destination_port.is_none_or(|wanted| wanted == u32::from(port))
        });
        for_port.any(chain_receives)
    })
}

/// Merges findings of destinations for which nothing suggests a server-first protocol.
fn merge(findings: Vec<Finding>) -> Option<Finding> {
    let count = findings.len();
    let destinations: Vec<_> =
        findings.iter().filter_map(|finding| finding.location.destination.clone()).take(20).collect();
    let more = if count > destinations.len() { ", ..." } else { "" };
    let mut first = findings.into_iter().next()?;
    if count > 1 {
        first.location = Location {
            destination: Some(format!("{}{more}", destinations.join(", "))),
            ..Default::default()
        };
        first.title = "connections would wait, if a server speaks first there".to_owned();
        first.why = format!("Of the first: {}", first.why);
    } else {
        first.title = format!("if a server speaks first there, {}", first.title);
    }
    // With --dest the user gets the fixes for one destination.
    first.fixes.clear();
    Some(first)
}
