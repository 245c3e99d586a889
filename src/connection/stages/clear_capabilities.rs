//! Removes capabilities from the server's greeting (`Protocol::HandshakeV10`, MySQL manual, "Connection Phase Packets").
//!
//! ```text
//! header[4] | 10 | version NUL | thread_id[4] | scramble[8] | 0 | lower flags[2] | charset | status[2] | upper flags[2] | ...
//! ```
//! A flag is one bit of one byte, whose offset is known as soon as the version has ended. So no byte of the greeting is held,
//! however the greeting is cut.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::{Seen, Stage};
use crate::event::Event;
use crate::event::output::Output;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::PROTOCOL_V10;
use crate::rules::Rules;

const HEADER_LEN: usize = 4;
/// Offset of the protocol version. The server version follows it.
const VERSION_AT: usize = HEADER_LEN;
/// Distance from the NUL after the server version to the lower flags.
const TO_LOWER: usize = 14;
/// Distance from the lower flags to the upper flags.
const TO_UPPER: usize = 5;

/// The greeting of one connection.
#[derive(Debug)]
pub(in crate::connection) struct GreetingFilter {
    /// Flags to remove, as bytes. The lowest byte comes first.
    flags: [u8; 4],
    /// Number of bytes of the greeting that have arrived.
    seen: usize,
    /// Length of the payload, as far as the header has arrived.
    len: usize,
    /// Offset of the lower flags. `None` until the version has ended.
    lower: Option<usize>,
    is_over: bool,
    cleared_tls: bool,
}

impl Stage for GreetingFilter {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        let clear = rules.clear_capabilities;
        let of = |wanted, flag| if wanted { flag } else { Capabilities::default() };
        let flags = of(clear.compress, Capabilities::COMPRESS)
            | of(clear.zstd, Capabilities::ZSTD_COMPRESSION)
            | of(clear.ssl, Capabilities::SSL);
        let (flags, _) = flags.split();
        let flags = flags.to_le_bytes();
        let some = flags != [0; 4];
        some.then_some(Self { flags, seen: 0, len: 0, lower: None, is_over: false, cleared_tls: false })
    }

    /// Reads the chunk, so that one read serves the inspector and this stage.
    fn server_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &mut Output) -> Flow {
        self.is_over |= rewrite.bytes().is_none();
        Flow::Continue
    }

    fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, out: &mut Output) -> Flow {
        for (at, byte) in rewrite.bytes().unwrap_or_default().iter().enumerate() {
            if self.is_over {
                break;
            }
            let flags = self.flags_in_next(*byte);
            if byte & flags != 0 {
                rewrite.set(at, byte & !flags);
            }
        }
        if std::mem::take(&mut self.cleared_tls) {
            out.events.push(Event::TlsCleared);
        }
        self.is_over |= seen.is_opaque;
        Flow::Continue
    }

    /// True once the flags were forwarded, or cannot come any more.
    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl GreetingFilter {
    /// Takes the next byte of the greeting. Returns the flags to remove from it.
    fn flags_in_next(&mut self, byte: u8) -> u8 {
        let at = self.seen;
        self.seen = at.saturating_add(1);
        match (at, self.lower) {
            (0..3, _) => self.len |= usize::from(byte) << at.saturating_mul(8),
            (3, _) => self.is_over = byte != 0,
            (VERSION_AT, _) => self.is_over = byte != PROTOCOL_V10,
            _ if at.saturating_sub(HEADER_LEN) >= self.len => self.is_over = true,
            (_, None) => self.lower = (byte == 0).then(|| at.saturating_add(TO_LOWER)),
            (_, Some(lower)) => {
                let [l0, tls, u0, u1] = self.flags;
                self.is_over = at > lower.saturating_add(TO_UPPER);
                return match at.checked_sub(lower) {
                    Some(0) => l0,
                    Some(1) => {
                        self.cleared_tls = tls & byte != 0;
                        tls
                    }
                    Some(TO_UPPER) => u0,
                    Some(at) if at > TO_UPPER => u1,
                    _ => 0,
                };
            }
        }
        0
    }
}

#[cfg(test)]
mod tests;
