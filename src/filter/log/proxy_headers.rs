//! The line about a connection that is closed because of a PROXY header.

use std::net::SocketAddr;

use log::Level;

use super::ConnectionLog;
use crate::event::refusal::Refusal;

/// Logs that a connection from `peer` is closed because of a PROXY header.
pub(in crate::filter) fn refused(log: &ConnectionLog, peer: Option<SocketAddr>, refusal: &Refusal) {
    log.line(Level::Warn, || {
        let peer = peer.map_or("unknown".to_owned(), |peer| peer.to_string());
        let (destination, fix) = (log.destination(), refusal.why.fix());
        format!("event=proxy_protocol_refused {refusal} peer={peer} {destination} fix=\"{fix}\"")
    });
}
