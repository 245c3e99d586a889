//! One header only: nothing that a server could take for a further PROXY header passes in front of a client packet.
//!
//! MariaDB believes the last header it gets, in front of any packet until it has decided about the client. It tells
//! one by four bytes in the place of a packet header and reads what follows less strictly than the specification says,
//! so those four bytes decide here too. They are looked for at every fragment of the connection phase, whatever the
//! inspection made of the packets: a client that confuses it must not get past this. Inside TLS nothing is seen, and
//! MariaDB 10.11 believes a header there if it believes everybody (`*`).

use crate::connection::inspector::mysql::TLS_HANDSHAKE;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::{self, HandshakeV10};
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::OK;
use crate::proxy_protocol::{Format, looks_like_header};

/// The bytes of a greeting that may be needed to read its capabilities.
const KEEP_GREETING: usize = 512;
/// The byte of the client's capabilities that has the flag SSL, and the flag in it.
const SSL: (usize, u8) = (1, 0x08);

/// Watches the connection phase of one connection.
#[derive(Debug)]
pub(in crate::connection) struct Guard {
    client: Fragments,
    server: Server,
}

#[derive(Debug)]
struct Server {
    framer: Framer,
    /// How many of its bytes came, as far as it matters.
    seen: usize,
    greeted: bool,
    offers_tls: bool,
}

/// What the bytes mean for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Watch {
    /// Nothing yet.
    GoesOn,
    /// No header can come any more: TLS begins, the server took the client, or it is no MySQL server.
    IsOver,
    /// A header.
    Header(Format),
}

impl Guard {
    pub(in crate::connection) fn new() -> Self {
        let server =
            Server { framer: Framer::new(KEEP_GREETING), seen: 0, greeted: false, offers_tls: false };
        Self { client: Fragments::default(), server }
    }

    /// Maximum heap memory in bytes. All of it counts from the beginning, because a guard cannot give any back before the
    /// connection ends.
    pub(in crate::connection) const MAX_MEMORY: usize = KEEP_GREETING;

    pub(in crate::connection) fn client_bytes(&mut self, mut input: &[u8]) -> Watch {
        while let Some(first) = input.first() {
            if self.client.asked_for_tls() && self.server.offers_tls && *first == TLS_HANDSHAKE {
                return Watch::IsOver;
            }
            if let Some(header) = self.client.next(&mut input) {
                if let Some(format) = looks_like_header(header) {
                    return Watch::Header(format);
                }
            }
        }
        Watch::GoesOn
    }

    pub(in crate::connection) fn server_bytes(&mut self, bytes: &[u8]) -> Watch {
        if self.server.is_no_mysql(bytes) {
            return Watch::IsOver;
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
                Some(OK) if self.server.greeted && self.client.packets > 0 => return Watch::IsOver,
                _ => {}
            }
            self.server.greeted = true;
        }
        Watch::GoesOn
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
