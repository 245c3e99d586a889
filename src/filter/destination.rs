//! Destination of a connection, as label values and as text for the log.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::host::Host;
use crate::event::Direction;
use crate::metrics::{ScopeLabel, label_value};
use crate::rules::Expected;

/// Destination of a connection, and the changes that its rule makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) direction: Direction,
    /// `None` if it is unknown or a Unix socket.
    pub(super) address: Option<SocketAddr>,
    /// Protocol that a rule or the port table expects there.
    pub(super) expected: Expected,
    /// True if the filter sends a PROXY header, which does not reach the server before the client's first bytes.
    pub(super) sends_header: bool,
    /// True if the filter holds COM_STMT_PREPARE responses until they are complete, at least for affected clients.
    pub(super) holds_split_eof: bool,
    /// True if the filter removes the offer of TLS from the server's greeting.
    pub(super) clears_tls: bool,
}

impl Destination {
    /// Returns the destination as fields of a log line.
    pub(super) fn text(&self, host: &dyn Host) -> String {
        let direction = self.direction.label();
        let address = self.address.map_or("unknown".to_owned(), |address| address.to_string());
        let cluster = cluster(host).unwrap_or_else(|| "unknown".to_owned());
        format!("direction={direction} destination={address} cluster={cluster}")
    }
}

/// Values of `metrics.labels` that are known when a connection begins.
#[derive(Debug)]
pub(super) struct Labels {
    direction: Direction,
    port: Cow<'static, str>,
}

impl Labels {
    /// `port`: `None` if it is not one of the bounded set of ports that become label values.
    pub(super) fn new(direction: Direction, port: Option<u16>) -> Self {
        Self { direction, port: port.map_or("other".into(), |port| port.to_string().into()) }
    }

    /// Returns the value of a label. `destination`: value of the label of that name, see [`label`].
    pub(super) fn value<'a>(&'a self, label: ScopeLabel, destination: &'a str) -> &'a str {
        match label {
            ScopeLabel::Direction => self.direction.label(),
            ScopeLabel::Destination => destination,
            ScopeLabel::Port => &self.port,
        }
    }
}

/// Returns the value of the label `destination`: the name of the rule, or the cluster that the proxy chose.
pub(super) fn label<'a>(rule: Option<&'a str>, host: &dyn Host) -> Cow<'a, str> {
    match rule {
        Some(name) => name.into(),
        None => cluster(host).map_or("passthrough".into(), Cow::from),
    }
}

/// Returns the cluster that the proxy chose, as a label value. `None` before it has chosen one.
fn cluster(host: &dyn Host) -> Option<String> {
    let name = label_value(std::str::from_utf8(&host.cluster()?).ok()?);
    (!name.is_empty()).then_some(name)
}
