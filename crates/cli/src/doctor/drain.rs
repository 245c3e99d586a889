//! A drain that cuts responses.

use firstword::escape;

use super::destination::Destination;
use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use super::envoy::filter_config::{TCP_PROXY, known};
use super::simulate::Journey;
use crate::findings::{Finding, Fix, Location, Severity};

/// The finding for a destination whose `tcp_proxy` closes draining connections at their next bytes.
pub(super) fn finding(dump: &Dump, to: &Destination, journeys: &[Journey]) -> Option<Finding> {
    let closes = |filter: &&Filter| {
        let config = known(filter, dump).filter(|config| config.kind() == TCP_PROXY);
        config.is_some_and(|config| config.body().get("check_drain_close") == Some(&true.into()))
    };
    let found = |journey: &Journey| {
        let filter = journey.chain?.filters.iter().find(closes)?;
        Some(Location {
            destination: Some(to.text()),
            listener: journey.listeners.last().map(|listener| escape::text(name(listener))),
            filter: Some(escape::text(&filter.name)),
            ..Location::default()
        })
    };
    let location = journeys.iter().find_map(found)?;
    let why = "tcp_proxy has check_drain_close. In a drain, Envoy closes each connection at its next bytes in either direction: it cuts \
               a result in the middle. The next command reaches the server, which executes it, and the client gets a close instead of \
               the response, also for a COMMIT. Idle connections stay open.";
    let fix = Fix::advice(
        "Remove check_drain_close from tcp_proxy, and let the pools renew their connections",
        "connections stay open until the drain time is over, and are closed then.",
    );
    Some(Finding::new(Severity::Error, "drain-cuts-responses", location, why.to_owned(), vec![fix]))
}
