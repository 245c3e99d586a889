//! The state machines of a MySQL connection: [`Session`], from the greeting on.
//!
//! ```text
//!                +------------------- connection phase -------------------+
//! server greets  |  Greeting --> Handshake --> Authentication --OK-->     |  --> command phase
//!                |      |            |                |                   |        queue of commands, and the
//!                |      +---ERR------+-----ERR--------+--> Refused        |        ResponseState of the oldest
//!                |                   +--SSL--> opaque(tls)                |
//!                +--------------------------------------------------------+  --> opaque(compressed)
//! ```
//! A packet that is not valid in the current state stops inspection with an [`OpaqueReason`]. The bytes are still forwarded.
//! The transition tables are in `connection_phase.rs` and `command_phase.rs`.

mod command_phase;
mod connection_phase;
mod idle;
pub mod options;
mod pending;
mod requests_only;
pub mod response;
pub mod statements;

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::event::desync_report::DesyncReport;
use crate::event::output::{Outcome, Output};
use crate::event::recent_packets::RecentPackets;
use crate::event::violation::Violation;
use crate::event::{ClosedBy, Event, HandshakeResult, HazardKind, OpaqueReason, Phase, Sender};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::packet::Packet;
use crate::rules::Field;
use crate::session::command_phase::CommandPhase;
use crate::session::connection_phase::{ConnectionPhase, Progress};
use crate::session::options::Options;
use crate::session::pending::{MAX_COMMAND_PREFIX, RequestedIdentity, command_prefix_len};
use crate::session::requests_only::RequestsOnly;

/// Number of bytes of a packet that are inspected in the connection phase. Greetings fit, and nearly all handshake responses
/// with their attributes.
const MAX_CONNECTION_PHASE_PREFIX: usize = 4096;
/// Number of bytes of a response's packet that are inspected: they contain the fields that the session reads.
const MAX_RESPONSE_PREFIX: usize = 64;
/// Number of bytes of a command that are inspected if file requests are judged. Of longer statements only this part is known.
const MAX_JUDGED_PREFIX: usize = 16 << 10;
/// Number of bytes of a server's packet that are inspected if it can be a file request: no path is longer (`PATH_MAX`).
const MAX_FILE_REQUEST_PREFIX: usize = 4096;
/// Number of bytes of a response's packet that are inspected if the schema is of interest: the session state of an OK packet.
const MAX_SESSION_STATE_PREFIX: usize = 512;

/// The phase, as far as the session inspects it.
#[derive(Debug)]
enum State {
    Connection(ConnectionPhase),
    Command(Box<CommandPhase>),
    Requests(RequestsOnly),
}

/// The protocol's state for one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Software of server and client as they name it, for the report of a desync.
    peers: String,
    recent_packets: RecentPackets,
    /// The client hangs on a split EOF.
    is_affected: bool,
}

impl Session {
    /// A session on a connection that began at `opened`.
    #[must_use]
    pub fn new(opened: Timestamp, options: Options) -> Self {
        let state = State::Connection(ConnectionPhase::new(opened, options));
        Self { state, peers: String::new(), recent_packets: RecentPackets::default(), is_affected: false }
    }

    /// Maximum number of bytes of the next packet of `sender` that the session inspects.
    #[must_use]
    pub fn prefix_len(&self, sender: Sender) -> usize {
        match (&self.state, sender) {
            (State::Connection(_), _) => MAX_CONNECTION_PHASE_PREFIX,
            (State::Command(commands), Sender::Client) if commands.options.judge_files => MAX_JUDGED_PREFIX,
            (State::Command(commands), Sender::Client) => command_prefix_len(&commands.options.interests),
            (State::Command(commands), Sender::Server) => {
                let Options { interests, judge_files, .. } = &commands.options;
                if *judge_files && commands.may_request_file() {
                    MAX_FILE_REQUEST_PREFIX
                } else if commands.may_greet_again() {
                    MAX_CONNECTION_PHASE_PREFIX
                } else if interests.has(Field::Schema) {
                    MAX_SESSION_STATE_PREFIX
                } else {
                    MAX_RESPONSE_PREFIX
                }
            }
            (State::Requests(_), Sender::Client) => MAX_COMMAND_PREFIX,
            (State::Requests(_), Sender::Server) => 0,
        }
    }

    fn options(&self) -> Options {
        match &self.state {
            State::Connection(connection) => connection.options,
            State::Command(commands) => commands.options,
            State::Requests(requests) => requests.options,
        }
    }

    /// Stops judging file requests.
    pub fn stop_judging_files(&mut self) {
        let options = match &mut self.state {
            State::Connection(connection) => &mut connection.options,
            State::Command(commands) => &mut commands.options,
            State::Requests(requests) => &mut requests.options,
        };
        options.judge_files = false;
    }

    /// The phase that the connection has reached.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Connection(connection) => connection.phase(),
            State::Command(_) | State::Requests(_) => Phase::Command,
        }
    }

    /// True in the command phase if responses are inspected.
    #[must_use]
    pub fn is_command_phase(&self) -> bool {
        matches!(self.state, State::Command(_))
    }

    /// True if both peers have agreed on TLS: every further byte is TLS, except in an ERR of the server.
    #[must_use]
    pub fn awaits_tls(&self) -> bool {
        matches!(&self.state, State::Connection(connection) if connection.awaits_tls())
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Connection(connection) => connection.memory(),
            State::Command(commands) => commands.memory(),
            State::Requests(_) => 0,
        };
        state.saturating_add(self.peers.capacity())
    }

    /// True if the client sent COM_QUIT: then the client is the peer that ends the connection.
    #[must_use]
    pub fn has_quit(&self) -> bool {
        match &self.state {
            State::Connection(connection) => connection.has_quit(),
            State::Command(commands) => commands.has_quit(),
            State::Requests(requests) => requests.has_quit(),
        }
    }

    /// Stops inspecting the server's packets, if the server has accepted the client.
    pub fn observe_requests_only(&mut self) {
        if let State::Command(commands) = &self.state {
            self.state = State::Requests(RequestsOnly::new(
                commands.capabilities(),
                commands.has_quit(),
                commands.options,
            ));
        }
    }

    /// True if the server's packets are not inspected.
    #[must_use]
    pub fn observes_requests_only(&self) -> bool {
        matches!(self.state, State::Requests(_))
    }

    /// True if the client hangs when the final EOF of a COM_STMT_PREPARE response arrives late.
    #[must_use]
    pub fn is_affected(&self) -> bool {
        self.is_affected
    }

    /// Number of column definitions still expected before that EOF; `None` if no such response is in progress.
    #[must_use]
    pub fn definitions_left(&self) -> Option<u16> {
        match &self.state {
            State::Connection(_) | State::Requests(_) => None,
            State::Command(commands) => commands.definitions_left(),
        }
    }

    /// True if a client could accept a file request as the server's next packet.
    #[must_use]
    pub fn may_request_file(&self) -> bool {
        matches!(&self.state, State::Command(commands) if commands.may_request_file())
    }

    /// True if no part of the server's next packet may reach the client without the rest, if file requests are judged.
    #[must_use]
    pub fn can_be_dropped(&self) -> bool {
        matches!(&self.state, State::Command(commands) if commands.can_be_dropped())
    }

    /// Sequence id of a file request that must be blocked, and the capabilities of both peers. It is always the last packet
    /// inspected.
    #[must_use]
    pub fn blocked_request(&self) -> Option<(u8, Capabilities)> {
        match &self.state {
            State::Connection(_) | State::Requests(_) => None,
            State::Command(commands) => commands.blocked_request().map(|id| (id, commands.capabilities())),
        }
    }

    /// Takes a packet of the server if it is a whole row or column definition, as nearly all packets are. The session inspects as
    /// many bytes of the next packet as of this one. Returns false, and changes nothing, if it can be another packet.
    pub fn content(&mut self, packet: &Packet) -> bool {
        let State::Command(commands) = &mut self.state else { return false };
        let is_content = commands.content(packet);
        if is_content {
            self.recent_packets.push(Sender::Server, packet.length, packet.sequence_id, Phase::Command);
        }
        is_content
    }

    /// Takes the beginning of a packet.
    pub fn packet(&mut self, sender: Sender, packet: &Packet, out: &mut Output) -> Outcome {
        self.recent_packets.push(sender, packet.length, packet.sequence_id, self.phase());
        match (&mut self.state, sender) {
            (State::Connection(connection), Sender::Client) => {
                connection.client_packet(packet, &mut self.peers, out)
            }
            (State::Connection(connection), Sender::Server) => {
                match connection.server_packet(packet, &mut self.peers, out)? {
                    Progress::Continues => Ok(()),
                    Progress::Accepted { capabilities, affected_client } => {
                        self.is_affected = affected_client.is_some();
                        out.events.extend(affected_client.map(Event::EofHazardClient));
                        let RequestedIdentity { user, schema } = connection.take_identity();
                        let has_quit = connection.has_quit();
                        if let Some(schema) = schema {
                            out.details.record(connection.options.interests, Field::Schema, || schema);
                        }
                        let mut commands =
                            CommandPhase::new(capabilities, user, out.clock.now(), connection.options);
                        if has_quit {
                            commands.on_early_quit(out.events);
                        }
                        if connection.declines_files() {
                            commands.decline_files();
                        }
                        self.accepted(commands)
                    }
                }
            }
            (State::Command(commands), Sender::Client) => commands.client_packet(packet, out),
            (State::Command(commands), Sender::Server) => commands.server_packet(packet, out),
            (State::Requests(requests), Sender::Client) => requests.packet(packet, out),
            (State::Requests(_), Sender::Server) => Ok(()),
        }
    }

    /// Takes the end of a long packet, whose last fragment has `sequence_id`.
    pub fn packet_end(&mut self, sender: Sender, sequence_id: u8) {
        match (&mut self.state, sender) {
            (State::Command(commands), _) => commands.packet_end(sender, sequence_id),
            (State::Requests(requests), Sender::Client) => requests.packet_end(sequence_id),
            (State::Connection(_), _) | (State::Requests(_), Sender::Server) => {}
        }
    }

    /// True if [`Session::stall`] would emit an event.
    #[must_use]
    pub fn is_stall_due(&self, now: Timestamp, stall: Duration) -> bool {
        matches!(&self.state, State::Command(commands) if commands.is_stall_due(now, stall))
    }

    /// Emits the change of the number of commands that have waited at least `stall` for the end of their responses.
    pub fn stall(&mut self, now: Timestamp, stall: Duration, events: &mut Vec<Event>) {
        if let State::Command(commands) = &mut self.state {
            commands.stall(now, stall, events);
        }
    }

    /// Records the commands without a response as slow ones, because the connection ends.
    pub fn record_unanswered(&self, out: &mut Output) {
        if let (State::Command(commands), Some(_)) = (&self.state, self.options().interests.slow_after) {
            commands.record_unanswered(out.clock.now(), out.details);
        }
    }

    /// The hazard of a connection that `by` ended; `None` if there is none.
    #[must_use]
    pub fn hazard_of_close(&self, by: ClosedBy, clock: &mut Clock) -> Option<Event> {
        match &self.state {
            State::Connection(connection) if by == ClosedBy::Client && connection.is_unanswered() => {
                Some(Event::Hazard(HazardKind::UnansweredGreeting))
            }
            State::Connection(_) | State::Requests(_) => None,
            State::Command(commands) => commands.idle_closed(by, clock),
        }
    }

    /// Ends the session, because the connection ended or inspection stopped for `reason`. No command gets a response any more.
    pub fn end(&mut self, reason: Option<OpaqueReason>, events: &mut Vec<Event>) {
        let result = match (&mut self.state, reason) {
            (State::Command(commands), _) => return commands.end(events),
            (State::Requests(_), _) => return,
            (State::Connection(_), Some(OpaqueReason::Tls)) => HandshakeResult::Tls,
            (State::Connection(connection), None) if connection.is_undecided() => HandshakeResult::Aborted,
            (State::Connection(_), _) => return,
        };
        events.push(Event::Handshake { result, duration: None });
    }

    /// Capabilities of both peers, as far as they are known.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match &self.state {
            State::Connection(connection) => connection.capabilities(),
            State::Command(commands) => commands.capabilities(),
            State::Requests(requests) => requests.capabilities(),
        }
    }

    /// The report of a desync, which ends the session: it takes the names of the peers with it.
    #[must_use]
    pub fn report(&mut self, violation: Option<Violation>) -> DesyncReport {
        let (peers, packets) = (std::mem::take(&mut self.peers), self.recent_packets);
        DesyncReport { violation, peers, capabilities: self.capabilities(), packets }
    }

    /// Enters the command phase. Compression begins after the OK, which is not compressed.
    fn accepted(&mut self, commands: CommandPhase) -> Outcome {
        let capabilities = commands.capabilities();
        self.state = State::Command(Box::new(commands));
        let compression = Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
        if capabilities.intersects(compression) { Err(OpaqueReason::Compressed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
