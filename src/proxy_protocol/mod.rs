//! The PROXY protocol: the header in front of a connection that says who really connected.
//!
//! Sections are those of HAProxy's `doc/proxy-protocol.txt`, "The PROXY protocol, Versions 1 & 2". Nothing here keeps
//! state or reads: [`probe`] is asked about all bytes of a connection so far, and says what they are.

mod error;
pub mod networks;
mod tlv;
mod v1;
mod v2;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use error::{Defect, Found, HeaderError};
pub use tlv::{Tlv, TlvError, Tlvs, crc32c, kind};

use crate::labels::labels;

/// The longest header of version 1, with its CRLF (section 2.1): what the smallest sensible limit has to allow.
pub const MAX_V1_LEN: usize = v1::MAX_LEN;
/// The longest header of version 2 (section 2.2): 16 bytes and a 16-bit length.
pub const MAX_V2_LEN: usize = 65_551;

labels! {
    /// The two formats of a header.
    Format {
        /// Human-readable (section 2.1).
        V1 = "v1",
        /// Binary (section 2.2).
        V2 = "v2",
    }
}

/// The protocol of the connection a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `UNKNOWN`, or `UNSPEC`.
    Unspecified,
    /// `SOCK_STREAM`: TCP, or a Unix stream.
    Stream,
    /// `SOCK_DGRAM`: UDP, or Unix datagrams.
    Datagram,
}

/// Both ends of the connection a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where the client connected from.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// The addresses in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// None, or none of a kind this protocol names: the real connection's hold.
    Unspecified,
    /// IPv4 or IPv6.
    Inet(Endpoints),
    /// `sun_path` of both ends, 108 bytes each.
    Unix {
        /// Of the client.
        source: &'a [u8],
        /// Of what it connected to.
        destination: &'a [u8],
    },
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which format it has.
    pub format: Format,
    /// The command is `LOCAL`: the sender connected for itself, as for a health check. Never in version 1.
    pub local: bool,
    /// The connection's protocol.
    pub transport: Transport,
    /// The connection's addresses.
    pub addresses: Addresses<'a>,
    tlvs: &'a [u8],
}

impl<'a> Header<'a> {
    /// What a receiver that trusts the sender uses in place of the real connection's ends. None: those hold
    /// (`LOCAL`, `UNKNOWN`, `UNSPEC`, Unix sockets; section 2.2).
    #[must_use]
    pub fn endpoints(&self) -> Option<Endpoints> {
        match (self.transport, self.addresses) {
            (Transport::Stream | Transport::Datagram, Addresses::Inet(endpoints)) => Some(endpoints),
            _ => None,
        }
    }

    /// The type-length-value vectors behind the addresses (section 2.2). Those of a header that [`probe`] accepted are
    /// whole.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }
}

/// What all bytes of a connection so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<'a> {
    /// Not the beginning of a header.
    NoHeader,
    /// The beginning of a header, or of its signature: at most 5 bytes of `PROXY ` or 11 of the binary one. The empty
    /// input is the beginning of both.
    Incomplete {
        /// The format, once the signature is complete.
        format: Option<Format>,
        /// The fewest bytes, these included, that can say anything else.
        needs: usize,
    },
    /// A header, in the first `len` bytes.
    Complete {
        /// The header.
        header: Header<'a>,
        /// Its length in bytes.
        len: usize,
    },
    /// A header that breaks a rule of the specification: the connection must be closed.
    Malformed(HeaderError),
}

/// Says what `bytes`, all of a connection so far, are; a header of version 2 may be `max_len` bytes long, up to
/// [`MAX_V2_LEN`].
/// It says [`Probe::Malformed`] as soon as no further byte can make it a valid header.
#[must_use]
pub fn probe(bytes: &[u8], max_len: usize) -> Probe<'_> {
    match v1::probe(bytes) {
        Probe::NoHeader => v2::probe(bytes, max_len),
        known => known,
    }
}

/// Whether a packet that begins with these four bytes, which are the header of every MySQL packet, is taken for a
/// PROXY header by servers: MariaDB compares no more of a signature than this, and reads the rest less strictly than
/// [`probe`].
///
/// No packet of the connection phase begins so: it would be of 5,198,416 bytes with sequence id 88, or of 854,541 with
/// sequence id 10.
#[must_use]
pub fn looks_like_header(packet_header: [u8; 4]) -> Option<Format> {
    let begins = |signature: &[u8]| signature.starts_with(&packet_header);
    if begins(v1::SIGNATURE) { Some(Format::V1) } else { begins(v2::SIGNATURE).then_some(Format::V2) }
}

/// A header with these addresses: at most 104 bytes in version 1, 28 (IPv4) or 52 (IPv6) in version 2. Where only one
/// of them is of IPv4, it is written as IPv4-mapped. None: one that says that they are not known, `UNKNOWN` or `LOCAL`.
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
