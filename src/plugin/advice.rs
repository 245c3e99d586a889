//! What is told to the people who run a mesh about who speaks first where, and about PROXY headers: one line
//! in the log, with the cause and what to do.

use std::net::SocketAddr;

use log::Level;

use super::journal::Journal;
use super::stream::{attribute, cluster_name};
use crate::connection::Refusal;
use crate::escape::word;
use crate::event::{Direction, Protocol, ServerFirst};

/// So many ports are remembered as told of; one who opens more of them has been told enough.
const MAX_PORTS: usize = 256;

/// Where a connection goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) direction: Direction,
    /// None: a Unix socket, or unknown.
    pub(super) destination: Option<SocketAddr>,
    /// What a rule or the port table expects there.
    pub(super) expected: Protocol,
    /// The server gets a PROXY header from this filter, and not before the client's first bytes.
    pub(super) sends: bool,
    /// Answers to COM_STMT_PREPARE are held until they are complete, at least for clients that hang otherwise.
    pub(super) holds: bool,
    /// The server's greeting loses the offer of TLS.
    pub(super) clears_tls: bool,
}

impl Place {
    pub(super) fn text(&self) -> String {
        let direction = self.direction.label();
        let destination = self.destination.map_or("unknown".to_owned(), |address| address.to_string());
        let cluster = cluster_name().unwrap_or_else(|| "unknown".to_owned());
        format!("direction={direction} destination={destination} cluster={cluster}")
    }
}

/// The server of a connection has been silent for too long. The causes are in the order in which they
/// are to be looked for; of the first only the host knows.
pub(super) fn greeting_timeout(journal: &Journal, place: &Place) {
    journal.line(Level::Warn, || {
        let upstream = attribute("upstream\0address").map(|text| word(&text));
        let causes = if upstream.is_some() && place.sends {
            "1: the server waits for the PROXY header, which send \"first_bytes\" cannot bring before the client \
             speaks: Percona Server, Vitess and accept-proxy listeners need Envoy's upstream_proxy_protocol \
             instead; 2: the server resolves the client's name in a slow DNS (skip_name_resolve), or is \
             overloaded; 3: the next hop waits for the client's bytes: tls_inspector, http_inspector or \
             proxy_protocol in its listener"
        } else if upstream.is_some() {
            "1: the server resolves the client's name in a slow DNS (skip_name_resolve), or is overloaded; \
             2: it waits for a PROXY header, as Percona Server, Vitess and accept-proxy listeners do \
             (Envoy's upstream_proxy_protocol sends one); \
             3: the next hop waits for the client's bytes: tls_inspector, http_inspector or proxy_protocol \
             in its listener; \
             4: the server behind this port does not speak first"
        } else {
            "the connection to the server is not established: address, firewall, the server's backlog"
        };
        let place = place.text();
        let upstream = upstream.unwrap_or_else(|| "none".to_owned());
        format!("event=greeting_timeout {place} upstream={upstream} causes=\"{causes}\"")
    });
}

/// A connection is no longer inspected, because its state needs more memory than it may use.
pub(super) fn out_of_memory(journal: &Journal, place: &Place) {
    journal.line(Level::Warn, || {
        format!(
            "event=opaque reason=memory {} cause=\"the state of connections takes limits.connection_state, or this client \
             pipelines more than the filter keeps of one connection\" fix=\"raise limits.connection_state, or find the \
             clients that pipeline or connect so much\"",
            place.text()
        )
    });
}

/// A connection is closed for the sake of a PROXY header.
pub(super) fn refused(journal: &Journal, place: &Place, peer: Option<SocketAddr>, refusal: &Refusal) {
    journal.line(Level::Warn, || {
        let peer = peer.map_or("unknown".to_owned(), |peer| peer.to_string());
        format!("event=proxy_protocol_refused {refusal} peer={peer} {}", place.text())
    });
}

/// Ports of which it has been told that a server speaks first there.
#[derive(Debug, Default)]
pub(super) struct ToldPorts(Vec<u16>);

impl ToldPorts {
    /// A server spoke first where it was not expected to, or in another protocol: told once for a port.
    pub(super) fn server_first(&mut self, journal: &Journal, place: &Place, spoken: ServerFirst) {
        let meant = match spoken {
            ServerFirst::Mysql => Protocol::Mysql,
            _ => Protocol::ServerFirst,
        };
        let Some(destination) = place.destination else { return };
        let port = destination.port();
        if place.expected == meant || self.0.len() >= MAX_PORTS || self.0.contains(&port) {
            return;
        }
        self.0.push(port);
        // Outside a mesh nothing waits for the client unless somebody says so.
        let outside = place.direction == Direction::Unspecified && place.expected == Protocol::Unknown;
        let level = if outside { Level::Info } else { Level::Warn };
        journal.line(level, || {
            let (address, spoken) = (destination.ip(), spoken.label());
            let name = format!("tcp-{}", if spoken == "other" { "server-first" } else { spoken });
            let fix = match place.direction {
                Direction::Outbound => format!(
                    "an HTTP Service on port {port} anywhere in the mesh makes this connection hang: declare a \
                     ServiceEntry with addresses [{address}] and the port {{number: {port}, name: {name}, \
                     protocol: TCP}}"
                ),
                Direction::Inbound => format!(
                    "name the Service's port {port} {name}, and for clients without a sidecar set \
                     portLevelMtls {port} to DISABLE in a PeerAuthentication: else they hang"
                ),
                Direction::Unspecified => {
                    format!("no listener filter may wait for the client on port {port}")
                }
            };
            let rule = meant.label();
            let (place, expected) = (place.text(), place.expected.label());
            format!(
                "event=server_first_undeclared {place} seen={spoken} expected={expected} fix=\"{fix}\" \
                 rule=\"match.ports [{port}], protocol {rule}\""
            )
        });
    }
}
