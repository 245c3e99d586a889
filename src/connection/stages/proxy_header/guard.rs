//! Refuses further headers: a server must not get a second PROXY header before a packet of the client.
//!
//! MariaDB accepts a header before any packet until it has accepted or refused the client, and believes the last one. It
//! recognises a header by four bytes in the place of a packet header, and parses the rest less strictly than the
//! specification. So those four bytes decide here too. The guard checks every fragment of the connection phase by itself. It
//! does not use the inspector, because a client that confuses the inspector must not get past the guard. The guard cannot
//! read TLS. MariaDB 10.11 believes a header inside TLS if it trusts all networks (`*`).

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::Stage;
use crate::connection::stages::proxy_header::refuse;
use crate::event::HeaderResult;
use crate::event::output::Output;
use crate::event::refusal::RefusalReason;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::{self, HandshakeV10};
use crate::mysql::wire::packet::{Framed, Framer, payload_len};
use crate::mysql::wire::response::OK;
use crate::proxy_protocol::{Format, looks_like_header};
use crate::rules::Rules;

/// First byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// Maximum number of bytes of a greeting that are needed to read its capabilities.
const MAX_GREETING_PREFIX: usize = 512;
/// Offset of the byte with the flag SSL in the client's capabilities, and the flag in that byte.
const SSL: (usize, u8) = (1, 0x08);

/// Connection phase of one connection.
#[derive(Debug)]
pub(in crate::connection) struct HeaderGuard {
    client: Fragments,
    server: Server,
    state: GuardState,
}

#[derive(Debug)]
struct Server {
    framer: Framer,
    /// Number of its bytes so far, at most 4.
    seen: usize,
    greeted: bool,
    offers_tls: bool,
}

/// Meaning of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardState {
    /// A header can still arrive.
    Watching,
    /// No header can arrive any more: TLS begins, the server has accepted the client, or it is not a MySQL server.
    Over,
    /// A header has arrived, and the connection is refused.
    Header(Format),
    /// The host did not provide the client's bytes, and the connection is refused.
    Unreadable,
}

impl Stage for HeaderGuard {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        rules.proxy_header.map(|_| Self::default())
    }

    /// Takes a chunk without the header that was received.
    fn client_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: bool, out: &mut Output) -> Flow {
        match self.state {
            GuardState::Watching => {}
            GuardState::Over => return Flow::Continue,
            GuardState::Header(_) | GuardState::Unreadable => return Flow::Close,
        }
        if rewrite.bytes().is_none() {
            self.state = GuardState::Unreadable;
            return refuse(HeaderResult::Malformed, None, RefusalReason::Unreadable, out);
        }
        let rest = rewrite.rest();
        self.state = self.client_bytes(&rest.read(0, rest.len()).unwrap_or_default());
        match self.state {
            GuardState::Header(format) => {
                refuse(HeaderResult::Malformed, Some(format), RefusalReason::Late, out)
            }
            _ => Flow::Continue,
        }
    }

    fn server_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &mut Output) -> Flow {
        if self.state == GuardState::Watching {
            self.state = self.server_bytes(&rewrite.bytes().unwrap_or_default());
        }
        Flow::Continue
    }

    fn is_over(&self) -> bool {
        self.state == GuardState::Over
    }

    fn is_final(&self) -> bool {
        matches!(self.state, GuardState::Header(_) | GuardState::Unreadable)
    }

    /// Counts the maximum from the start, because a guard cannot give memory back before the connection ends.
    fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(MAX_GREETING_PREFIX)
    }
}

impl Default for HeaderGuard {
    fn default() -> Self {
        let server =
            Server { framer: Framer::new(MAX_GREETING_PREFIX), seen: 0, greeted: false, offers_tls: false };
        Self { client: Fragments::default(), server, state: GuardState::Watching }
    }
}

impl HeaderGuard {
    fn client_bytes(&mut self, mut input: &[u8]) -> GuardState {
        while let Some(first) = input.first() {
            if self.client.requests_tls() && self.server.offers_tls && *first == TLS_HANDSHAKE {
                return GuardState::Over;
            }
            if let Some(header) = self.client.next(&mut input) {
                if let Some(format) = looks_like_header(header) {
                    return GuardState::Header(format);
                }
            }
        }
        GuardState::Watching
    }

    fn server_bytes(&mut self, bytes: &[u8]) -> GuardState {
        if self.server.is_not_mysql(bytes) {
            return GuardState::Over;
        }
        let mut input = bytes;
        while let Some(framed) = self.server.framer.next(&mut input) {
            let Framed::Head(packet) = framed else { continue };
            match packet.first() {
                Some(handshake::PROTOCOL_V10) if !self.server.greeted => {
                    let greeting = HandshakeV10::parse(packet.prefix);
                    let offers = |greeting: HandshakeV10| greeting.capabilities.contains(Capabilities::SSL);
                    self.server.offers_tls = greeting.is_ok_and(offers);
                }
                // A server accepts only a client that has sent a packet.
                Some(OK) if self.server.greeted && self.client.packets > 0 => return GuardState::Over,
                _ => {}
            }
            self.server.greeted = true;
        }
        GuardState::Watching
    }
}

impl Server {
    /// True if the first packet is longer than a greeting, or has another sequence id.
    fn is_not_mysql(&mut self, bytes: &[u8]) -> bool {
        let (seen, zeroes) = (self.seen, 2..4);
        self.seen = seen.saturating_add(bytes.len()).min(zeroes.end);
        let mut numbered = bytes.iter().zip(seen..);
        numbered.any(|(byte, at)| zeroes.contains(&at) && *byte != 0)
    }
}

/// Fragments of the client's direction, and the flag SSL of the first fragment.
#[derive(Debug, Default)]
struct Fragments {
    header: [u8; 4],
    /// Number of header bytes that have arrived.
    have: usize,
    /// Number of payload bytes that are still missing.
    left: usize,
    /// Number of headers so far, at most 2.
    packets: u8,
    /// Number of payload bytes of the first fragment that have arrived.
    first: usize,
    ssl_flag: bool,
}

impl Fragments {
    /// True if the first packet is complete and requests TLS, and no byte has arrived since.
    fn requests_tls(&self) -> bool {
        self.ssl_flag && self.packets == 1 && self.left == 0 && self.have == 0
    }

    /// Takes bytes off `input` up to the end of a header or of a payload. Returns the header; `None` if no header is complete.
    fn next(&mut self, input: &mut &[u8]) -> Option<[u8; 4]> {
        if self.left > 0 {
            let (payload, rest) = input.split_at_checked(self.left).unwrap_or((input, &[]));
            if self.packets == 1 {
                let (at, flag) = SSL;
                let byte = at.checked_sub(self.first).and_then(|at| payload.get(at));
                self.ssl_flag |= byte.is_some_and(|byte| byte & flag != 0);
                self.first = self.first.saturating_add(payload.len());
            }
            self.left = self.left.saturating_sub(payload.len());
            *input = rest;
            return None;
        }
        let (byte, rest) = input.split_first()?;
        *input = rest;
        *self.header.get_mut(self.have)? = *byte;
        self.have = self.have.saturating_add(1);
        if self.have < self.header.len() {
            return None;
        }
        self.have = 0;
        self.left = payload_len(self.header);
        self.packets = self.packets.saturating_add(1).min(2);
        Some(self.header)
    }
}

#[cfg(test)]
mod tests;
