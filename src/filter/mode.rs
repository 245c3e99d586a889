//! The mode of the newest configuration, encoded for configurations that are older.
//!
//! A proxy keeps an older configuration as long as it has connections, and does not notify it of the newer one. So each
//! configuration publishes its mode where older ones can read it: `off` then reaches open connections without closing
//! them. The host stores the encoded bytes.

use crate::clock::Timestamp;
use crate::config::Mode;

/// Mode of a configuration, and the time from which on it is effective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedMode {
    /// Time from which on the configuration is effective.
    pub since: Timestamp,
    /// Mode of the configuration.
    pub mode: Mode,
}

impl PublishedMode {
    /// Encodes the time in nanoseconds, and the mode as one letter.
    #[must_use]
    pub fn encode(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        let mode = [match self.mode {
            Mode::Active => b'a',
            Mode::Observe => b'o',
            Mode::Off => b'x',
        }];
        for (slot, byte) in bytes.iter_mut().zip(self.since.nanos().to_le_bytes().into_iter().chain(mode)) {
            *slot = byte;
        }
        bytes
    }

    /// Decodes a mode. `None` if another version of this filter encoded it in another way.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, mode) = bytes.split_first_chunk()?;
        let mode = match mode {
            b"a" => Mode::Active,
            b"o" => Mode::Observe,
            b"x" => Mode::Off,
            _ => return None,
        };
        Some(Self { since: Timestamp::from_nanos(u64::from_le_bytes(*since)), mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_gives_what_was_encoded() {
        for mode in [Mode::Active, Mode::Observe, Mode::Off] {
            let published = PublishedMode { since: Timestamp::from_nanos(0x0102_0304_0506_0708), mode };
            assert_eq!(PublishedMode::decode(&published.encode()), Some(published));
        }
        assert_eq!(PublishedMode::decode(b"12345678"), None);
        assert_eq!(PublishedMode::decode(b"12345678xx"), None);
        assert_eq!(PublishedMode::decode(b""), None);
    }
}
