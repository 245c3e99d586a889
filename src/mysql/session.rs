//! A MySQL connection from the greeting on, seen from the middle.
//!
//! ```text
//!                +------------------- connection phase -------------------+
//! server greets  |  Greeting --> Handshake --> Authentication --OK-->     |  --> command phase
//!                |      |            |                |                   |        queue of commands,
//!                |      +---ERR------+-----ERR--------+--> Refused        |        each with its Reply
//!                |                   +--SSL--> opaque(tls)                |
//!                +--------------------------------------------------------+  --> opaque(compressed)
//! ```
//! Anything that cannot stand where it stands ends the session with an [`OpaqueReason`]; the bytes go
//! on. The transition tables are in `connection_phase.rs` and `command_phase.rs`.

use std::time::Duration;

use super::capability::Capabilities;
use super::command_phase::CommandPhase;
use super::connection_phase::{ConnectionPhase, Progress};
use super::notes::{Notes, Subject, Wanted};
use super::packet::Packet;
use super::requests::Requests;
use super::trail::Trail;
use super::types::ParseError;
use super::violation::{Rule, Violation};
use crate::clock::{Clock, Timestamp};
use crate::event::{ClosedBy, Event, HandshakeResult, HazardKind, OpaqueReason, Phase, Sender};

/// The greeting fits; so do handshake responses with their attributes, nearly always.
const KEEP_CONNECTION_PHASE: usize = 4096;
/// The front of a statement, with comments and attributes.
const KEEP_COMMAND: usize = 512;
/// The fields that are read of an answer's packets.
const KEEP_ANSWER: usize = 64;
/// The front of a statement of which a digest is wanted.
const KEEP_STATEMENT: usize = 1024;
/// The statements by which requests for files are judged: of what is longer, only this is known.
const KEEP_STATEMENTS: usize = 16 << 10;
/// A request for a file: no path is longer (`PATH_MAX`).
const KEEP_REQUEST: usize = 4096;
/// Number of events from which on they are handed over before the callback ends.
const MAX_EVENTS: usize = 1024;
/// The session state in an OK packet, if the schema is wanted.
const KEEP_SESSION_STATE: usize = 512;

/// Takes the events and notes so far, and leaves both lists empty.
pub type Drain<'a> = &'a mut dyn FnMut(&mut Vec<Event>, &mut Notes);

/// Where events go, and the time of the callback they come from.
pub struct Observer<'a, 'c> {
    /// Events in the order in which they happened.
    pub events: &'a mut Vec<Event>,
    /// The clock of this callback.
    pub clock: &'a mut Clock<'c>,
    /// What is told besides.
    pub notes: &'a mut Notes,
    /// `None` if the lists may grow as long as a callback makes them.
    drain: Option<Drain<'a>>,
    /// Maximum number of the server's bytes that the connection may hold from now on.
    pub room: usize,
    /// The rule whose violation ends inspection.
    pub(crate) violation: Option<Violation>,
}

impl<'a, 'c> Observer<'a, 'c> {
    /// An observer that collects everything of one callback.
    pub fn new(events: &'a mut Vec<Event>, clock: &'a mut Clock<'c>, notes: &'a mut Notes) -> Self {
        Self { events, clock, notes, drain: None, room: usize::MAX, violation: None }
    }

    /// Hands the lists to `drain` between two reads of a chunk, so that a large chunk of small packets needs no more
    /// memory than one read of it.
    #[must_use]
    pub fn with_drain(self, drain: Drain<'a>) -> Self {
        Self { drain: Some(drain), ..self }
    }

    /// Limits the bytes that the connection may hold, because it cannot give these back when its inspection ends.
    #[must_use]
    pub fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// A peer broke this rule: the reason for which inspection ends.
    pub(crate) fn desync(&mut self, violation: impl Into<Violation>) -> OpaqueReason {
        self.violation = Some(violation.into());
        OpaqueReason::Desync
    }

    /// The same for a field of the packet.
    pub(super) fn malformed(&mut self, rule: Rule, error: ParseError) -> OpaqueReason {
        self.desync(Violation { rule, error: Some(error) })
    }

    /// A read of a chunk ended, and another one follows.
    pub(crate) fn between_reads(&mut self) {
        if let Some(drain) = self.drain.as_mut().filter(|_| self.events.len() >= MAX_EVENTS) {
            drain(self.events, self.notes);
        }
    }
}

/// What a packet leads to, or why inspection ends.
pub(super) type Outcome<T = ()> = Result<T, OpaqueReason>;

#[derive(Debug)]
enum Part {
    Connection(ConnectionPhase),
    Command(Box<CommandPhase>),
    Requests(Requests),
}

/// The protocol's state for one connection.
#[derive(Debug)]
pub struct Session {
    part: Part,
    /// For the report of a desync: what server and client say they are.
    peers: String,
    trail: Trail,
    suspect: bool,
}

impl Session {
    /// A session on a connection that began at `opened`.
    #[must_use]
    pub fn new(opened: Timestamp) -> Self {
        let part = Part::Connection(ConnectionPhase::new(opened));
        Self { part, peers: String::new(), trail: Trail::default(), suspect: false }
    }

    /// How much of each coming packet of `sender` this session looks at, in bytes.
    #[must_use]
    pub fn keep(&self, sender: Sender, wanted: &Wanted) -> usize {
        match (&self.part, sender) {
            (Part::Connection(_), _) => KEEP_CONNECTION_PHASE,
            (Part::Command(_), Sender::Client) if wanted.files => KEEP_STATEMENTS,
            (Part::Command(_), Sender::Client) => keep_command(wanted),
            (Part::Command(commands), Sender::Server) if wanted.files && commands.can_be_asked() => {
                KEEP_REQUEST
            }
            (Part::Command(commands), Sender::Server) if commands.may_be_greeted() => KEEP_CONNECTION_PHASE,
            (Part::Command(_), Sender::Server) if wanted.wants(Subject::Schema) => KEEP_SESSION_STATE,
            (Part::Requests(_), Sender::Client) => KEEP_COMMAND,
            (Part::Command(_), Sender::Server) => KEEP_ANSWER,
            (Part::Requests(_), Sender::Server) => 0,
        }
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
    pub fn hear_client_only(&mut self) {
        if let Part::Command(commands) = &self.part {
            self.part = Part::Requests(Requests::new(commands.capabilities(), commands.has_quit()));
        }
    }

    /// The server's packets are not looked at.
    #[must_use]
    pub fn hears_client_only(&self) -> bool {
        matches!(self.part, Part::Requests(_))
    }

    /// The client hangs where the final EOF of an answer to COM_STMT_PREPARE comes late.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.suspect
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
    pub fn can_be_asked(&self) -> bool {
        matches!(&self.part, Part::Command(commands) if commands.can_be_asked())
    }

    /// No part of the server's next packet may reach the client without the rest, where requests for files are judged.
    #[must_use]
    pub fn can_be_dropped(&self) -> bool {
        matches!(&self.part, Part::Command(commands) if commands.can_be_dropped())
    }

    /// The server's last packet asks for a file that the client's statement does not name: the packet's sequence id, and
    /// what both sides can do. It is the last that was taken.
    #[must_use]
    pub fn refused_file(&self) -> Option<(u8, Capabilities)> {
        match &self.part {
            Part::Connection(_) | Part::Requests(_) => None,
            Part::Command(commands) => commands.refused_file().map(|id| (id, commands.capabilities())),
        }
    }

    /// Takes the head of a packet.
    pub fn packet(&mut self, sender: Sender, packet: &Packet, to: &mut Observer) -> Outcome {
        self.trail.push(sender, packet.length, packet.sequence_id, self.phase());
        match (&mut self.part, sender) {
            (Part::Connection(connection), Sender::Client) => {
                connection.client_packet(packet, &mut self.peers, to)
            }
            (Part::Connection(connection), Sender::Server) => {
                match connection.server_packet(packet, &mut self.peers, to)? {
                    Progress::Stays => Ok(()),
                    Progress::Accepted { capabilities, suspect } => {
                        self.suspect = suspect.is_some();
                        to.events.extend(suspect.map(Event::EofHazardClient));
                        let asked = connection.take_asked();
                        let has_quit = connection.has_quit();
                        if let Some(schema) = asked.schema {
                            to.notes.say(Subject::Schema, || schema);
                        }
                        let mut commands = CommandPhase::new(capabilities, asked.user, to.clock.now());
                        if has_quit {
                            commands.quit(to.events);
                        }
                        if connection.declines_files() {
                            commands.decline_files();
                        }
                        self.accepted(commands)
                    }
                }
            }
            (Part::Command(commands), Sender::Client) => commands.client_packet(packet, to),
            (Part::Command(commands), Sender::Server) => commands.server_packet(packet, to),
            (Part::Requests(requests), Sender::Client) => requests.packet(packet, to),
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

    /// The connection ends: tells of commands that have waited for long, and will in vain.
    pub fn note_unanswered(&self, now: Timestamp, notes: &mut Notes) {
        if let Part::Command(commands) = &self.part {
            commands.note_unanswered(now, notes);
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
        format!("{} capabilities={base:#x}/{extended:#x} packets=\"{}\"", self.peers, self.trail)
    }

    /// Compression begins right behind the OK, which is not compressed.
    fn accepted(&mut self, commands: CommandPhase) -> Outcome {
        let capabilities = commands.capabilities();
        self.part = Part::Command(Box::new(commands));
        let compression = Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
        if capabilities.intersects(compression) { Err(OpaqueReason::Compressed) } else { Ok(()) }
    }
}

/// How much is kept of a command for all but the judgement of requests for files.
pub(super) fn keep_command(wanted: &Wanted) -> usize {
    if wanted.slow_after.is_some() { KEEP_STATEMENT } else { KEEP_COMMAND }
}

#[cfg(test)]
mod notes_tests;
#[cfg(test)]
mod tests;
