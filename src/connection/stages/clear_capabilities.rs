//! Removes capabilities from the server's greeting.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::greeting_flags::{GreetingFlags, SSL_AT, SSL_FLAG};
use crate::connection::stages::{Seen, Stage};
use crate::event::Event;
use crate::event::output::Output;
use crate::mysql::wire::capability::Capabilities;
use crate::rules::Rules;

/// The greeting of one connection.
#[derive(Debug)]
pub(in crate::connection) struct GreetingFilter {
    /// Flags to remove, as bytes. The lowest byte comes first.
    flags: [u8; 4],
    place: GreetingFlags,
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
        some.then_some(Self { flags, place: GreetingFlags::default(), is_over: false, cleared_tls: false })
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
        let index = self.place.next(byte);
        self.is_over |= self.place.is_over();
        let flags = index.and_then(|index| self.flags.get(index)).copied().unwrap_or(0);
        self.cleared_tls |= index == Some(SSL_AT) && flags & byte & SSL_FLAG != 0;
        flags
    }
}

#[cfg(test)]
mod tests;
