//! What the filter needs from the proxy it runs in.

use std::fmt;
use std::net::SocketAddr;

use log::Level;

use crate::clock::Timestamp;
use crate::event::{ClosedBy, Direction};

/// The proxy, during one callback about one connection.
///
/// A callback that is about no connection uses the clock and the log only. All methods take `&self`, because the clock of
/// a callback and the recorder of its events call the same value.
pub trait Host {
    /// Returns the time of the proxy's clock; zero, which makes all durations zero, if it has none.
    fn now(&self) -> Timestamp;

    /// Writes a line to the proxy's log.
    fn log(&self, level: Level, line: &str);

    /// Returns the address of the client's end of the connection; `None` if it is unknown or a Unix socket.
    fn peer(&self) -> Option<SocketAddr>;

    /// Returns the name of the cluster that the proxy chose; `None` before it has chosen one.
    fn cluster(&self) -> Option<Vec<u8>>;

    /// Returns the address of the server; `None` before the connection to it is established.
    fn upstream_address(&self) -> Option<Vec<u8>>;

    /// Returns the side that ended the connection. The filter calls it only at the end of a connection, and only if the
    /// traffic does not answer the question.
    fn closed_by(&self) -> ClosedBy;

    /// Sets filter state of the connection, for access logs and for filters after this one.
    ///
    /// # Errors
    /// The proxy refused.
    fn set_filter_state(&self, key: &str, value: &str) -> Result<(), HostError>;

    /// Forwards what earlier callbacks held: the client's bytes, or the connection to the server.
    ///
    /// # Errors
    /// The proxy refused.
    fn resume(&self) -> Result<(), HostError>;

    /// Closes both sides of the connection when this callback has returned. No held byte is delivered.
    ///
    /// # Errors
    /// The proxy refused.
    fn close(&self) -> Result<(), HostError>;
}

/// The facts about a connection that are known when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Direction of the listener that accepted it.
    pub direction: Direction,
    /// The address that the client connected to; `None` if it is unknown or a Unix socket.
    pub destination: Option<SocketAddr>,
}

/// A call that the proxy refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    /// Name of the call, as in the proxy's interface.
    pub call: &'static str,
    /// Status that the proxy returned, as text for a log line.
    pub status: String,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call={} status={}", self.call, self.status)
    }
}

impl std::error::Error for HostError {}
