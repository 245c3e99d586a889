//! Type-length-value vectors (section 2.2): type (1 byte), length (2 bytes, big-endian), value.

use super::{Defect, Format, Found, HeaderError};

/// Values of `PP2_TYPE_*` for which the specification has a rule.
pub mod kind {
    /// `PP2_TYPE_CRC32C` (section 2.2.3).
    pub const CRC32C: u8 = 0x03;
    /// `PP2_TYPE_UNIQUE_ID` (section 2.2.5).
    pub const UNIQUE_ID: u8 = 0x05;
    /// `PP2_TYPE_SSL` (section 2.2.6).
    pub const SSL: u8 = 0x20;
}

/// Number of bytes of type and length.
const HEAD_LEN: usize = 3;
const MAX_UNIQUE_ID_LEN: usize = 128;
/// Number of bytes of `client` and `verify` in `pp2_tlv_ssl`.
const SSL_FIXED_LEN: usize = 5;

/// Type-length-value vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// `PP2_TYPE_*`.
    pub kind: u8,
    /// Value of the vector.
    pub value: &'a [u8],
}

/// Incomplete vector. The iteration ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlvError {
    /// Offset of the vector.
    pub at: usize,
    /// Number of bytes from there on.
    pub len: usize,
}

/// Iterator over consecutive vectors.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tlvs<'a> {
    /// Iterates over the vectors in `bytes`. These can also be the vectors in `PP2_TYPE_SSL`, after its first 5 bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let vector = rest.split_first_chunk::<HEAD_LEN>().and_then(|([kind, high, low], after)| {
            let value = after.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
            Some(Tlv { kind: *kind, value })
        });
        match vector {
            Some(vector) => {
                self.at = self.at.saturating_add(HEAD_LEN).saturating_add(vector.value.len());
                Some(Ok(vector))
            }
            None => {
                let error = TlvError { at: self.at, len: rest.len() };
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

/// Checks the vectors of a complete header, which begin at `start`, and the checksum if there is one.
pub(super) fn check(header: &[u8], start: usize) -> Result<(), HeaderError> {
    let error = |defect, at, found| HeaderError { format: Format::V2, defect, at, found };
    let mut at = start;
    let mut checksum = None;
    for vector in Tlvs::new(header.get(start..).unwrap_or_default()) {
        let Tlv { kind, value } =
            vector.map_err(|TlvError { len, .. }| error(Defect::Tlv, at, Found::Field(len)))?;
        let defect = match kind {
            kind::CRC32C if checksum.is_some() || value.len() != 4 => Some(Defect::ChecksumTlv),
            kind::UNIQUE_ID if value.len() > MAX_UNIQUE_ID_LEN => Some(Defect::UniqueId),
            kind::SSL if !is_ssl(value) => Some(Defect::Ssl),
            _ => None,
        };
        if let Some(defect) = defect {
            return Err(error(defect, at, Found::Field(value.len())));
        }
        let value_at = at.saturating_add(HEAD_LEN);
        if let (kind::CRC32C, Ok(stored)) = (kind, <[u8; 4]>::try_from(value)) {
            checksum = Some((value_at, u32::from_be_bytes(stored)));
        }
        at = value_at.saturating_add(value.len());
    }
    match checksum {
        Some((at, stored)) if crc32c_without(header, at) != stored => {
            Err(error(Defect::Checksum, at, Found::Number(stored)))
        }
        _ => Ok(()),
    }
}

fn is_ssl(value: &[u8]) -> bool {
    value.get(SSL_FIXED_LEN..).is_some_and(|subs| Tlvs::new(subs).all(|sub| sub.is_ok()))
}

/// Computes the checksum of a header as if its checksum field, at `at`, were zero.
fn crc32c_without(header: &[u8], at: usize) -> u32 {
    let (before, rest) = header.split_at_checked(at).unwrap_or((header, &[]));
    let after = rest.get(4..).unwrap_or_default();
    !update(update(update(u32::MAX, before), &[0; 4]), after)
}

/// Computes the CRC32c (RFC 4960, appendix B).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    !update(u32::MAX, bytes)
}

fn update(crc: u32, bytes: &[u8]) -> u32 {
    /// Castagnoli's polynomial, with its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}
