//! The protocol's data types (MySQL manual, "Protocol Data Types"). The packet delimits a message, so a field that does not fit
//! is an error.

/// The error of a message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The packet, or the prefix of it that was read, ends inside this field.
    Truncated {
        /// The field's name in the protocol's documentation.
        field: &'static str,
    },
    /// The field holds a value that its type does not allow.
    Invalid {
        /// The field's name in the protocol's documentation.
        field: &'static str,
        /// The value found.
        value: u64,
    },
}

/// Reads the fields of a payload in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the payload's first byte.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The bytes that have not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ParseError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ParseError::Truncated { field })?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// `int<1>`.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// `int<2>`.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// `int<4>`.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// `int<lenenc>`. 0xfb (NULL) and 0xff (ERR) do not begin an integer.
    pub fn lenenc_int(&mut self, field: &'static str) -> Result<u64, ParseError> {
        match self.u8(field)? {
            small @ ..=0xfa => Ok(u64::from(small)),
            0xfc => self.u16(field).map(u64::from),
            0xfd => self.array(field).map(|[b0, b1, b2]| u64::from(u32::from_le_bytes([b0, b1, b2, 0]))),
            0xfe => self.array(field).map(u64::from_le_bytes),
            other => Err(ParseError::Invalid { field, value: u64::from(other) }),
        }
    }

    /// `string<fix>` of `len` bytes.
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], ParseError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(ParseError::Truncated { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// `string<lenenc>`.
    pub fn lenenc_bytes(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let len = self.lenenc_int(field)?;
        self.bytes(field, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// `string<NUL>`, without its NUL, which is required.
    pub fn nul_bytes(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let len = self.rest.iter().position(|byte| *byte == 0).unwrap_or(self.rest.len());
        let text = self.bytes(field, len)?;
        self.u8(field)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_integers_of_every_width_are_read() {
        let cases: [(&[u8], u64); 6] = [
            (&[0], 0),
            (&[0xfa], 250),
            (&[0xfc, 0xfb, 0], 251),
            (&[0xfd, 0, 0, 1], 1 << 16),
            (&[0xfe, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 24),
            (&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
        ];
        for (bytes, value) in cases {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.lenenc_int("n"), Ok(value));
            assert!(reader.rest().is_empty());
            for cut in 0..bytes.len() {
                let cut = Reader::new(&bytes[..cut]).lenenc_int("n");
                assert_eq!(cut, Err(ParseError::Truncated { field: "n" }));
            }
        }
        for byte in [0xfb, 0xff] {
            let found = Reader::new(&[byte]).lenenc_int("n");
            assert_eq!(found, Err(ParseError::Invalid { field: "n", value: u64::from(byte) }));
        }
    }

    #[test]
    fn strings_that_do_not_fit_are_truncated() {
        let mut reader = Reader::new(b"ab\0\x02cd");
        assert_eq!(reader.nul_bytes("user"), Ok(&b"ab"[..]));
        assert_eq!(reader.lenenc_bytes("database"), Ok(&b"cd"[..]));
        assert_eq!(reader.nul_bytes("plugin"), Err(ParseError::Truncated { field: "plugin" }));
        let huge = Reader::new(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255]).lenenc_bytes("x");
        assert_eq!(huge, Err(ParseError::Truncated { field: "x" }));
    }
}
