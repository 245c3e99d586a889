//! `match`: the connections to which a rule applies.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::coverage::{Point, Ranges};
use super::error::Problems;
use super::field::{Field, Object};
use super::keys;
use crate::event::Direction;
use crate::proxy_protocol::networks::Networks;

/// The conditions of a rule. An absent condition (`None`) matches every connection, also one with an unknown port or
/// address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    ports: Option<Vec<RangeInclusive<u16>>>,
    addresses: Option<Networks>,
    direction: Option<Direction>,
}

impl Match {
    /// Reads `match`. `None` if it has a problem.
    pub(super) fn read(rule: &Object<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(field) = rule.get("match") else { return Some(Self::default()) };
        let before = problems.count();
        let object = field.object(&keys::MATCH, problems)?;
        let matching = Self {
            ports: object.get("ports").and_then(|field| read_ports(&field, problems)),
            addresses: object.get("addresses").and_then(|field| read_networks(&field, problems)),
            direction: object.get("direction").and_then(|field| read_direction(&field, problems)),
        };
        (problems.count() == before).then_some(matching)
    }

    pub(super) fn matches(&self, port: Option<u16>, address: Option<IpAddr>, direction: Direction) -> bool {
        let port_matches = |ports: &Vec<RangeInclusive<u16>>| {
            port.is_some_and(|port| ports.iter().any(|range| range.contains(&port)))
        };
        let address_matches = |networks: &Networks| address.is_some_and(|address| networks.contains(address));
        self.ports.as_ref().is_none_or(port_matches)
            && self.addresses.as_ref().is_none_or(address_matches)
            && self.direction.is_none_or(|wanted| wanted == direction)
    }

    pub(super) fn ports(&self) -> &[RangeInclusive<u16>] {
        self.ports.as_deref().unwrap_or_default()
    }

    pub(super) fn direction(&self) -> Option<Direction> {
        self.direction
    }

    pub(super) fn has_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// The connections that the conditions match, in a form that can be compared.
    pub(super) fn coverage(&self) -> Coverage {
        Coverage {
            ports: self.ports.as_ref().map(Ranges::new),
            addresses: self.addresses.as_ref().map(|networks| Ranges::new(networks.ranges())),
            direction: self.direction,
        }
    }
}

/// The connections that a rule matches. An absent condition (`None`) matches every connection.
#[derive(Debug)]
pub(super) struct Coverage {
    ports: Option<Ranges<Point>>,
    addresses: Option<Ranges<Point>>,
    direction: Option<Direction>,
}

impl Coverage {
    /// Whether this rule matches every connection that the other rule matches.
    pub(super) fn contains(&self, other: &Self) -> bool {
        contains(&self.direction, &other.direction, PartialEq::eq)
            && contains(&self.ports, &other.ports, Ranges::contains)
            && contains(&self.addresses, &other.addresses, Ranges::contains)
    }
}

fn contains<T>(ours: &Option<T>, theirs: &Option<T>, both: impl Fn(&T, &T) -> bool) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ours), Some(theirs)) => both(ours, theirs),
    }
}

fn read_ports(field: &Field<'_>, problems: &mut Problems) -> Option<Vec<RangeInclusive<u16>>> {
    let items = field.array("ports and ranges of ports", problems)?;
    if items.is_empty() {
        field.refuse("at least one port (without the key every port matches)", problems);
    }
    Some(items.iter().filter_map(|item| read_port(item, problems)).collect())
}

/// `3306` or `"10000-10099"`.
fn read_port(field: &Field<'_>, problems: &mut Problems) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let range = match field.text() {
        Some(text) => text.split_once('-').and_then(|(first, last)| Some(port(first)?..=port(last)?)),
        None => port(&field.node.to_string()).map(|port| port..=port),
    };
    match &range {
        None => field.refuse("a port from 1 to 65535 or a range like \"10000-10099\"", problems),
        Some(range) if range.is_empty() => {
            let meant = format!("\"{}-{}\"", range.end(), range.start());
            field.refuse(
                &format!("a range from the lower to the higher port (did you mean {meant}?)"),
                problems,
            );
        }
        Some(_) => {}
    }
    range
}

/// A list of networks: `match.addresses`, `trusted_networks`.
pub(super) fn read_networks(field: &Field<'_>, problems: &mut Problems) -> Option<Networks> {
    let items = field.array("addresses and networks", problems)?;
    if items.is_empty() {
        field.refuse("at least one address or network", problems);
    }
    let mut networks = Networks::default();
    for item in items {
        match item.text().map(|text| networks.add(text)) {
            None => item.refuse("a string with an address or a network", problems),
            Some(Err(error)) => item.refuse(&error.to_string(), problems),
            Some(Ok(())) => {}
        }
    }
    Some(networks)
}

fn read_direction(field: &Field<'_>, problems: &mut Problems) -> Option<Direction> {
    let all = [Direction::Inbound, Direction::Outbound, Direction::Unspecified];
    field.word(&all.map(|direction| (direction.label(), direction)), problems)
}
