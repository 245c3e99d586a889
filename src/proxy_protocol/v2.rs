//! Version 2, binary (section 2.2): signature (12 bytes), version and command, family and transport, length (2 bytes),
//! addresses, type-length-value vectors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Addresses, Defect, Endpoints, Family, Format, Found, Header, HeaderError, Probe, Transport, tlv,
};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the fixed part in bytes: signature, version and command, family and transport, length.
const FIXED_LEN: usize = 16;
/// Offset of the byte with version and command. The next constants are offsets too.
const VERSION_AND_COMMAND: usize = 12;
const FAMILY_AND_TRANSPORT: usize = 13;
const LENGTH: usize = 14;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DGRAM: u8 = 2;
/// Length of `sun_path` in bytes.
const UNIX_PATH_LEN: usize = 108;

pub(super) fn probe(bytes: &[u8], max_len: usize) -> Probe<'_> {
    let next = bytes.len().saturating_add(1);
    let Some(after_signature) = bytes.strip_prefix(SIGNATURE) else {
        return if SIGNATURE.starts_with(bytes) {
            Probe::Incomplete { format: None, needs: next }
        } else {
            Probe::NoHeader
        };
    };
    match fixed_part(after_signature, max_len) {
        Err(error) => Probe::Malformed(error),
        Ok(None) => Probe::Incomplete { format: Some(Format::V2), needs: next },
        Ok(Some(fixed)) => {
            let len = FIXED_LEN.saturating_add(fixed.length.into());
            match bytes.get(..len).map(|header| parse(&fixed, header)) {
                None => Probe::Incomplete { format: Some(Format::V2), needs: len },
                Some(Ok(header)) => Probe::Complete { header, len },
                Some(Err(error)) => Probe::Malformed(error),
            }
        }
    }
}

/// Values of the four bytes after the signature.
struct Fixed {
    local: bool,
    family: u8,
    transport: Transport,
    length: u16,
}

impl Fixed {
    fn addresses_len(&self) -> u16 {
        match self.family {
            INET => 12,
            INET6 => 36,
            UNIX => 216,
            _ => 0,
        }
    }
}

fn error(defect: Defect, at: usize, found: Found) -> HeaderError {
    HeaderError { format: Format::V2, defect, at, found }
}

/// Parses the four bytes after the signature, each as soon as it has arrived. `None` if bytes are missing.
fn fixed_part(after_signature: &[u8], max_len: usize) -> Result<Option<Fixed>, HeaderError> {
    let Some(version_and_command) = after_signature.first() else { return Ok(None) };
    let found = Found::Byte(*version_and_command);
    if version_and_command >> 4 != VERSION {
        return Err(error(Defect::Version, VERSION_AND_COMMAND, found));
    }
    let local = match version_and_command & 0xf {
        LOCAL => true,
        PROXY => false,
        _ => return Err(error(Defect::Command, VERSION_AND_COMMAND, found)),
    };
    let Some(family_and_transport) = after_signature.get(1) else { return Ok(None) };
    let found = Found::Byte(*family_and_transport);
    let (mut family, transport) = (family_and_transport >> 4, family_and_transport & 0xf);
    let transport = match transport {
        // "discard the protocol block including the family which is ignored"
        _ if local => {
            family = 0;
            Transport::Unspecified
        }
        _ if family > UNIX => return Err(error(Defect::Family, FAMILY_AND_TRANSPORT, found)),
        0 => Transport::Unspecified,
        STREAM => Transport::Stream,
        DGRAM => Transport::Datagram,
        _ => return Err(error(Defect::Transport, FAMILY_AND_TRANSPORT, found)),
    };
    let Some([high, low]) = after_signature.get(2..4) else { return Ok(None) };
    let fixed = Fixed { local, family, transport, length: u16::from_be_bytes([*high, *low]) };
    let found = Found::Number(fixed.length.into());
    if FIXED_LEN.saturating_add(fixed.length.into()) > max_len {
        return Err(error(Defect::HeaderLength { max: max_len }, LENGTH, found));
    }
    let needs = fixed.addresses_len();
    if fixed.length < needs {
        return Err(error(Defect::AddressLength { needs }, LENGTH, found));
    }
    Ok(Some(fixed))
}

/// Parses a complete header.
fn parse<'a>(fixed: &Fixed, header: &'a [u8]) -> Result<Header<'a>, HeaderError> {
    let at = FIXED_LEN.saturating_add(fixed.addresses_len().into());
    let block = header.get(FIXED_LEN..at).unwrap_or_default();
    let tlvs = header.get(at..).unwrap_or_default();
    if !fixed.local {
        tlv::check(header, at)?;
    }
    // Only the length of a LOCAL header is valid.
    let tlvs = if fixed.local { &[] } else { tlvs };
    let addresses = addresses(fixed.family, block).unwrap_or(Addresses::Unspecified);
    Ok(Header { format: Format::V2, local: fixed.local, transport: fixed.transport, addresses, tlvs })
}

/// Parses the addresses of a family. `None` if the family has no addresses.
fn addresses(family: u8, block: &[u8]) -> Option<Addresses<'_>> {
    let endpoints = |source: IpAddr, destination: IpAddr, ports: &[u8]| {
        let [from_high, from_low, to_high, to_low] = *ports else { return None };
        Some(Addresses::Inet(Endpoints {
            source: SocketAddr::new(source, u16::from_be_bytes([from_high, from_low])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([to_high, to_low])),
        }))
    };
    match family {
        INET => {
            let (source, rest) = block.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            endpoints(Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), ports)
        }
        INET6 => {
            let (source, rest) = block.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            endpoints(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), ports)
        }
        UNIX => {
            let (source, destination) = block.split_at_checked(UNIX_PATH_LEN)?;
            Some(Addresses::Unix { source, destination })
        }
        _ => None,
    }
}

pub(super) fn encode(family: Option<Family>) -> Vec<u8> {
    let (command, family_and_transport, block) = match family {
        None => (LOCAL, 0, Vec::new()),
        Some(Family::V4(source, destination, ports)) => {
            (PROXY, (INET << 4) | STREAM, address_block(&source.octets(), &destination.octets(), ports))
        }
        Some(Family::V6(source, destination, ports)) => {
            (PROXY, (INET6 << 4) | STREAM, address_block(&source.octets(), &destination.octets(), ports))
        }
    };
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = SIGNATURE.to_vec();
    header.extend([(VERSION << 4) | command, family_and_transport]);
    header.extend(length);
    header.extend(block);
    header
}

fn address_block(source: &[u8], destination: &[u8], (from, to): (u16, u16)) -> Vec<u8> {
    [source, destination, &from.to_be_bytes(), &to.to_be_bytes()].concat()
}
