//! One header only: nothing that a server could take for a further PROXY header passes in front of a client packet.
//!
//! MariaDB believes the last header it gets, in front of any packet until it has decided about the client. It tells
//! one by four bytes in the place of a packet header and reads what follows less strictly than the specification says,
//! so those four bytes decide here too. They are looked for at every fragment of the connection phase, whatever the
//! inspection made of the packets: a client that confuses it must not get past this. Inside TLS nothing is seen, and
//! MariaDB 10.11 believes a header there if it believes everybody (`*`).

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
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::OK;
use crate::proxy_protocol::{Format, looks_like_header};
use crate::rules::Rules;

/// First byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The bytes of a greeting that may be needed to read its capabilities.
const KEEP_GREETING: usize = 512;
/// The byte of the client's capabilities that has the flag SSL, and the flag in it.
const SSL: (usize, u8) = (1, 0x08);

/// The connection phase of one connection.
#[derive(Debug)]
pub(in crate::connection) struct HeaderGuard {
    client: Fragments,
    server: Server,
    state: GuardState,
}

#[derive(Debug)]
struct Server {
    framer: Framer,
    /// Number of its bytes so far, as far as it matters.
    seen: usize,
    greeted: bool,
    offers_tls: bool,
}

/// What the bytes so far mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardState {
    /// A header can still come.
    Watching,
    /// No header can come any more: TLS begins, the server accepted the client, or it is no MySQL server.
    Over,
    /// A header came, and the connection is refused.
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

    /// All of the greeting counts from the start, because a guard cannot give memory back before the connection ends.
    fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(KEEP_GREETING)
    }
}

impl Default for HeaderGuard {
    fn default() -> Self {
        let server =
            Server { framer: Framer::new(KEEP_GREETING), seen: 0, greeted: false, offers_tls: false };
        Self { client: Fragments::default(), server, state: GuardState::Watching }
    }
}

impl HeaderGuard {
    fn client_bytes(&mut self, mut input: &[u8]) -> GuardState {
        while let Some(first) = input.first() {
            if self.client.asked_for_tls() && self.server.offers_tls && *first == TLS_HANDSHAKE {
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
        if self.server.is_no_mysql(bytes) {
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
                // Only one who has sent a packet is taken.
                Some(OK) if self.server.greeted && self.client.packets > 0 => return GuardState::Over,
                _ => {}
            }
            self.server.greeted = true;
        }
        GuardState::Watching
    }
}

impl Server {
    /// Its first packet is longer than a greeting, or has another sequence id.
    fn is_no_mysql(&mut self, bytes: &[u8]) -> bool {
        let (seen, zeroes) = (self.seen, 2..4);
        self.seen = seen.saturating_add(bytes.len()).min(zeroes.end);
        let mut numbered = bytes.iter().zip(seen..);
        numbered.any(|(byte, at)| zeroes.contains(&at) && *byte != 0)
    }
}

/// The client's direction, cut into fragments; of the first one the capabilities are kept.
#[derive(Debug, Default)]
struct Fragments {
    header: [u8; 4],
    have: usize,
    /// Payload bytes still to come.
    left: usize,
    /// Headers so far, up to 2.
    packets: u8,
    /// Payload bytes of the first fragment so far, as far as they matter.
    first: usize,
    ssl_flag: bool,
}

impl Fragments {
    /// The first packet was complete and asked for TLS, and nothing has come since.
    fn asked_for_tls(&self) -> bool {
        self.ssl_flag && self.packets == 1 && self.left == 0 && self.have == 0
    }

    /// Takes bytes off `input` up to the end of a header, which it gives, or of a payload.
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
        let [l0, l1, l2, _] = self.header;
        self.left = usize::try_from(u32::from_le_bytes([l0, l1, l2, 0])).unwrap_or(usize::MAX);
        self.packets = self.packets.saturating_add(1).min(2);
        Some(self.header)
    }
}

#[cfg(test)]
mod tests;
