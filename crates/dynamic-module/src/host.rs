//! Envoy as a host of the filter.

use std::cell::Cell;
use std::net::SocketAddr;

use firstword::clock::Timestamp;
use firstword::event::{ClosedBy, Direction};
use firstword::filter::host::{ConnectionInfo, Host, HostError};
use log::Level;

use crate::abi::{self, ConnectionHandle};
use crate::clock;
use crate::types::{Attribute, CloseSide};

/// Bit of the attribute `response.flags`: Envoy's `CoreResponseFlag::UpstreamRemoteReset`, `UR`. `tcp_proxy` sets it when the
/// server resets an established connection.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// Envoy during one callback about a connection.
pub(crate) struct Envoy {
    handle: ConnectionHandle,
    /// Side of the client's connection that closed it. `None` except in the callback about the close.
    closed: Option<CloseSide>,
    resumes: Cell<bool>,
    closes: Cell<bool>,
}

impl Envoy {
    pub(crate) fn new(handle: ConnectionHandle, closed: Option<CloseSide>) -> Self {
        Self { handle, closed, resumes: Cell::new(false), closes: Cell::new(false) }
    }

    /// Does what the filter asked for. Call it when the filter is not borrowed, because Envoy calls other hooks meanwhile.
    pub(crate) fn finish(&self) {
        if self.resumes.take() {
            self.handle.resume();
        }
        if self.closes.take() {
            self.handle.close();
        }
    }
}

impl Host for Envoy {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn log(&self, level: Level, line: &str) {
        abi::log(level, line);
    }

    fn peer(&self) -> Option<SocketAddr> {
        socket_address(self.handle.peer()?)
    }

    fn cluster(&self) -> Option<Vec<u8>> {
        self.handle.text(Attribute::ClusterName).or_else(|| self.handle.upstream_cluster())
    }

    fn upstream_address(&self) -> Option<Vec<u8>> {
        Some(socket_address(self.handle.upstream()?)?.to_string().into_bytes())
    }

    fn closed_by(&self) -> ClosedBy {
        let flags = || self.handle.integer(Attribute::ResponseFlags).unwrap_or(0);
        match self.closed {
            Some(CloseSide::Client) => ClosedBy::Client,
            Some(CloseSide::Envoy) if flags() & UPSTREAM_REMOTE_RESET != 0 => ClosedBy::Server,
            _ => ClosedBy::Proxy,
        }
    }

    fn set_filter_state(&self, key: &str, value: &str) -> Result<(), HostError> {
        if self.handle.set_filter_state(key, value) {
            return Ok(());
        }
        Err(HostError { call: "set_filter_state", status: "REFUSED".to_owned() })
    }

    fn resume(&self) -> Result<(), HostError> {
        self.resumes.set(true);
        Ok(())
    }

    fn close(&self) -> Result<(), HostError> {
        self.closes.set(true);
        Ok(())
    }
}

/// Envoy in callbacks that are not about a connection.
pub(crate) struct Process;

impl Host for Process {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn log(&self, level: Level, line: &str) {
        abi::log(level, line);
    }

    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    fn cluster(&self) -> Option<Vec<u8>> {
        None
    }

    fn upstream_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn closed_by(&self) -> ClosedBy {
        ClosedBy::Proxy
    }

    fn set_filter_state(&self, _: &str, _: &str) -> Result<(), HostError> {
        Err(no_connection("set_filter_state"))
    }

    fn resume(&self) -> Result<(), HostError> {
        Err(no_connection("resume"))
    }

    fn close(&self) -> Result<(), HostError> {
        Err(no_connection("close"))
    }
}

fn no_connection(call: &'static str) -> HostError {
    HostError { call, status: "NO_CONNECTION".to_owned() }
}

/// Reads the facts about a connection, which begins.
pub(crate) fn connection_info(handle: ConnectionHandle) -> ConnectionInfo {
    let direction = match handle.integer(Attribute::ListenerDirection) {
        Some(1) => Direction::Inbound,
        Some(2) => Direction::Outbound,
        _ => Direction::Unspecified,
    };
    ConnectionInfo { direction, destination: handle.destination().and_then(socket_address) }
}

fn socket_address((address, port): (String, u32)) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse().ok()?, port.try_into().ok()?))
}
