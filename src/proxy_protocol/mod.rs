//! The PROXY protocol: the header before a connection's first bytes that names the original client.
//!
//! Sections are those of HAProxy's `doc/proxy-protocol.txt`, "The PROXY protocol, Versions 1 & 2". This module keeps no
//! state and reads no bytes: [`probe`] takes all bytes of a connection so far, and classifies them.

mod error;
pub mod networks;
mod tlv;
mod v1;
mod v2;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use error::{Defect, Found, HeaderError};
pub use tlv::{Tlv, TlvError, Tlvs, crc32c, kind};

use crate::labels::labels;

/// Maximum length of a header of version 1 in bytes, including CRLF (section 2.1). No limit should be smaller.
pub const MAX_V1_LEN: usize = v1::MAX_LEN;
/// Maximum length of a header of version 2 in bytes (section 2.2): 16 bytes and a 16-bit length.
pub const MAX_V2_LEN: usize = 65_551;

labels! {
    /// Format of a header.
    Format {
        /// Human-readable (section 2.1).
        V1 = "v1",
        /// Binary (section 2.2).
        V2 = "v2",
    }
}

/// Transport protocol of the connection that a header describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `UNKNOWN`, or `UNSPEC`.
    Unspecified,
    /// `SOCK_STREAM`: TCP, or a Unix stream.
    Stream,
    /// `SOCK_DGRAM`: UDP, or Unix datagrams.
    Datagram,
}

/// Both ends of the connection that a header describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Address of the client.
    pub source: SocketAddr,
    /// Address that the client connected to.
    pub destination: SocketAddr,
}

/// Addresses in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// No addresses, or addresses of an unknown kind. The addresses of the real connection apply.
    Unspecified,
    /// IPv4 or IPv6.
    Inet(Endpoints),
    /// `sun_path` of both ends, 108 bytes each.
    Unix {
        /// Path of the client.
        source: &'a [u8],
        /// Path that the client connected to.
        destination: &'a [u8],
    },
}

/// Complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Format of the header.
    pub format: Format,
    /// True if the command is `LOCAL`: the sender itself opened the connection, for example for a health check. Version 1
    /// does not have this command.
    pub local: bool,
    /// Transport protocol of the connection.
    pub transport: Transport,
    /// Addresses of the connection.
    pub addresses: Addresses<'a>,
    tlvs: &'a [u8],
}

impl<'a> Header<'a> {
    /// Addresses that a receiver uses in place of those of the real connection if it trusts the sender. `None` if the
    /// addresses of the real connection apply (`LOCAL`, `UNKNOWN`, `UNSPEC`, Unix sockets; section 2.2).
    #[must_use]
    pub fn endpoints(&self) -> Option<Endpoints> {
        match (self.transport, self.addresses) {
            (Transport::Stream | Transport::Datagram, Addresses::Inet(endpoints)) => Some(endpoints),
            _ => None,
        }
    }

    /// Type-length-value vectors after the addresses (section 2.2). In a header that [`probe`] accepts they are complete.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }
}

/// Classification of all bytes of a connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<'a> {
    /// They are not the start of a header.
    NoHeader,
    /// They are the start of a header, or of its signature: at most 5 bytes of `PROXY ` or 11 bytes of the binary signature.
    /// The empty input is the start of both.
    Incomplete {
        /// Format of the header. `None` until the signature is complete.
        format: Option<Format>,
        /// Minimum number of bytes, including these, that can change the classification.
        needs: usize,
    },
    /// The first `len` bytes are a header.
    Complete {
        /// Parsed header.
        header: Header<'a>,
        /// Length of the header in bytes.
        len: usize,
    },
    /// They are a header that violates the specification. The connection must be closed.
    Malformed(HeaderError),
}

/// Classifies `bytes`, which are all bytes of a connection so far. `max_len`: maximum length of a header of version 2, at most
/// [`MAX_V2_LEN`].
///
/// Returns [`Probe::Malformed`] as soon as no further byte can make the header valid.
#[must_use]
pub fn probe(bytes: &[u8], max_len: usize) -> Probe<'_> {
    match v1::probe(bytes) {
        Probe::NoHeader => v2::probe(bytes, max_len),
        known => known,
    }
}

/// Returns the format of the PROXY header that servers recognise in place of a packet header with these four bytes. `None` if
/// they read a packet.
///
/// MariaDB compares only these bytes with the signatures, and parses the rest less strictly than [`probe`]. No packet of the
/// connection phase begins with them: it would have 5,198,416 bytes and sequence id 88, or 854,541 bytes and sequence id 10.
#[must_use]
pub fn looks_like_header(packet_header: [u8; 4]) -> Option<Format> {
    let begins = |signature: &[u8]| signature.starts_with(&packet_header);
    if begins(v1::SIGNATURE) { Some(Format::V1) } else { begins(v2::SIGNATURE).then_some(Format::V2) }
}

/// Encodes a header with these addresses: at most 104 bytes in version 1, 28 (IPv4) or 52 (IPv6) bytes in version 2. If only
/// one address is an IPv4 address, it is encoded as IPv4-mapped. `None` encodes unknown addresses: `UNKNOWN` or `LOCAL`.
#[must_use]
pub fn encode(format: Format, endpoints: Option<Endpoints>) -> Vec<u8> {
    let family = endpoints.map(|Endpoints { source, destination }| {
        let ports = (source.port(), destination.port());
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Family::V4(source, destination, ports),
            (source, destination) => Family::V6(v6(source), v6(destination), ports),
        }
    });
    match format {
        Format::V1 => v1::encode(family),
        Format::V2 => v2::encode(family),
    }
}

/// Two addresses of one family, and their ports.
#[derive(Clone, Copy)]
enum Family {
    V4(Ipv4Addr, Ipv4Addr, (u16, u16)),
    V6(Ipv6Addr, Ipv6Addr, (u16, u16)),
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests;
