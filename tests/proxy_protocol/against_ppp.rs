//! Comparison of our parser with the package `ppp`. Each permitted difference quotes the specification. Otherwise, results,
//! lengths and addresses must be equal.

use std::net::{IpAddr, SocketAddr};

use firstword::proxy_protocol::{Endpoints, MAX_V2_LEN, Probe, probe};
use ppp::{HeaderResult, PartialResult, v1, v2};

/// Result of a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Incomplete,
    /// Not a header, or a malformed one.
    Refused,
    Header {
        len: usize,
        endpoints: Option<Endpoints>,
    },
}

pub fn ours(bytes: &[u8]) -> Outcome {
    match probe(bytes, MAX_V2_LEN) {
        Probe::Incomplete { .. } => Outcome::Incomplete,
        Probe::NoHeader | Probe::Malformed(_) => Outcome::Refused,
        Probe::Complete { header, len } => Outcome::Header { len, endpoints: header.endpoints() },
    }
}

fn endpoints(
    source: impl Into<IpAddr>,
    from: u16,
    destination: impl Into<IpAddr>,
    to: u16,
) -> Option<Endpoints> {
    let (source, destination) =
        (SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to));
    Some(Endpoints { source, destination })
}

pub fn theirs(bytes: &[u8]) -> Outcome {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() {
        return Outcome::Incomplete;
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let endpoints = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(a) => {
                    endpoints(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v1::Addresses::Tcp6(a) => {
                    endpoints(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
            };
            Outcome::Header { len: header.header.len(), endpoints }
        }
        HeaderResult::V2(Ok(header)) => {
            let ignored =
                header.command == v2::Command::Local || header.protocol == v2::Protocol::Unspecified;
            let endpoints = match header.addresses {
                _ if ignored => None,
                v2::Addresses::IPv4(a) => {
                    endpoints(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::IPv6(a) => {
                    endpoints(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Outcome::Header { len: header.len(), endpoints }
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Outcome::Refused,
    }
}

/// Reason for a permitted difference. `None` if the difference is an error.
fn permitted_difference(bytes: &[u8], ours: Outcome, theirs: Outcome) -> Option<&'static str> {
    let v2_byte =
        |index: usize| bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n").then(|| bytes.get(index)).flatten();
    match (ours, theirs) {
        (_, Outcome::Refused) if v2_byte(12) == Some(&0x20) => {
            Some("LOCAL: \"discard the protocol block including the family which is ignored\"")
        }
        (Outcome::Refused, Outcome::Incomplete) => {
            Some("no further byte can make it valid: \"abort the connection as soon as possible\"")
        }
        (Outcome::Refused, Outcome::Header { .. }) if v2_byte(12) == Some(&0x21) => {
            Some("vectors must end with the header, and a checksum must be verified: ppp checks neither")
        }
        (Outcome::Incomplete, Outcome::Refused) if bytes.starts_with(b"PROXY ") => {
            Some("a field that the next chunk may complete: ppp reads lines without their end")
        }
        (Outcome::Refused, Outcome::Header { .. }) if bytes.starts_with(b"PROXY UNKNOWN") => {
            Some("\"must not tolerate a single CR or LF character\"")
        }
        (Outcome::Header { .. }, _) if bytes.starts_with(b"PROXY UNKNOWN") => Some(
            "\"must ignore anything presented before the CRLF\", whatever its encoding or number of words",
        ),
        (Outcome::Refused, Outcome::Header { .. }) if bytes.starts_with(b"PROXY TCP") => {
            Some("\"decimal integer in the range [0..65535]\": ppp accepts a sign")
        }
        _ => None,
    }
}

/// Asserts that both results are equal, or that the specification explains the difference.
pub fn assert_equal(bytes: &[u8]) {
    let (ours, theirs) = (ours(bytes), theirs(bytes));
    if ours != theirs {
        assert!(
            permitted_difference(bytes, ours, theirs).is_some(),
            "{}: ours {ours:?}, theirs {theirs:?}",
            bytes.escape_ascii()
        );
    }
}

/// The endpoints with both addresses in one family, as in a header.
pub fn in_one_family(endpoints: Endpoints) -> Endpoints {
    let Endpoints { source, destination } = endpoints;
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mapped = |address| match address {
        IpAddr::V4(address) if from.is_ipv4() != to.is_ipv4() => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    };
    Endpoints {
        source: SocketAddr::new(mapped(from), source.port()),
        destination: SocketAddr::new(mapped(to), destination.port()),
    }
}
