//! Finds the capability flags in the server's greeting (`Protocol::HandshakeV10`, MySQL manual, "Connection Phase Packets").
//!
//! ```text
//! header[4] | 10 | version NUL | thread_id[4] | scramble[8] | 0 | lower flags[2] | charset | status[2] | upper flags[2] | ...
//! ```
//! A flag is one bit of one byte, whose offset is known as soon as the version has ended. So no byte of the greeting is held,
//! however the greeting is cut.

use crate::mysql::wire::handshake::PROTOCOL_V10;
use crate::mysql::wire::packet::HEADER_LEN;

/// Offset of the protocol version. The server version follows it.
const VERSION_AT: usize = HEADER_LEN;
/// Distance from the NUL after the server version to the lower flags.
const TO_LOWER: usize = 14;
/// Distance from the lower flags to the upper flags.
const TO_UPPER: usize = 5;

/// Index, among the four bytes of flags, of the byte with `CLIENT_SSL`. It is the same in the client's response.
pub(in crate::connection) const SSL_AT: usize = 1;
/// `CLIENT_SSL` in that byte.
pub(in crate::connection) const SSL_FLAG: u8 = 0x08;

/// Place in one greeting.
#[derive(Debug, Default)]
pub(super) struct GreetingFlags {
    /// Number of bytes of the greeting that have arrived.
    seen: usize,
    /// Length of the payload, as far as the header has arrived.
    len: usize,
    /// Offset of the lower flags. `None` until the version has ended.
    lower: Option<usize>,
    is_over: bool,
}

impl GreetingFlags {
    /// True once all flags were found, or cannot come any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the next bytes of the greeting. Returns the offset and the value of the byte with `CLIENT_SSL`. `None` if it is not
    /// among them.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn find_ssl(&mut self, bytes: &[u8]) -> Option<(usize, u8)> {
        let mut found = None;
        for (at, byte) in bytes.iter().enumerate() {
            if self.is_over {
                break;
            }
            if self.next(*byte) == Some(SSL_AT) {
                found = Some((at, *byte));
            }
        }
        found
    }

    /// Takes the next byte of the greeting. Returns its index among the four bytes of flags, of which the lowest comes
    /// first. `None` if it contains no flags.
    pub(super) fn next(&mut self, byte: u8) -> Option<usize> {
        let at = self.seen;
        self.seen = at.saturating_add(1);
        match (at, self.lower) {
            (0..3, _) => self.len |= usize::from(byte) << at.saturating_mul(8),
            (3, _) => self.is_over = byte != 0,
            (VERSION_AT, _) => self.is_over = byte != PROTOCOL_V10,
            _ if at.saturating_sub(HEADER_LEN) >= self.len => self.is_over = true,
            (_, None) => self.lower = (byte == 0).then(|| at.saturating_add(TO_LOWER)),
            (_, Some(lower)) => {
                self.is_over = at > lower.saturating_add(TO_UPPER);
                return match at.checked_sub(lower) {
                    Some(index @ (0 | 1)) => Some(index),
                    Some(TO_UPPER) => Some(2),
                    Some(at) if at > TO_UPPER => Some(3),
                    _ => None,
                };
            }
        }
        None
    }
}
