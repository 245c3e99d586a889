//! Lines about servers that do not send a greeting, and about ports on which a server speaks first unexpectedly.

use log::Level;

use super::ConnectionLog;
use super::once::ReportOnce;
use crate::escape::word;
use crate::event::{Direction, ServerFirst};
use crate::rules::Expected;

/// Maximum number of ports that are remembered as reported. Further ports are not reported.
pub(in crate::filter) const MAX_PORTS: usize = 256;

/// Logs that the server has been silent for too long. The causes are in the order in which operators should check them. They
/// depend on the connection to the server, because only the proxy knows if it is established.
pub(in crate::filter) fn greeting_timeout(log: &ConnectionLog) {
    log.line(Level::Warn, || {
        let upstream = log.host.upstream_address().map(|text| word(&text));
        let causes = if upstream.is_some() && log.to.sends_header {
            "1: the server waits for the PROXY header, which send \"with_first_client_bytes\" cannot bring \
             before the client speaks: Percona Server, Vitess and accept-proxy listeners need Envoy's upstream_proxy_protocol \
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
        let destination = log.destination();
        let upstream = upstream.unwrap_or_else(|| "none".to_owned());
        format!("event=greeting_timeout {destination} upstream={upstream} causes=\"{causes}\"")
    });
}

/// Logs that a server spoke first on a port where no protocol or another one was expected. Logs one line for each port.
pub(in crate::filter) fn server_first(log: &ConnectionLog, reported: &ReportOnce<u16>, seen: ServerFirst) {
    let observed = match seen {
        ServerFirst::Mysql => Expected::Mysql,
        _ => Expected::ServerFirst,
    };
    let Some(address) = log.to.address else { return };
    let port = address.port();
    if log.to.expected == observed || !reported.is_first(port) {
        return;
    }
    // Outside a mesh no listener filter waits for the client unless the operator configures one.
    let outside = log.to.direction == Direction::Unspecified && log.to.expected == Expected::Unknown;
    let level = if outside { Level::Info } else { Level::Warn };
    log.line(level, || {
        let (address, seen) = (address.ip(), seen.label());
        let name = format!("tcp-{}", if seen == "other" { "server-first" } else { seen });
        let fix = match log.to.direction {
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
        let rule = observed.label();
        let (destination, expected) = (log.destination(), log.to.expected.label());
        format!(
            "event=server_first_undeclared {destination} seen={seen} expected={expected} fix=\"{fix}\" \
             rule=\"match.ports [{port}], protocol {rule}\""
        )
    });
}
