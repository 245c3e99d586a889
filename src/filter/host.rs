//! The interface between the filter and the proxy that it runs in.

use std::fmt;
use std::net::SocketAddr;

use log::Level;

use crate::clock::Timestamp;
use crate::event::{ClosedBy, Direction};

/// The proxy, during one callback about one connection.
///
/// Callbacks that are not about a connection use only the clock and the log. All methods take `&self`, because the clock of
/// a callback and the recorder of its events call the same value.
pub trait Host {
    /// Returns the time of the proxy's clock. Zero if the proxy has no clock, which makes all durations zero.
    fn now(&self) -> Timestamp;

    /// Writes a line to the proxy's log.
    fn log(&self, level: Level, line: &str);

    /// Returns the client's address. `None` if it is unknown or a Unix socket.
    fn peer(&self) -> Option<SocketAddr>;

    /// Returns the name of the cluster that the proxy chose. `None` before it has chosen one.
    fn cluster(&self) -> Option<Vec<u8>>;

    /// Returns the server's address. `None` before the connection to the server is established.
    fn upstream_address(&self) -> Option<Vec<u8>>;

    /// Returns the peer that ended the connection. The filter calls it only at the end of a connection, and only if the
    /// traffic does not show the peer.
    fn closed_by(&self) -> ClosedBy;

    /// Sets filter state of the connection, for access logs and for filters after this one.
    ///
    /// # Errors
    /// The proxy refused.
    fn set_filter_state(&self, key: &str, value: &str) -> Result<(), HostError>;

    /// Forwards the bytes that earlier callbacks held, or connects to the server if they held the connection.
    ///
    /// # Errors
    /// The proxy refused.
    fn resume(&self) -> Result<(), HostError>;

    /// Closes both sides of the connection when this callback has returned. Drops all held bytes.
    ///
    /// # Errors
    /// The proxy refused.
    fn close(&self) -> Result<(), HostError>;
}

/// Facts about a connection that are known when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Direction of the listener that accepted it.
    pub direction: Direction,
    /// Address that the client connected to. `None` if it is unknown or a Unix socket.
    pub destination: Option<SocketAddr>,
}

/// Call that the proxy refused.
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
