//! Starts TLS to the server for a client without TLS.
//!
//! | state        | client                                         | server                                   |
//! |--------------|------------------------------------------------|------------------------------------------|
//! | Greeting     | any byte: closed                               | greeting: the offer of TLS is cleared    |
//! | Response     | held until its flags are there                 | only an ERR                              |
//! | Flushing     | held                                           | any byte: closed                         |
//! | Login        | sent in TLS, sequence ids + 1                  | sequence ids - 1, until OK or ERR        |
//! | Refused      | closed                                         | dropped                                  |
//!
//! The SSLRequest is a copy of the first 32 bytes of the handshake response, with `CLIENT_SSL`. A server takes the
//! capabilities from it and not from the response after it (`parse_client_handshake_packet` in MySQL and MariaDB). It is one
//! packet more than the client has sent. So the sequence ids differ by one until the server accepts or refuses the client.
//!
//! Nothing reaches the server without TLS except the SSLRequest. A third party on the network could have sent what comes
//! between the greeting and TLS, so only an error of it reaches the client.

mod full_authentication;

use std::mem::size_of;

use self::full_authentication::{Action, FullAuthentication};
use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::inspector::landmarks::InspectionEnd;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::greeting_flags::{GreetingFlags, SSL_AT, SSL_FLAG};
use crate::connection::stages::packet_headers::{Found, PacketHeaders};
use crate::connection::stages::{Seen, Stage};
use crate::event::output::Output;
use crate::event::{ClosedBy, Event, Sender, TlsResult, TlsSide};
use crate::mysql::wire::packet::{HEADER_LEN, MAX_FRAGMENT_LEN, whole};
use crate::mysql::wire::response::{ERR, OK, handshake_error};
use crate::password_key::wipe;
use crate::rules::Rules;

/// Length of the part of a handshake response that an SSLRequest repeats.
const REQUEST_LEN: u8 = 32;
const REQUEST_END: usize = HEADER_LEN + REQUEST_LEN as usize;
/// Maximum length of a block of RSA, in bytes.
const MAX_BLOCK_LEN: usize = 1024;
/// Number of turns of the host's event loop between the SSLRequest and TLS. Envoy writes to the socket in the turn after the
/// call, but after it has read from sockets. So the SSLRequest has left in the second turn.
const TURNS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The greeting is not complete.
    Greeting,
    /// The client has not responded.
    Response {
        /// True if the server offers TLS.
        is_offered: bool,
    },
    /// The SSLRequest is on its way.
    Flushing {
        /// Number of turns until TLS starts.
        turns: u8,
    },
    /// The client logs in. TLS has started.
    Login {
        /// True once the server has sent something in TLS.
        is_established: bool,
    },
    /// The server has accepted or refused the client.
    Decided,
    /// The connection forwards nothing more from the client.
    Refused {
        /// True if the server's bytes are forwarded, because the server itself has refused the client.
        by_server: bool,
    },
}

/// TLS to the server of one connection.
#[derive(Debug)]
pub(in crate::connection) struct TlsOriginator {
    state: State,
    /// True once the greeting has begun.
    has_greeted: bool,
    greeting: GreetingFlags,
    /// False if the client has its own TLS, which ends before the filter.
    clears_offer: bool,
    client: PacketHeaders,
    server: PacketHeaders,
    /// Difference of the sequence ids: that of the server minus that of the client.
    shift: u8,
    /// `None` if the host has no key.
    full_authentication: Option<FullAuthentication>,
}

impl Stage for TlsOriginator {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        rules.originate_tls.map(|originate| Self {
            shift: 1,
            full_authentication: originate.password_key.map(FullAuthentication::new),
            state: State::Greeting,
            has_greeted: false,
            greeting: GreetingFlags::default(),
            clears_offer: !rules.terminate_tls,
            client: PacketHeaders::default(),
            server: PacketHeaders::default(),
        })
    }

    fn client_before<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        match self.state {
            _ if rewrite.rest().is_empty() => Flow::Continue,
            State::Greeting => self.refuse(TlsResult::Refused, out),
            State::Response { is_offered } => self.response(rewrite, is_offered, end_stream, out),
            State::Flushing { turns: 0 | 1 } => {
                rewrite.start_server_tls();
                self.state = State::Login { is_established: false };
                Flow::Continue
            }
            State::Flushing { turns } => {
                self.state = State::Flushing { turns: turns.saturating_sub(1) };
                Flow::NextTurn
            }
            State::Login { .. } if !end_stream && self.lacks_bytes(rewrite) => Flow::HoldRest,
            State::Login { .. } | State::Decided => Flow::Continue,
            State::Refused { .. } => Flow::Close,
        }
    }

    fn client_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &Seen, out: &mut Output) -> Flow {
        if !matches!(self.state, State::Login { .. }) {
            return Flow::Continue;
        }
        let Some(bytes) = rewrite.replaced() else { return self.refuse(TlsResult::Refused, out) };
        if rewrite.starts_server_tls() {
            let at = HEADER_LEN.saturating_add(SSL_AT);
            rewrite.set_again(at, bytes.get(at).copied().unwrap_or(0) | SSL_FLAG);
        } else if self.exchange_password(&bytes, rewrite) {
            return Flow::Continue;
        }
        let mut at = 0;
        while let Some(found) = self.client.next(&bytes, &mut at) {
            if let Found::SequenceId { at, id } = found {
                rewrite.set_again(at, id.wrapping_add(self.shift));
            }
        }
        Flow::Continue
    }

    fn server_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, out: &mut Output) -> Flow {
        if rewrite.len() == 0 || self.state == State::Decided {
            return Flow::Continue;
        }
        let bytes = rewrite.bytes();
        let is_expected = bytes.is_some_and(|bytes| self.server_bytes(&bytes, rewrite, out));
        match self.state {
            State::Refused { by_server: true } => Flow::Continue,
            State::Refused { .. } => Flow::Drop,
            _ if is_expected => Flow::Continue,
            _ => {
                self.refuse(TlsResult::Refused, out);
                Flow::Drop
            }
        }
    }

    /// Clears the offer after the inspector, which reads the greeting as the server has sent it.
    fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &Seen, _: &mut Output) -> Flow {
        if self.greeting.is_over() {
            return Flow::Continue;
        }
        if let Some((at, byte)) = self.greeting.find_ssl(&rewrite.bytes().unwrap_or_default()) {
            self.state = State::Response { is_offered: byte & SSL_FLAG != 0 };
            if self.clears_offer {
                rewrite.set(at, byte & !SSL_FLAG);
            }
        }
        Flow::Continue
    }

    /// The two conversations cannot be kept in step without the inspector's consent.
    fn end_of_inspection<C: Chunk>(
        &mut self,
        _: &mut Rewrite<C>,
        end: &InspectionEnd,
        out: &mut Output,
    ) -> Flow {
        if !end.is_broken() || matches!(self.state, State::Decided | State::Refused { .. }) {
            return Flow::Continue;
        }
        let flow = self.refuse(TlsResult::Refused, out);
        if end.sender == Sender::Server { Flow::Drop } else { flow }
    }

    fn close(&self, _: ClosedBy, _: bool, out: &mut Output) {
        if self.state == (State::Login { is_established: false }) {
            out.events.push(event(TlsResult::Failed));
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Decided
    }

    fn is_final(&self) -> bool {
        self.state == (State::Refused { by_server: false })
    }

    fn stays(&self) -> bool {
        true
    }

    /// Counts the maximum from the start, because the stage cannot give memory back before the login is decided.
    fn memory(&self) -> usize {
        let more = self.full_authentication.as_ref().map_or(0, |_| FullAuthentication::max_memory());
        size_of::<Self>().saturating_add(more)
    }
}

const fn event(result: TlsResult) -> Event {
    Event::Tls { side: TlsSide::Upstream, result }
}

impl TlsOriginator {
    fn refuse(&mut self, result: TlsResult, out: &mut Output) -> Flow {
        let is_counted = self.state == (State::Login { is_established: true });
        self.state = State::Refused { by_server: false };
        if !is_counted {
            out.events.push(event(result));
        }
        Flow::Close
    }

    /// Refuses the client with an error that follows its handshake response.
    fn refuse_with<C: Chunk>(
        &mut self,
        result: TlsResult,
        message: &[u8],
        start: &[u8],
        rewrite: &mut Rewrite<C>,
        out: &mut Output,
    ) -> Flow {
        self.refuse(result, out);
        let id = start.get(HEADER_LEN.saturating_sub(1)).map_or(1, |id| id.wrapping_add(1));
        rewrite.reply(handshake_error(id, message));
        Flow::Refuse
    }

    /// True if the next packet of the client must be complete, and is not.
    fn lacks_bytes<C: Chunk>(&self, rewrite: &Rewrite<C>) -> bool {
        if !self.full_authentication.as_ref().is_some_and(FullAuthentication::needs_whole_packet) {
            return false;
        }
        let rest = rewrite.rest();
        let header = rest.read(0, HEADER_LEN).unwrap_or_default();
        let Some([l0, l1, l2, _]) = header.first_chunk::<HEADER_LEN>() else { return true };
        let len = usize::from(u16::from_le_bytes([*l0, *l1]));
        // A longer packet is neither a request for a key nor a block of RSA.
        *l2 == 0 && len <= MAX_BLOCK_LEN && rest.len() < len.saturating_add(HEADER_LEN)
    }

    /// Takes the client's part in a full authentication. Returns false if `bytes` are not a packet of it.
    fn exchange_password<C: Chunk>(&mut self, bytes: &[u8], rewrite: &mut Rewrite<C>) -> bool {
        let full = self.full_authentication.as_mut().filter(|full| full.needs_whole_packet());
        let (Some(full), Some(([_, _, _, id], payload))) = (full, bytes.split_first_chunk::<HEADER_LEN>())
        else {
            return false;
        };
        match full.client(payload) {
            Action::Forward => return false,
            Action::Reply(payload) => {
                rewrite.replace_from(0, &[]);
                rewrite.reply(whole(id.wrapping_add(1), &payload));
            }
            Action::Replace(mut password) => {
                // The request for the key and the key have passed between filter and client only.
                self.shift = self.shift.wrapping_sub(2);
                rewrite.replace_with_password(whole(id.wrapping_add(self.shift), &password));
                wipe(&mut password);
            }
        }
        true
    }

    /// Takes the handshake response, or its beginning.
    fn response<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        is_offered: bool,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        let start = rewrite.rest().read(0, REQUEST_END).unwrap_or_default();
        if let Some([l0, l1, l2, _]) = start.first_chunk::<HEADER_LEN>() {
            let len = u32::from_le_bytes([*l0, *l1, *l2, 0]);
            if !(u32::from(REQUEST_LEN)..MAX_FRAGMENT_LEN).contains(&len) {
                let message = b"A client must use protocol 4.1, because tls.upstream is originate";
                return self.refuse_with(TlsResult::Refused, message, &start, rewrite, out);
            }
        }
        let Some(request) = start.get(..REQUEST_END) else {
            return if end_stream { self.refuse(TlsResult::Refused, out) } else { Flow::HoldRest };
        };
        let mut request = request.to_vec();
        let Some([l0, l1, l2, _, _, flags]) = request.first_chunk_mut() else { return Flow::HoldRest };
        if *flags & SSL_FLAG != 0 {
            let message =
                b"Connect without TLS: the proxy starts TLS to the server (tls.upstream is originate)";
            return self.refuse_with(TlsResult::ClientTls, message, &start, rewrite, out);
        }
        if !is_offered {
            let message = b"The server offers no TLS, and the proxy sends nothing without it (tls.upstream is originate)";
            return self.refuse_with(TlsResult::NotOffered, message, &start, rewrite, out);
        }
        (*l0, *l1, *l2) = (REQUEST_LEN, 0, 0);
        *flags |= SSL_FLAG;
        rewrite.send_first(request);
        self.state = State::Flushing { turns: TURNS };
        Flow::NextTurn
    }

    /// Takes bytes of the server. Returns false if they may not be forwarded.
    fn server_bytes<C: Chunk>(&mut self, bytes: &[u8], rewrite: &mut Rewrite<C>, out: &mut Output) -> bool {
        let mut at = 0;
        match self.state {
            State::Flushing { .. } => return false,
            State::Login { is_established: false } => {
                self.state = State::Login { is_established: true };
                out.events.push(event(TlsResult::Established));
            }
            _ => {}
        }
        if let Some(full) = &mut self.full_authentication {
            full.server(bytes);
        }
        while let Some(found) = self.server.next(bytes, &mut at) {
            match (self.state, found) {
                (State::Login { .. }, Found::SequenceId { at, id }) => {
                    rewrite.set(at, id.wrapping_sub(self.shift))
                }
                (State::Login { .. }, Found::First(OK | ERR)) => {
                    self.state = State::Decided;
                    return true;
                }
                (State::Greeting | State::Response { .. }, Found::First(ERR)) => {
                    self.state = State::Refused { by_server: true };
                    return true;
                }
                (State::Greeting, Found::First(_)) if !self.has_greeted => self.has_greeted = true,
                (State::Greeting | State::Response { .. }, Found::First(_)) => return false,
                _ => {}
            }
        }
        true
    }
}
