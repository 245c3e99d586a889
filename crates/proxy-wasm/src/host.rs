//! Envoy as a host of the filter.

use std::net::SocketAddr;

use firstword::clock::Timestamp;
use firstword::event::{ClosedBy, Direction};
use firstword::filter::host::{ConnectionInfo, Host, HostError};
use log::Level;
use proxy_wasm::types::PeerType;

use crate::hostcalls::{self, property};

/// Bit of the attribute `response.flags`: Envoy's `CoreResponseFlag::UpstreamRemoteReset`, `UR`. `tcp_proxy` sets it when the
/// server resets an established connection. Envoy 1.37 and older do not set it.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// Envoy during one callback.
#[derive(Default)]
pub(crate) struct Envoy {
    /// Side of the client's connection that closed it. `None` except in the callback about the close.
    pub(crate) closed: Option<PeerType>,
}

impl Host for Envoy {
    fn now(&self) -> Timestamp {
        hostcalls::now()
    }

    fn log(&self, level: Level, line: &str) {
        hostcalls::log(level, line);
    }

    fn peer(&self) -> Option<SocketAddr> {
        address("source\0address")
    }

    fn cluster(&self) -> Option<Vec<u8>> {
        property("xds\0cluster_name").or_else(|| property("cluster_name"))
    }

    fn upstream_address(&self) -> Option<Vec<u8>> {
        property("upstream\0address")
    }

    fn closed_by(&self) -> ClosedBy {
        match self.closed {
            Some(PeerType::Remote) => ClosedBy::Client,
            Some(_) if response_flags() & UPSTREAM_REMOTE_RESET != 0 => ClosedBy::Server,
            _ => ClosedBy::Proxy,
        }
    }

    fn set_filter_state(&self, key: &str, value: &str) -> Result<(), HostError> {
        hostcalls::set_property(key, value)
    }

    fn resume(&self) -> Result<(), HostError> {
        hostcalls::resume()
    }

    fn close(&self) -> Result<(), HostError> {
        hostcalls::close()
    }
}

/// Reads the facts about the connection of this callback, which begins.
pub(crate) fn connection_info() -> ConnectionInfo {
    let direction = match integer("xds\0listener_direction") {
        Some(1) => Direction::Inbound,
        Some(2) => Direction::Outbound,
        _ => Direction::Unspecified,
    };
    ConnectionInfo { direction, destination: address("destination\0address") }
}

/// Reads an address, which Envoy writes as `ip:port` or `[ip]:port`. `None` if it is unknown or a Unix socket.
fn address(path: &str) -> Option<SocketAddr> {
    std::str::from_utf8(&property(path)?).ok()?.parse().ok()
}

fn response_flags() -> u64 {
    integer("response\0flags").unwrap_or(0)
}

fn integer(path: &str) -> Option<u64> {
    property(path)?.try_into().ok().map(u64::from_le_bytes)
}
