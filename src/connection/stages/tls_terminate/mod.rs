//! Continues a connection whose TLS has ended before the filter. The partner, a filter on another listener, has started it
//! without TLS: it sends the greeting to the client, and takes the SSLRequest ([`ClearStart`]).
//!
//! | state    | client, in TLS                                         | server                                       |
//! |----------|--------------------------------------------------------|----------------------------------------------|
//! | Clear    | handshake response: TLS is established                 | handed over to the partner; TLS is offered   |
//! | Login    | sequence ids - 1, and no `CLIENT_SSL` in the response  | sequence ids + 1, until OK or ERR            |
//! | Decided  | unchanged                                              | unchanged                                    |
//! | Refused  | closed                                                 | dropped                                      |
//!
//! The client has sent one packet more than this filter sees, the SSLRequest. So the rest of the list sees a client without
//! TLS. With `tls.upstream: originate`, [`TlsOriginator`] then starts TLS to the server as it does for such a client.
//!
//! [`ClearStart`]: crate::connection::clear_start::ClearStart
//! [`TlsOriginator`]: super::tls_originate::TlsOriginator

use std::mem::size_of;

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::inspector::landmarks::InspectionEnd;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::greeting_flags::{GreetingFlags, SSL_AT, SSL_FLAG};
use crate::connection::stages::packet_headers::{Found, PacketHeaders};
use crate::connection::stages::{Seen, Stage};
use crate::event::output::Output;
use crate::event::{ClosedBy, Event, Sender, TlsResult, TlsSide};
use crate::mysql::wire::packet::HEADER_LEN;
use crate::mysql::wire::response::{ERR, OK};
use crate::rules::Rules;

/// Offset of the byte with `CLIENT_SSL` in a handshake response.
const FLAG_AT: usize = HEADER_LEN.saturating_add(SSL_AT);
/// Sequence id of a handshake response that follows an SSLRequest.
const RESPONSE_ID: u8 = 2;
/// Sequence ids of the client minus those of a client without TLS.
const SHIFT: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client has sent nothing in TLS.
    Clear {
        /// True if the client has sent its SSLRequest.
        is_requested: bool,
    },
    /// The client logs in.
    Login,
    /// The server has accepted or refused the client.
    Decided,
    /// The connection forwards nothing more.
    Refused,
}

/// The rest of one connection after its start without TLS.
#[derive(Debug)]
pub(in crate::connection) struct TlsTerminator {
    state: State,
    greeting: GreetingFlags,
    client: PacketHeaders,
    /// The client's packets with those of the current chunk. `None` if no later stage has let a chunk pass since it was held.
    with_chunk: Option<PacketHeaders>,
    /// True once the handshake response was forwarded, or its beginning.
    has_responded: bool,
    server: PacketHeaders,
}

impl Stage for TlsTerminator {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        rules.terminate_tls.then(|| Self {
            state: State::Clear { is_requested: false },
            greeting: GreetingFlags::default(),
            client: PacketHeaders::default(),
            with_chunk: None,
            has_responded: false,
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
            State::Decided => return Flow::Continue,
            _ if rewrite.len() == 0 => return Flow::Continue,
            State::Refused => return Flow::Close,
            State::Login => {}
            State::Clear { is_requested } => {
                let start = rewrite.rest().read(0, FLAG_AT.saturating_add(1)).unwrap_or_default();
                let Some([_, _, _, id, _, flags]) = start.first_chunk() else {
                    return if end_stream { self.refuse(out) } else { Flow::HoldRest };
                };
                if !is_requested || *id != RESPONSE_ID || flags & SSL_FLAG == 0 {
                    return self.refuse(out);
                }
                self.state = State::Login;
                out.events.push(event(TlsResult::Established));
            }
        }
        let Some(bytes) = rewrite.bytes() else { return self.refuse(out) };
        // A later stage can hold the chunk, which then arrives again.
        let mut headers = self.client.clone();
        let mut at = 0;
        while let Some(found) = headers.next(&bytes, &mut at) {
            if let Found::SequenceId { at, id } = found {
                rewrite.set(at, id.wrapping_sub(SHIFT));
            }
        }
        self.with_chunk = Some(headers);
        if let (false, Some(flags)) = (self.has_responded, bytes.get(FLAG_AT)) {
            rewrite.set(FLAG_AT, flags & !SSL_FLAG);
        }
        Flow::Continue
    }

    fn client_after<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &Seen, _: &mut Output) -> Flow {
        if let Some(headers) = self.with_chunk.take() {
            self.client = headers;
            self.has_responded = true;
        }
        Flow::Continue
    }

    fn server_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &mut Output) -> Flow {
        if self.state == State::Refused { Flow::Drop } else { Flow::Continue }
    }

    fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &Seen, out: &mut Output) -> Flow {
        if rewrite.len() == 0 || self.state == State::Decided {
            return Flow::Continue;
        }
        let Some(bytes) = rewrite.replaced() else {
            self.refuse(out);
            return Flow::Drop;
        };
        if matches!(self.state, State::Clear { .. }) {
            if let Some((at, byte)) = self.greeting.find_ssl(&bytes) {
                rewrite.set_again(at, byte | SSL_FLAG);
            }
            rewrite.hand_over();
        }
        let mut at = 0;
        while let Some(found) = self.server.next(&bytes, &mut at) {
            match (self.state, found) {
                (State::Login, Found::SequenceId { at, id }) => rewrite.set_again(at, id.wrapping_add(SHIFT)),
                // Before the response the server decides nothing.
                (State::Login, Found::First(OK | ERR)) if self.has_responded => {
                    self.state = State::Decided;
                    break;
                }
                _ => {}
            }
        }
        Flow::Continue
    }

    /// The client's packets cannot be numbered without the inspector's consent.
    fn end_of_inspection<C: Chunk>(
        &mut self,
        _: &mut Rewrite<C>,
        end: &InspectionEnd,
        out: &mut Output,
    ) -> Flow {
        if !end.is_broken() || matches!(self.state, State::Decided | State::Refused) {
            return Flow::Continue;
        }
        // Before the SSLRequest the partner counts the result.
        if self.state == (State::Clear { is_requested: false }) {
            self.state = State::Refused;
        }
        let flow = self.refuse(out);
        if end.sender == Sender::Server { Flow::Drop } else { flow }
    }

    fn close(&self, _: ClosedBy, _: bool, out: &mut Output) {
        if self.state == (State::Clear { is_requested: true }) {
            out.events.push(event(TlsResult::Failed));
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Decided
    }

    fn is_final(&self) -> bool {
        self.state == State::Refused
    }

    fn stays(&self) -> bool {
        true
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

const fn event(result: TlsResult) -> Event {
    Event::Tls { side: TlsSide::Downstream, result }
}

impl TlsTerminator {
    /// Takes the client's SSLRequest.
    pub(in crate::connection) fn requested(&mut self) {
        if let State::Clear { is_requested } = &mut self.state {
            *is_requested = true;
        }
    }

    /// Numbers the reply of a stage for the client.
    pub(in crate::connection) fn renumber_reply<C: Chunk>(&self, rewrite: &mut Rewrite<C>) {
        rewrite.renumber_reply(SHIFT);
    }

    fn refuse(&mut self, out: &mut Output) -> Flow {
        if matches!(self.state, State::Clear { .. }) {
            out.events.push(event(TlsResult::Refused));
        }
        self.state = State::Refused;
        Flow::Close
    }
}
