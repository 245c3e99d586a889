//! Errors of malformed headers.

use std::fmt;

use super::Format;

/// Error in a header. Its text is safe for logs, because it contains no bytes of the peer, except those in place of a fixed
/// value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError {
    /// Format of the signature.
    pub format: Format,
    /// The rule that the header violates.
    pub defect: Defect,
    /// Offset of the error from the start of the header, in bytes.
    pub at: usize,
    /// Found value.
    pub found: Found,
}

/// Rule of the specification that a header violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Version 1: exactly one space between two fields.
    Space,
    /// Version 1: `TCP4`, `TCP6` or `UNKNOWN`.
    Protocol,
    /// Version 1: the source address.
    SourceAddress,
    /// Version 1: the destination address.
    DestinationAddress,
    /// Version 1: the source port.
    SourcePort,
    /// Version 1: the destination port.
    DestinationPort,
    /// Version 1: CR and LF together.
    LineEnd,
    /// Version 1: CRLF within the first 107 bytes.
    LineLength,
    /// Version 2: the version.
    Version,
    /// Version 2: the command.
    Command,
    /// Version 2: the address family.
    Family,
    /// Version 2: the transport protocol.
    Transport,
    /// Version 2: a length that is sufficient for the addresses of the family.
    AddressLength {
        /// Length of the addresses in bytes.
        needs: u16,
    },
    /// Version 2: a length that the receiver allows.
    HeaderLength {
        /// Maximum length in bytes.
        max: usize,
    },
    /// Version 2: type-length-value vectors that end within the header.
    Tlv,
    /// Version 2: `PP2_TYPE_CRC32C` of 4 bytes, once.
    ChecksumTlv,
    /// Version 2: a checksum that matches the header.
    Checksum,
    /// Version 2: `PP2_TYPE_UNIQUE_ID` of at most 128 bytes.
    UniqueId,
    /// Version 2: `PP2_TYPE_SSL` of 5 bytes and complete vectors.
    Ssl,
}

/// Value that was found instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// One byte.
    Byte(u8),
    /// A field of this number of bytes.
    Field(usize),
    /// A number.
    Number(u32),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self {
            Self::Space => "one space",
            Self::Protocol => "TCP4, TCP6 or UNKNOWN",
            Self::SourceAddress => "the source address",
            Self::DestinationAddress => "the destination address",
            Self::SourcePort => "the source port",
            Self::DestinationPort => "the destination port",
            Self::LineEnd => "CRLF",
            Self::LineLength => "CRLF within 107 bytes",
            Self::Version => "version 2",
            Self::Command => "the command LOCAL or PROXY",
            Self::Family => "the family UNSPEC, INET, INET6 or UNIX",
            Self::Transport => "the transport UNSPEC, STREAM or DGRAM",
            Self::AddressLength { needs } => return write!(f, "a length of at least {needs}"),
            Self::HeaderLength { max } => return write!(f, "a header of at most {max} bytes"),
            Self::Tlv => "a vector that ends within the header",
            Self::ChecksumTlv => "one checksum of 4 bytes",
            Self::Checksum => "the checksum of the header",
            Self::UniqueId => "a unique id of at most 128 bytes",
            Self::Ssl => "5 bytes and whole vectors",
        };
        f.write_str(expected)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(byte) => write!(f, "{byte:#04x}"),
            Self::Field(len) => write!(f, "a field of {len} bytes"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, defect, at, found } = self;
        write!(f, "{} header, byte {at}: expected {defect}, found {found}", format.label())
    }
}

impl std::error::Error for HeaderError {}
