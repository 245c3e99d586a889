//! The destinations of all pods, each with what becomes of its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::candidates;
use super::super::destination::{Destination, Reason, Side, redirected};
use super::super::envoy::dump::Dump;
use super::super::simulate::{Client, Journey, Outcome, journey};
use super::http_service;

/// Maximum number of destinations of a mesh.
const MAX_ROWS: usize = 100_000;

/// Maximum number of pods that a row names.
const MAX_EXAMPLES: usize = 5;

/// What becomes of connections of a pod to a destination. The worst state of the pods is that of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Nothing waits, also with an HTTP Service.
    Safe,
    /// The configuration has a part that this command does not evaluate.
    Unknown,
    /// A listener filter would wait if an HTTP Service had the port number.
    WouldWait,
    /// A listener filter waits now.
    Waits,
}

/// The pods in a state.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pub(super) count: usize,
    /// The first ones.
    pub(super) examples: Vec<String>,
}

/// What the pods do with one destination.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The cluster to which a pod forwards.
    pub(super) cluster: Option<String>,
    pub(super) pods: BTreeMap<State, Pods>,
}

/// A destination in the order of the report: by address and port, then by the name that the user gave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) host: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) all: BTreeMap<Key, Row>,
    pub(super) sidecars: usize,
    pub(super) waypoints: usize,
    /// Gateways and standalone proxies. A Service's port changes none of their listeners.
    pub(super) others: usize,
    /// Destinations for which nothing suggests a server-first protocol, at most [`MAX_ROWS`] of them. They are not examined.
    pub(super) left_out: BTreeSet<(Option<IpAddr>, u16)>,
}

impl Row {
    pub(super) fn state(&self) -> State {
        self.pods.keys().next_back().copied().unwrap_or(State::Safe)
    }
}

impl Rows {
    /// Adds a pod's dump. `requested`: the destinations that the user named; `None` for those that the dump suggests.
    pub(super) fn add(
        &mut self,
        pod: &str,
        mut dump: Dump,
        requested: Option<Vec<Destination>>,
    ) -> Result<(), String> {
        let side = if dump.waypoint().is_some() {
            self.waypoints = self.waypoints.saturating_add(1);
            Side::Inbound
        } else if redirected(&dump, Side::Outbound).is_some() {
            self.sidecars = self.sidecars.saturating_add(1);
            Side::Outbound
        } else {
            self.others = self.others.saturating_add(1);
            return Ok(());
        };
        let mut destinations = requested.unwrap_or_else(|| self.suggested(&dump));
        // A pod's connections to itself need no Service.
        destinations.retain(|to| to.side == side);
        let now: Vec<_> = destinations.iter().map(|to| Seen::of(&dump, to)).collect();
        let ports = destinations.iter().map(|to| to.port).collect();
        http_service::add(&mut dump, &ports);
        for (to, now) in destinations.iter().zip(now) {
            let then = Seen::of(&dump, to);
            let state = match (now.waits, then.waits) {
                (true, _) => State::Waits,
                _ if now.is_unknown || then.is_unknown => State::Unknown,
                (false, true) => State::WouldWait,
                (false, false) => State::Safe,
            };
            let key = Key { ip: to.ip, port: to.port, host: to.host.clone() };
            let row = self.all.entry(key).or_default();
            row.cluster = row.cluster.take().or(now.cluster);
            let pods = row.pods.entry(state).or_default();
            pods.count = pods.count.saturating_add(1);
            if pods.examples.len() < MAX_EXAMPLES {
                pods.examples.push(pod.to_owned());
            }
            if self.all.len() > MAX_ROWS {
                return Err(format!(
                    "expected at most {MAX_ROWS} destinations in all dumps; choose with --dest"
                ));
            }
        }
        Ok(())
    }

    /// The destinations that may have a server-first protocol.
    fn suggested(&mut self, dump: &Dump) -> Vec<Destination> {
        let has_listener = |to: &Destination| {
            to.ip.is_some() || dump.listeners.iter().any(|listener| listener.is_for_any_address(to.port))
        };
        let (known, others): (Vec<_>, Vec<_>) = candidates::all(dump)
            .into_iter()
            .filter(has_listener)
            .partition(|to| to.reason != Reason::Forwarded);
        let room = MAX_ROWS.saturating_sub(self.left_out.len());
        self.left_out.extend(others.iter().map(|to| (to.ip, to.port)).take(room));
        known
    }
}

/// What a client sees that waits for the greeting.
struct Seen {
    waits: bool,
    is_unknown: bool,
    cluster: Option<String>,
}

impl Seen {
    fn of(dump: &Dump, to: &Destination) -> Self {
        let Journey { waits, outcome, cluster, .. } = journey(dump, to, Client::Silent);
        Self { waits: !waits.is_empty(), is_unknown: matches!(outcome, Outcome::Unknown(_)), cluster }
    }
}
