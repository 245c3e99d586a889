//! Our parser beside that of the package `ppp`. Where the two differ the specification is quoted: everything else must be
//! the same, lengths and addresses included.

use std::net::{IpAddr, SocketAddr};

use firstword::proxy_protocol::{Endpoints, MAX_V2_LEN, Probe, probe};
use ppp::{HeaderResult, PartialResult, v1, v2};

/// What a parser says of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Incomplete,
    /// No header, or a malformed one.
    Refused,
    Header {
        len: usize,
        endpoints: Option<Endpoints>,
    },
}

pub fn ours(bytes: &[u8]) -> Said {
    match probe(bytes, MAX_V2_LEN) {
        Probe::Incomplete { .. } => Said::Incomplete,
        Probe::NoHeader | Probe::Malformed(_) => Said::Refused,
        Probe::Complete { header, len } => Said::Header { len, endpoints: header.endpoints() },
    }
}

fn between(
    source: impl Into<IpAddr>,
    from: u16,
    destination: impl Into<IpAddr>,
    to: u16,
) -> Option<Endpoints> {
    let (source, destination) =
        (SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to));
    Some(Endpoints { source, destination })
}

pub fn theirs(bytes: &[u8]) -> Said {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() {
        return Said::Incomplete;
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let endpoints = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v1::Addresses::Tcp6(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
            };
            Said::Header { len: header.header.len(), endpoints }
        }
        HeaderResult::V2(Ok(header)) => {
            let ignored =
                header.command == v2::Command::Local || header.protocol == v2::Protocol::Unspecified;
            let endpoints = match header.addresses {
                _ if ignored => None,
                v2::Addresses::IPv4(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::IPv6(a) => {
                    between(a.source_address, a.source_port, a.destination_address, a.destination_port)
                }
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Said::Header { len: header.len(), endpoints }
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Said::Refused,
    }
}

/// Where and why we say something else.
fn explained(bytes: &[u8], ours: Said, theirs: Said) -> Option<&'static str> {
    let v2_byte =
        |index: usize| bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n").then(|| bytes.get(index)).flatten();
    match (ours, theirs) {
        (_, Said::Refused) if v2_byte(12) == Some(&0x20) => {
            Some("LOCAL: \"discard the protocol block including the family which is ignored\"")
        }
        (Said::Refused, Said::Incomplete) => {
            Some("no further byte can make it valid: \"abort the connection as soon as possible\"")
        }
        (Said::Refused, Said::Header { .. }) if v2_byte(12) == Some(&0x21) => {
            Some("vectors must end with the header, and a checksum must be verified: ppp looks at neither")
        }
        (Said::Incomplete, Said::Refused) if bytes.starts_with(b"PROXY ") => {
            Some("a field that the next chunk may complete: ppp reads lines without their end")
        }
        (Said::Refused, Said::Header { .. }) if bytes.starts_with(b"PROXY UNKNOWN") => {
            Some("\"must not tolerate a single CR or LF character\"")
        }
        (Said::Header { .. }, _) if bytes.starts_with(b"PROXY UNKNOWN") => Some(
            "\"must ignore anything presented before the CRLF\", whatever its encoding or number of words",
        ),
        (Said::Refused, Said::Header { .. }) if bytes.starts_with(b"PROXY TCP") => {
            Some("\"decimal integer in the range [0..65535]\": ppp accepts a sign")
        }
        _ => None,
    }
}

/// Holds that both say the same, or that the specification explains why not.
pub fn compare(bytes: &[u8]) {
    let (ours, theirs) = (ours(bytes), theirs(bytes));
    if ours != theirs {
        assert!(
            explained(bytes, ours, theirs).is_some(),
            "{}: ours {ours:?}, theirs {theirs:?}",
            bytes.escape_ascii()
        );
    }
}

/// The endpoints with both addresses of one family, as a header has them.
pub fn of_one_family(endpoints: Endpoints) -> Endpoints {
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
