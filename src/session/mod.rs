//! The state machines of a MySQL connection: [`Session`], from the greeting on.
//!
//! ```text
//!                +------------------- connection phase -------------------+
//! server greets  |  Greeting --> Handshake --> Authentication --OK-->     |  --> command phase
//!                |      |            |                |                   |        queue of commands,
//!                |      +---ERR------+-----ERR--------+--> Refused        |        each with its ResponseState
//!                |                   +--SSL--> opaque(tls)                |
//!                +--------------------------------------------------------+  --> opaque(compressed)
//! ```
//! Anything that cannot stand where it stands ends the session with an [`OpaqueReason`]; the bytes go
//! on. The transition tables are in `connection_phase.rs` and `command_phase.rs`.

mod command_phase;
mod connection_phase;
mod idle;
pub mod options;
mod pending;
pub mod recent_packets;
mod requests_only;
pub mod response;
pub mod statements;

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::event::output::{Outcome, Output};
use crate::event::{ClosedBy, Event, HandshakeResult, HazardKind, OpaqueReason, Phase, Sender};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::packet::Packet;
use crate::rules::Field;
use crate::session::command_phase::CommandPhase;
use crate::session::connection_phase::{ConnectionPhase, Progress};
use crate::session::options::Options;
use crate::session::pending::{MAX_COMMAND_PREFIX, command_prefix_len};
use crate::session::recent_packets::RecentPackets;
use crate::session::requests_only::RequestsOnly;

/// The greeting fits; so do handshake responses with their attributes, nearly always.
const MAX_CONNECTION_PHASE_PREFIX: usize = 4096;
/// The fields that are read of an answer's packets.
const MAX_RESPONSE_PREFIX: usize = 64;
/// The statements by which requests for files are judged: of what is longer, only this is known.
const MAX_JUDGED_PREFIX: usize = 16 << 10;
/// A request for a file: no path is longer (`PATH_MAX`).
const MAX_FILE_REQUEST_PREFIX: usize = 4096;
/// The session state in an OK packet, if the schema is wanted.
const MAX_SESSION_STATE_PREFIX: usize = 512;

#[derive(Debug)]
enum Part {
    Connection(ConnectionPhase),
    Command(Box<CommandPhase>),
    Requests(RequestsOnly),
}

/// The protocol's state for one connection.
#[derive(Debug)]
pub struct Session {
    part: Part,
    /// For the report of a desync: what server and client say they are.
    peers: String,
    recent_packets: RecentPackets,
    affected_client: bool,
}

impl Session {
    /// A session on a connection that began at `opened`.
    #[must_use]
    pub fn new(opened: Timestamp, options: Options) -> Self {
        let part = Part::Connection(ConnectionPhase::new(opened, options));
        Self { part, peers: String::new(), recent_packets: RecentPackets::default(), affected_client: false }
    }

    /// How much of each coming packet of `sender` this session looks at, in bytes.
    #[must_use]
    pub fn prefix_len(&self, sender: Sender) -> usize {
        match (&self.part, sender) {
            (Part::Connection(_), _) => MAX_CONNECTION_PHASE_PREFIX,
            (Part::Command(commands), Sender::Client) if commands.options.judge_files => MAX_JUDGED_PREFIX,
            (Part::Command(commands), Sender::Client) => command_prefix_len(&commands.options.interests),
            (Part::Command(commands), Sender::Server) => {
                let Options { interests, judge_files } = &commands.options;
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
            (Part::Requests(_), Sender::Client) => MAX_COMMAND_PREFIX,
            (Part::Requests(_), Sender::Server) => 0,
        }
    }

    fn options(&self) -> Options {
        match &self.part {
            Part::Connection(connection) => connection.options,
            Part::Command(commands) => commands.options,
            Part::Requests(requests) => requests.options,
        }
    }

    /// File requests pass unjudged from here on.
    pub fn stop_judging_files(&mut self) {
        let options = match &mut self.part {
            Part::Connection(connection) => &mut connection.options,
            Part::Command(commands) => &mut commands.options,
            Part::Requests(requests) => &mut requests.options,
        };
        options.judge_files = false;
    }

    /// How far the connection has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.part {
            Part::Connection(connection) => connection.phase(),
            Part::Command(_) | Part::Requests(_) => Phase::Command,
        }
    }

    /// The server takes commands, and its responses are looked at.
    #[must_use]
    pub fn is_command_phase(&self) -> bool {
        matches!(self.part, Part::Command(_))
    }

    /// Both sides have agreed on TLS: every further byte is TLS, except in an ERR of the server.
    #[must_use]
    pub fn awaits_tls(&self) -> bool {
        matches!(&self.part, Part::Connection(connection) if connection.awaits_tls())
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let part = match &self.part {
            Part::Connection(connection) => connection.memory(),
            Part::Command(commands) => commands.memory(),
            Part::Requests(_) => 0,
        };
        part.saturating_add(self.peers.capacity())
    }

    /// The client sent COM_QUIT: it is the one that ends the connection.
    #[must_use]
    pub fn has_quit(&self) -> bool {
        match &self.part {
            Part::Connection(connection) => connection.has_quit(),
            Part::Command(commands) => commands.has_quit(),
            Part::Requests(requests) => requests.has_quit(),
        }
    }

    /// Looks at the client's packets only from here on, if the server has accepted the client.
    pub fn observe_requests_only(&mut self) {
        if let Part::Command(commands) = &self.part {
            self.part = Part::Requests(RequestsOnly::new(
                commands.capabilities(),
                commands.has_quit(),
                commands.options,
            ));
        }
    }

    /// The server's packets are not looked at.
    #[must_use]
    pub fn observes_requests_only(&self) -> bool {
        matches!(self.part, Part::Requests(_))
    }

    /// The client hangs where the final EOF of an answer to COM_STMT_PREPARE comes late.
    #[must_use]
    pub fn is_affected(&self) -> bool {
        self.affected_client
    }

    /// How many column definitions are still to come in front of such an EOF; none: no such answer passes.
    #[must_use]
    pub fn definitions_left(&self) -> Option<u16> {
        match &self.part {
            Part::Connection(_) | Part::Requests(_) => None,
            Part::Command(commands) => commands.definitions_left(),
        }
    }

    /// The server's next packet stands where one that asks for a file could.
    #[must_use]
    pub fn may_request_file(&self) -> bool {
        matches!(&self.part, Part::Command(commands) if commands.may_request_file())
    }

    /// No part of the server's next packet may reach the client without the rest, where requests for files are judged.
    #[must_use]
    pub fn can_be_dropped(&self) -> bool {
        matches!(&self.part, Part::Command(commands) if commands.can_be_dropped())
    }

    /// The server's last packet asks for a file that the client's statement does not name: the packet's sequence id, and
    /// what both sides can do. It is the last that was taken.
    #[must_use]
    pub fn blocked_request(&self) -> Option<(u8, Capabilities)> {
        match &self.part {
            Part::Connection(_) | Part::Requests(_) => None,
            Part::Command(commands) => commands.blocked_request().map(|id| (id, commands.capabilities())),
        }
    }

    /// Takes the head of a packet.
    pub fn packet(&mut self, sender: Sender, packet: &Packet, out: &mut Output) -> Outcome {
        self.recent_packets.push(sender, packet.length, packet.sequence_id, self.phase());
        match (&mut self.part, sender) {
            (Part::Connection(connection), Sender::Client) => {
                connection.client_packet(packet, &mut self.peers, out)
            }
            (Part::Connection(connection), Sender::Server) => {
                match connection.server_packet(packet, &mut self.peers, out)? {
                    Progress::Stays => Ok(()),
                    Progress::Accepted { capabilities, affected_client } => {
                        self.affected_client = affected_client.is_some();
                        out.events.extend(affected_client.map(Event::EofHazardClient));
                        let asked = connection.take_identity();
                        let has_quit = connection.has_quit();
                        if let Some(schema) = asked.schema {
                            out.details.record(connection.options.interests, Field::Schema, || schema);
                        }
                        let mut commands =
                            CommandPhase::new(capabilities, asked.user, out.clock.now(), connection.options);
                        if has_quit {
                            commands.quit(out.events);
                        }
                        if connection.declines_files() {
                            commands.decline_files();
                        }
                        self.accepted(commands)
                    }
                }
            }
            (Part::Command(commands), Sender::Client) => commands.client_packet(packet, out),
            (Part::Command(commands), Sender::Server) => commands.server_packet(packet, out),
            (Part::Requests(requests), Sender::Client) => requests.packet(packet, out),
            (Part::Requests(_), Sender::Server) => Ok(()),
        }
    }

    /// The last byte of a long packet passed; its last fragment had `sequence_id`.
    pub fn packet_end(&mut self, sender: Sender, sequence_id: u8) {
        match (&mut self.part, sender) {
            (Part::Command(commands), _) => commands.packet_end(sender, sequence_id),
            (Part::Requests(requests), Sender::Client) => requests.packet_end(sequence_id),
            (Part::Connection(_), _) | (Part::Requests(_), Sender::Server) => {}
        }
    }

    /// [`Session::stall`] has something to tell.
    #[must_use]
    pub fn is_stall_due(&self, now: Timestamp, stall: Duration) -> bool {
        matches!(&self.part, Part::Command(commands) if commands.is_stall_due(now, stall))
    }

    /// Tells how many commands more, or fewer, have waited for the end of their answers for so long.
    pub fn stall(&mut self, now: Timestamp, stall: Duration, events: &mut Vec<Event>) {
        if let Part::Command(commands) = &mut self.part {
            commands.stall(now, stall, events);
        }
    }

    /// Records the commands without a response as slow ones, because the connection ends.
    pub fn record_unanswered(&self, out: &mut Output) {
        if let (Part::Command(commands), Some(_)) = (&self.part, self.options().interests.slow_after) {
            commands.record_unanswered(out.clock.now(), out.details);
        }
    }

    /// The connection was ended by `by`: what that endangers.
    #[must_use]
    pub fn hazard_of_close(&self, by: ClosedBy, clock: &mut Clock) -> Option<Event> {
        match &self.part {
            Part::Connection(connection) if by == ClosedBy::Client && connection.is_unanswered() => {
                Some(Event::Hazard(HazardKind::UnansweredGreeting))
            }
            Part::Connection(_) | Part::Requests(_) => None,
            Part::Command(commands) => commands.idle_closed(by, clock),
        }
    }

    /// The connection ended, or inspection did for `reason`: nothing waits for an answer any more.
    pub fn end(&mut self, reason: Option<OpaqueReason>, events: &mut Vec<Event>) {
        let result = match (&mut self.part, reason) {
            (Part::Command(commands), _) => return commands.end(events),
            (Part::Requests(_), _) => return,
            (Part::Connection(_), Some(OpaqueReason::Tls)) => HandshakeResult::Tls,
            (Part::Connection(connection), None) if connection.is_undecided() => HandshakeResult::Aborted,
            (Part::Connection(_), _) => return,
        };
        events.push(Event::Handshake { result, took: None });
    }

    /// What both sides can do, as far as it is known.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match &self.part {
            Part::Connection(connection) => connection.capabilities(),
            Part::Command(commands) => commands.capabilities(),
            Part::Requests(requests) => requests.capabilities(),
        }
    }

    /// What a report of a desync needs: who talked, what they agreed on, and the last packets' outsides.
    #[must_use]
    pub fn report(&self) -> String {
        let (base, extended) = self.capabilities().split();
        format!("{} capabilities={base:#x}/{extended:#x} packets=\"{}\"", self.peers, self.recent_packets)
    }

    /// Compression begins right behind the OK, which is not compressed.
    fn accepted(&mut self, commands: CommandPhase) -> Outcome {
        let capabilities = commands.capabilities();
        self.part = Part::Command(Box::new(commands));
        let compression = Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
        if capabilities.intersects(compression) { Err(OpaqueReason::Compressed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod details_tests;
#[cfg(test)]
mod tests;
