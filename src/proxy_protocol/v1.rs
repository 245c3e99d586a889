//! Version 1, one line of text (section 2.1): `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT CRLF`, the
//! same with `TCP6`, or `PROXY UNKNOWN`, any text, and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Defect, Endpoints, Family, Format, Found, Header, HeaderError, Probe, Transport};

/// Maximum length of a line in bytes, including CRLF.
pub(super) const MAX_LEN: usize = 107;
/// The word alone identifies version 1 (section 2.2 describes how to distinguish the versions). Some servers accept it
/// without the space after it.
pub(super) const SIGNATURE: &[u8] = b"PROXY";
/// Length of `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`.
const MAX_ADDRESS_LEN: usize = 39;
const MAX_PORT_LEN: usize = 5;

/// Reason for which the parsing of a line stops.
enum Stop {
    /// The end of the line has not arrived.
    Incomplete,
    Malformed(HeaderError),
}

pub(super) fn probe(bytes: &[u8]) -> Probe<'_> {
    // Each byte can make the line malformed.
    let next = bytes.len().saturating_add(1);
    if !bytes.starts_with(SIGNATURE) {
        return if SIGNATURE.starts_with(bytes) {
            Probe::Incomplete { format: None, needs: next }
        } else {
            Probe::NoHeader
        };
    }
    // Bytes after the maximum length are not read.
    let mut line = Line { bytes: bytes.get(..MAX_LEN).unwrap_or(bytes), at: SIGNATURE.len() };
    match line.parse() {
        Ok(header) => Probe::Complete { header, len: line.at },
        Err(Stop::Malformed(error)) => Probe::Malformed(error),
        Err(Stop::Incomplete) if bytes.len() >= MAX_LEN => Probe::Malformed(HeaderError {
            format: Format::V1,
            defect: Defect::LineLength,
            at: MAX_LEN,
            found: Found::Field(MAX_LEN),
        }),
        Err(Stop::Incomplete) => {
            Probe::Incomplete { format: (bytes.len() > SIGNATURE.len()).then_some(Format::V1), needs: next }
        }
    }
}

/// A line, and the offset up to which it was parsed.
struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    fn parse(&mut self) -> Result<Header<'a>, Stop> {
        self.space()?;
        let endpoints = match self.protocol()? {
            b"UNKNOWN" => {
                self.rest()?;
                None
            }
            b"TCP4" => Some(self.endpoints(|text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?),
            _ => Some(self.endpoints(|text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?),
        };
        self.end()?;
        Ok(Header {
            format: Format::V1,
            local: false,
            transport: if endpoints.is_some() { Transport::Stream } else { Transport::Unspecified },
            addresses: endpoints.map_or(Addresses::Unspecified, Addresses::Inet),
            tlvs: &[],
        })
    }

    fn endpoints(&mut self, parse: impl Fn(&str) -> Option<IpAddr>) -> Result<Endpoints, Stop> {
        self.space()?;
        let source = self.field(MAX_ADDRESS_LEN, is_address_byte, &parse, Defect::SourceAddress)?;
        self.space()?;
        let destination = self.field(MAX_ADDRESS_LEN, is_address_byte, &parse, Defect::DestinationAddress)?;
        self.space()?;
        let source_port = self.field(MAX_PORT_LEN, is_digit, port, Defect::SourcePort)?;
        self.space()?;
        let destination_port = self.field(MAX_PORT_LEN, is_digit, port, Defect::DestinationPort)?;
        Ok(Endpoints {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    }

    /// Returns the next byte without taking it.
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn expect(&mut self, byte: u8, defect: Defect) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(self.error(defect));
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn space(&mut self) -> Result<(), Stop> {
        self.expect(b' ', Defect::Space)
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.expect(b'\r', Defect::LineEnd)?;
        self.expect(b'\n', Defect::LineEnd)
    }

    /// Takes one of the three words.
    fn protocol(&mut self) -> Result<&'static [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let words: [&[u8]; 3] = [b"TCP4", b"TCP6", b"UNKNOWN"];
        if let Some(word) = words.into_iter().find(|word| rest.starts_with(word)) {
            self.at = self.at.saturating_add(word.len());
            return Ok(word);
        }
        if words.iter().any(|word| word.starts_with(rest)) {
            return Err(Stop::Incomplete);
        }
        Err(self.error(Defect::Protocol))
    }

    /// Takes the text after UNKNOWN.
    fn rest(&mut self) -> Result<(), Stop> {
        if self.peek()? != b'\r' {
            self.space()?;
        }
        while !matches!(self.peek()?, b'\r' | b'\n') {
            self.at = self.at.saturating_add(1);
        }
        Ok(())
    }

    /// Takes a field of at most `max` bytes that are `legal`, up to the first byte that is not.
    fn field<T>(
        &mut self,
        max: usize,
        legal: impl Fn(u8) -> bool,
        parse: impl Fn(&str) -> Option<T>,
        defect: Defect,
    ) -> Result<T, Stop> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let len = rest.iter().take(max.saturating_add(1)).take_while(|byte| legal(**byte)).count();
        let found = |at, found| Stop::Malformed(HeaderError { format: Format::V1, defect, at, found });
        if len > max {
            return Err(found(start, Found::Field(len)));
        }
        self.at = start.saturating_add(len);
        // A field is complete once the byte after it has arrived, which must be a space or CR.
        let next = self.peek()?;
        if !matches!(next, b' ' | b'\r' | b'\n') || len == 0 {
            return Err(found(self.at, Found::Byte(next)));
        }
        let text = rest.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(parse).ok_or_else(|| found(start, Found::Field(len)))
    }

    fn error(&self, defect: Defect) -> Stop {
        let found = self.bytes.get(self.at).copied().map_or(Found::Field(0), Found::Byte);
        Stop::Malformed(HeaderError { format: Format::V1, defect, at: self.at, found })
    }
}

/// True for the bytes of addresses. IPv6 addresses can contain dots too, because `inet_ntop` writes IPv4-mapped addresses
/// with dots, and senders use it.
fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Parses a port. "Heading zeroes are not permitted in front of numbers."
fn port(text: &str) -> Option<u16> {
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    if has_leading_zero { None } else { text.parse().ok() }
}

pub(super) fn encode(family: Option<Family>) -> Vec<u8> {
    match family {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some(Family::V4(source, destination, (from, to))) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Some(Family::V6(source, destination, (from, to))) => {
            format!("PROXY TCP6 {} {} {from} {to}\r\n", Hexadecimal(source), Hexadecimal(destination))
        }
    }
    .into_bytes()
}

/// IPv6 address without dots, the only form in the specification.
struct Hexadecimal(Ipv6Addr);

impl std::fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.to_ipv4_mapped(), self.0.segments()) {
            (Some(_), [.., high, low]) => write!(f, "::ffff:{high:x}:{low:x}"),
            (None, _) => write!(f, "{}", self.0),
        }
    }
}
