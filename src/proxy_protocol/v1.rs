//! Version 1, one line of text (section 2.1): `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT CRLF`, the
//! same with `TCP6`, or `PROXY UNKNOWN`, anything, and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Defect, Endpoints, Family, Format, Found, Header, HeaderError, Probe, Transport};

/// The worst case, with CRLF.
pub(super) const MAX_LEN: usize = 107;
/// The word alone says that it is version 1 (section 2.2, on telling the versions apart). A server that finds no space
/// behind it may still read on.
pub(super) const SIGNATURE: &[u8] = b"PROXY";
/// `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`.
const MAX_ADDRESS_LEN: usize = 39;
const MAX_PORT_LEN: usize = 5;

/// What stops the reading of a line.
enum Stop {
    /// Its end is not there yet.
    Incomplete,
    Malformed(HeaderError),
}

pub(super) fn probe(bytes: &[u8]) -> Probe<'_> {
    // Each byte can break the line.
    let next = bytes.len().saturating_add(1);
    if !bytes.starts_with(SIGNATURE) {
        return if SIGNATURE.starts_with(bytes) {
            Probe::Incomplete { format: None, needs: next }
        } else {
            Probe::NoHeader
        };
    }
    // Nothing behind the longest line is looked at.
    let mut line = Line { bytes: bytes.get(..MAX_LEN).unwrap_or(bytes), at: SIGNATURE.len() };
    match line.read() {
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

/// A line as far as it was read.
struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    fn read(&mut self) -> Result<Header<'a>, Stop> {
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
        let source = self.field(MAX_ADDRESS_LEN, is_of_address, &parse, Defect::SourceAddress)?;
        self.space()?;
        let destination = self.field(MAX_ADDRESS_LEN, is_of_address, &parse, Defect::DestinationAddress)?;
        self.space()?;
        let source_port = self.field(MAX_PORT_LEN, is_digit, port, Defect::SourcePort)?;
        self.space()?;
        let destination_port = self.field(MAX_PORT_LEN, is_digit, port, Defect::DestinationPort)?;
        Ok(Endpoints {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    }

    /// The next byte, which stays.
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn expect(&mut self, byte: u8, defect: Defect) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(self.wrong(defect));
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

    /// One of the three words, and a space or CR behind it.
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
        Err(self.wrong(Defect::Protocol))
    }

    /// What follows UNKNOWN, whatever it is.
    fn rest(&mut self) -> Result<(), Stop> {
        if self.peek()? != b'\r' {
            self.space()?;
        }
        while !matches!(self.peek()?, b'\r' | b'\n') {
            self.at = self.at.saturating_add(1);
        }
        Ok(())
    }

    /// A field of at most `max` bytes that are `legal`, up to the first that is not.
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
        // A field is complete with the byte behind it, which must be the space or the CR.
        let behind = self.peek()?;
        if !matches!(behind, b' ' | b'\r' | b'\n') || len == 0 {
            return Err(found(self.at, Found::Byte(behind)));
        }
        let text = rest.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(parse).ok_or_else(|| found(start, Found::Field(len)))
    }

    fn wrong(&self, defect: Defect) -> Stop {
        let found = self.bytes.get(self.at).copied().map_or(Found::Field(0), Found::Byte);
        Stop::Malformed(HeaderError { format: Format::V1, defect, at: self.at, found })
    }
}

/// Dots stand in IPv6 addresses too: `inet_ntop` writes IPv4-mapped ones so, and senders use it.
fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// "Heading zeroes are not permitted in front of numbers."
fn port(text: &str) -> Option<u16> {
    let leads = text.len() > 1 && text.starts_with('0');
    if leads { None } else { text.parse().ok() }
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

/// An IPv6 address without dots, the only form the specification names.
struct Hexadecimal(Ipv6Addr);

impl std::fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.to_ipv4_mapped(), self.0.segments()) {
            (Some(_), [.., high, low]) => write!(f, "::ffff:{high:x}:{low:x}"),
            (None, _) => write!(f, "{}", self.0),
        }
    }
}
