//! Reads the TCP segment of a captured packet.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use firstword::clock::Timestamp;

use super::pcap::Packet;

/// A TCP segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Number of the packet in the capture.
    pub(super) packet: u64,
    pub(super) at: Timestamp,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// The captured part of the payload.
    pub(super) bytes: Bytes,
    /// Length of the whole payload.
    pub(super) len: usize,
}

/// The ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

/// Why a packet is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    /// Not TCP over IP.
    NotTcp,
    /// A fragment of an IP packet.
    Fragment,
    /// Captured without its complete TCP header.
    Short,
    /// A link type that the command cannot read.
    LinkType(i32),
}

impl LeftOut {
    /// The reason in a report.
    pub(super) fn reason(self) -> String {
        match self {
            Self::NotTcp => "not TCP".to_owned(),
            Self::Fragment => "a fragment of an IP packet, which is not put together".to_owned(),
            Self::Short => "captured too short for its headers".to_owned(),
            Self::LinkType(link_type) => format!("of link type {link_type}, which is not read"),
        }
    }
}

/// `LINKTYPE_` numbers of <https://www.tcpdump.org/linktypes.html>.
mod link_type {
    pub(super) const NULL: i32 = 0;
    pub(super) const ETHERNET: i32 = 1;
    /// `DLT_RAW`, which some systems write into files.
    pub(super) const DLT_RAW: [i32; 2] = [12, 14];
    pub(super) const RAW: i32 = 101;
    pub(super) const LOOP: i32 = 108;
    pub(super) const LINUX_SLL: i32 = 113;
    pub(super) const IPV4: i32 = 228;
    pub(super) const IPV6: i32 = 229;
    pub(super) const LINUX_SLL2: i32 = 276;
}

/// Length of the header before IP on a BSD loopback, which is an address family.
const NULL_LEN: usize = 4;
/// Linux cooked captures: the offset of the protocol and the length of the header.
const SLL: (usize, usize) = (14, 16);
const SLL2: (usize, usize) = (0, 20);

/// Reads the headers of a packet.
pub(super) fn segment(packet: &Packet) -> Result<Segment, LeftOut> {
    let data = packet.data;
    let headers = match packet.link_type {
        link_type::ETHERNET => LaxSlicedPacket::from_ethernet(data).map_err(|_| LeftOut::Short)?,
        link_type::NULL | link_type::LOOP => ip(data.get(NULL_LEN..).ok_or(LeftOut::Short)?)?,
        link_type::RAW | link_type::IPV4 | link_type::IPV6 => ip(data)?,
        raw if link_type::DLT_RAW.contains(&raw) => ip(data)?,
        link_type::LINUX_SLL => cooked(data, SLL)?,
        link_type::LINUX_SLL2 => cooked(data, SLL2)?,
        other => return Err(LeftOut::LinkType(other)),
    };
    let (source, destination, payload, missing) = match headers.net.as_ref().ok_or(LeftOut::NotTcp)? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let all = usize::from(header.total_len()).checked_sub(header.slice().len());
            let authentication = ip.extensions().auth.as_ref().map_or(0, |auth| auth.slice().len());
            let captured = authentication.saturating_add(ip.payload().payload.len());
            let ends = (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()));
            (ends.0, ends.1, ip.payload(), all.map(|all| all.saturating_sub(captured)))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let all = Some(usize::from(header.payload_length())).filter(|length| *length > 0);
            let captured = ip.extensions().slice().len().saturating_add(ip.payload().payload.len());
            let ends = (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()));
            (ends.0, ends.1, ip.payload(), all.map(|all| all.saturating_sub(captured)))
        }
        LaxNetSlice::Arp(_) => return Err(LeftOut::NotTcp),
    };
    if payload.fragmented {
        return Err(LeftOut::Fragment);
    }
    let tcp = match &headers.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp,
        None if payload.ip_number == etherparse::ip_number::TCP => return Err(LeftOut::Short),
        _ => return Err(LeftOut::NotTcp),
    };
    let bytes = Bytes::copy_from_slice(tcp.payload());
    // The length is 0 if the network card splits the segments itself.
    let missing = missing.unwrap_or(packet.missing);
    Ok(Segment {
        packet: packet.number,
        at: packet.at,
        from: SocketAddr::new(source, tcp.source_port()),
        to: SocketAddr::new(destination, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        len: bytes.len().saturating_add(missing),
        bytes,
    })
}

fn ip(data: &[u8]) -> Result<LaxSlicedPacket<'_>, LeftOut> {
    LaxSlicedPacket::from_ip(data).map_err(|_| if data.len() < 20 { LeftOut::Short } else { LeftOut::NotTcp })
}

fn cooked(data: &[u8], (protocol, len): (usize, usize)) -> Result<LaxSlicedPacket<'_>, LeftOut> {
    let (header, rest) = data.split_at_checked(len).ok_or(LeftOut::Short)?;
    let protocol = header.get(protocol..).and_then(|rest| rest.first_chunk()).ok_or(LeftOut::Short)?;
    Ok(LaxSlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(*protocol)), rest))
}
