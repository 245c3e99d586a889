//! One connection, sans-IO.
//!
//! The host calls [`Connection::client`] and [`Connection::server`] with the bytes of its callbacks, [`Connection::tick`]
//! when [`Connection::is_due`] returns true, and [`Connection::close`] at the end. Each call writes events to an [`Output`]
//! and returns a verdict for the host.
//!
//! The inspector reads bytes and cannot change one. Stages change, hold or drop bytes. Each direction is one list that runs
//! from top to bottom. The inspector gets the bytes as each peer sent them, without PROXY headers.

pub mod chunk;
#[cfg(not(target_family = "wasm"))]
pub mod clear_start;
pub mod inspector;
mod rewrite;
mod stages;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::connection::chunk::{Chunk, ClientVerdict, ServerVerdict, TickVerdict};
use crate::connection::inspector::Inspector;
use crate::connection::inspector::landmarks::{InspectionEnd, Landmarks};
use crate::connection::rewrite::{Flow, Rewrite, Withheld};
use crate::connection::stages::block_local_infile::FileRequestBlocker;
use crate::connection::stages::clear_capabilities::GreetingFilter;
use crate::connection::stages::hold_split_eof::PrepareHolder;
use crate::connection::stages::password_guard::PasswordGuard;
use crate::connection::stages::proxy_header::guard::HeaderGuard;
use crate::connection::stages::proxy_header::receive::HeaderReceiver;
use crate::connection::stages::proxy_header::send::HeaderSender;
use crate::connection::stages::tls_originate::TlsOriginator;
use crate::connection::stages::tls_terminate::TlsTerminator;
use crate::connection::stages::{Seen, Stage, stages};
use crate::event::output::Output;
use crate::event::{ClosedBy, OpaqueReason, Sender};
use crate::rules::Rules;

// All features that change bytes. Each direction runs the list from top to bottom: once before the inspector, once after it.
stages! {
    // server: before, reads the greeting; after, clears flags in it
    clear_capabilities: GreetingFilter,
    // both: before, drops everything once blocked; after the server's bytes, blocks a request
    block_local_infile: FileRequestBlocker,
    // client: before, strips, holds or refuses a header; server: before, starts the time-out
    proxy_receive: HeaderReceiver,
    // client: before, renumbers packets until the login is decided; server: after, hands the greeting over to the filter that
    // starts the connection, and renumbers packets. Before the stage that starts TLS to the server
    tls_terminate: TlsTerminator,
    // client: before, holds a password until the server has sent its key, or refuses it; after, encrypts it; server: before, drops
    // the key, and renumbers packets until the login is decided. After the stage that numbers the client's packets
    password_guard: PasswordGuard,
    // client: before, holds the handshake response until TLS to the server starts; after, and server before: renumbers packets
    // until the login is decided; server: after, clears the offer of TLS. Before the guard, which must see each byte once
    tls_originate: TlsOriginator,
    // client: before, refuses a second header; server: before, waits for the end of the connection phase
    proxy_guard: HeaderGuard,
    // client: after, puts a header before the first bytes
    proxy_send: HeaderSender,
    // server: after, holds the end of a response
    hold_split_eof: PrepareHolder,
}

/// State of one connection.
#[derive(Debug)]
pub struct Connection {
    inspector: Inspector,
    stages: Stages,
    /// Bytes of the server that are held until its next bytes arrive.
    withheld: Withheld,
}

impl Connection {
    /// Creates the state of a connection that was opened at `opened`.
    #[must_use]
    pub fn new(rules: &Rules, opened: Timestamp) -> Self {
        let inspector = Inspector::new(rules, opened);
        Self { inspector, stages: Stages::new(rules, opened), withheld: Withheld::default() }
    }

    /// Takes bytes of the client, which begin with the bytes that were held before. `end_stream`: no bytes follow.
    pub fn client(&mut self, chunk: &impl Chunk, end_stream: bool, out: &mut Output) -> ClientVerdict {
        if end_stream {
            self.inspector.end_of_stream(Sender::Client);
        }
        if self.stages.are_absent() {
            self.inspector.inspect(Sender::Client, chunk, out);
            return ClientVerdict::Pass;
        }
        let mut rewrite = Rewrite::of_client(chunk);
        let flow = self.client_list(&mut rewrite, end_stream, out);
        self.forget_received_header();
        if let Some(stage) = &self.stages.tls_terminate {
            stage.renumber_reply(&mut rewrite);
        }
        self.stages.drop_finished();
        rewrite.client_verdict(flow)
    }

    /// Lets the stage that has received a header finish, once no header is left to send.
    fn forget_received_header(&mut self) {
        let Stages { proxy_receive, proxy_send, .. } = &mut self.stages;
        let is_needed = proxy_send.as_ref().is_some_and(|stage| !stage.is_over());
        if let Some(stage) = proxy_receive.as_mut().filter(|_| !is_needed) {
            stage.forget();
        }
    }

    /// Passes the client's bytes through the list and the inspector.
    fn client_list<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        let Self { inspector, stages, .. } = self;
        let held_connection = stages.holds_connection();
        let flow = stages.client_before(rewrite, end_stream, out);
        let believed = stages.proxy_receive.as_ref().and_then(|stage| stage.believed());
        if rewrite.sends() {
            // A PROXY header precedes everything that the server gets.
            let header = stages.proxy_send.as_mut().and_then(|stage| stage.take_header(believed, out));
            rewrite.send_first(header.unwrap_or_default());
        }
        if flow != Flow::Continue {
            return flow;
        }
        if held_connection && !stages.holds_connection() {
            inspector.server_can_speak(out.clock.now());
        }
        let end = inspector.inspect(Sender::Client, &rewrite.rest(), out);
        let seen = Seen { is_opaque: inspector.is_opaque(), end_stream, believed, ..Seen::default() };
        let flow = stages.client_after(rewrite, &seen, out);
        // The client takes a reply of a stage for one of the server.
        let end = end.or_else(|| {
            let reply = rewrite.pending_reply()?;
            inspector.inspect(Sender::Server, &reply, out)
        });
        flow.and_then(|| end.map_or(Flow::Continue, |end| stages.end_of_inspection(rewrite, &end, out)))
    }

    /// Takes bytes of the server. `end_stream`: no bytes follow.
    pub fn server(&mut self, chunk: &impl Chunk, end_stream: bool, out: &mut Output) -> ServerVerdict {
        if end_stream {
            self.inspector.end_of_stream(Sender::Server);
        }
        if self.stages.are_absent() && self.withheld.is_empty() {
            self.inspector.inspect(Sender::Server, chunk, out);
            return ServerVerdict::Pass;
        }
        let mut rewrite = Rewrite::of_server(chunk, &self.withheld, out.room);
        let flow = self.server_list(&mut rewrite, end_stream, out);
        if rewrite.lacks_memory() {
            rewrite.withhold_nothing();
            if let Some(end) = self.inspector.end(Sender::Server, OpaqueReason::Memory, out) {
                self.stages.end_of_inspection(&mut rewrite, &end, out);
            }
        }
        self.stages.drop_finished();
        rewrite.server_verdict(flow, &mut self.withheld)
    }

    /// Passes the server's bytes through the list and the inspector.
    fn server_list<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        let Self { inspector, stages, .. } = self;
        let flow = stages.server_before(rewrite, out);
        if flow != Flow::Continue {
            return flow;
        }
        let end = inspector.inspect(Sender::Server, &rewrite.rest(), out);
        let marks = if stages.uses_landmarks() { inspector.landmarks() } else { Landmarks::default() };
        let seen = Seen { marks, is_opaque: inspector.is_opaque(), end_stream, believed: None };
        stages
            .server_after(rewrite, &seen, out)
            .and_then(|| end.map_or(Flow::Continue, |end| stages.end_of_inspection(rewrite, &end, out)))
    }

    /// True if [`Connection::tick`] has something to do. Cheap, because it is called for every connection on every tick.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.inspector.is_due(now, !self.holds_connection()) || self.stages.is_due(now)
    }

    /// Takes the time. Closes the connection if its PROXY header has not arrived in time, or if it forwards nothing any more.
    pub fn tick(&mut self, now: Timestamp, out: &mut Output) -> TickVerdict {
        self.inspector.tick(now, !self.holds_connection(), out);
        self.stages.tick(now, out)
    }

    /// Turns off every rule that changes bytes or ends connections. Returns true if bytes of the client, or the connection to
    /// the server, were held. The host must then forward them. The held bytes are not inspected.
    pub fn disable_rewriting(&mut self, out: &mut Output) -> bool {
        self.inspector.stop_judging_files();
        let Some(held) = self.stages.disable() else { return false };
        if held > 0 {
            self.inspector.end(Sender::Client, OpaqueReason::LateStart, out);
        }
        true
    }

    /// Stops inspection, because the configuration requires it.
    pub fn stop_inspecting(&mut self, out: &mut Output) {
        self.inspector.stop(out);
    }

    /// Ends inspection before or after a chunk, because the connection may use no more memory.
    pub fn end_for_memory(&mut self, out: &mut Output) {
        if let Some(end) = self.inspector.end(Sender::Client, OpaqueReason::Memory, out) {
            self.stages.end_of_inspection(&mut Rewrite::of_client(&Bytes::new()), &end, out);
        }
        if self.stages.is_blocked() {
            // Held bytes must not reach the client any more.
            self.withheld = Withheld::default();
        }
    }

    /// Takes the end of the connection. Calls `unless_known` for the peer that ended it if the traffic does not show that.
    pub fn close(&mut self, unless_known: impl FnOnce() -> ClosedBy, out: &mut Output) {
        let by = self.inspector.closed_by(unless_known);
        self.stages.close(by, !self.withheld.is_empty(), out);
        self.withheld = Withheld::default();
        self.inspector.close(by, out);
    }

    /// True if the host must not connect to the server before a chunk of the client gets a verdict other than
    /// [`ClientVerdict::Hold`].
    #[must_use]
    pub fn holds_connection(&self) -> bool {
        self.stages.holds_connection()
    }

    /// True if another filter starts the connection without TLS, as its partner.
    #[must_use]
    pub fn has_partner(&self) -> bool {
        self.stages.tls_terminate.is_some()
    }

    /// Takes the client's SSLRequest, which the partner hands over.
    pub fn tls_requested(&mut self) {
        if let Some(stage) = &mut self.stages.tls_terminate {
            stage.requested();
        }
    }

    /// True if a rule changes, holds or drops bytes of the connection.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        !self.stages.are_absent() || !self.withheld.is_empty()
    }

    /// Time at which the connection was opened.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.inspector.opened()
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.inspector.memory().saturating_add(self.stages.memory).saturating_add(self.withheld.memory())
    }
}

#[cfg(test)]
mod tests;
