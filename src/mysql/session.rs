//! A MySQL connection from the greeting on, seen from the middle.
//!
//! ```text
//! Greeting --0x0a--> Handshake --response--> Authentication --OK--> Command
//!    |                   |                        |                   |
//!    +--ERR--> Refused   +--SSL--> TlsRequested   +--ERR--> Refused   +--> queue of commands,
//!                                       |                                  each with its Reply
//!                              0x16 --> opaque(tls)
//! ```
//! Anything that cannot stand where it stands ends the session with an [`OpaqueReason`]; the bytes go
//! on. Commands can be sent before earlier ones are answered, so they wait in a queue whose head owns
//! the server's packets.

use std::collections::VecDeque;

use super::capability::Capabilities;
use super::command::{Command, Grammar};
use super::handshake::{self, HandshakeResponse, HandshakeV10};
use super::packet::Packet;
use super::reply::{Reply, Step};
use super::response::{ERR, OK, error_code};
use super::version::identify;
use crate::clock::{Clock, Timestamp};
use crate::event::{Event, HandshakeResult, OpaqueReason, Phase, Sender};

/// How many commands may wait for their answers.
const MAX_QUEUED: usize = 1024;
/// The greeting and most handshake responses fit.
const KEEP_CONNECTION_PHASE: usize = 512;
/// OK packets and the front of statements fit.
const KEEP_COMMAND_PHASE: usize = 64;
/// First byte of a semi-synchronous replica's acknowledgement.
const SEMI_SYNC_ACK: u8 = 0xef;

/// Where events go, and the time of the callback they come from.
pub struct Observer<'a, 'c> {
    /// Events in the order in which they happened.
    pub events: &'a mut Vec<Event>,
    /// The clock of this callback.
    pub clock: &'a mut Clock<'c>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Handshake,
    TlsRequested,
    Authentication,
    Command,
    /// The server refused the client in this phase; nothing more is expected.
    Refused(Phase),
}

#[derive(Debug)]
struct Queued {
    command: Command,
    /// Sequence id of the next packet of this exchange.
    sequence_id: u8,
}

/// Who carries on the sequence ids of a packet that is still passing: they follow its last fragment, not
/// its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum CarriesOn {
    #[default]
    Nobody,
    /// The head of the queue.
    Oldest,
    /// The command that the client is sending.
    Newest,
    /// The client, which is sending a file.
    Upload,
    /// What may come behind a complete answer.
    Tail,
}

/// The protocol's state for one connection. Memory is bounded by `MAX_QUEUED`.
#[derive(Debug)]
pub struct Session {
    state: State,
    opened: Timestamp,
    /// What the server offers, and from the handshake response on what both sides can do.
    capabilities: Capabilities,
    queue: VecDeque<Queued>,
    /// The answer to the queue's head.
    reply: Reply,
    /// The sequence id of the next packet of a file the client sends.
    upload: Option<u8>,
    /// The last answer can have a tail: its command's grammar and the next sequence id.
    tail: Option<(Grammar, u8)>,
    /// Of the client's packet whose head came and whose end did not.
    client_passing: CarriesOn,
    /// Of the server's.
    server_passing: CarriesOn,
    quit: bool,
}

type Outcome<T = ()> = Result<T, OpaqueReason>;

impl Session {
    /// A session on a connection that began at `opened`.
    #[must_use]
    pub fn new(opened: Timestamp) -> Self {
        Self {
            state: State::Greeting,
            opened,
            capabilities: Capabilities::default(),
            queue: VecDeque::new(),
            reply: Reply::new(Grammar::Nothing),
            upload: None,
            tail: None,
            client_passing: CarriesOn::Nobody,
            server_passing: CarriesOn::Nobody,
            quit: false,
        }
    }

    /// How much of each coming packet this session looks at, in bytes.
    #[must_use]
    pub fn keep(&self) -> usize {
        if self.state == State::Command { KEEP_COMMAND_PHASE } else { KEEP_CONNECTION_PHASE }
    }

    /// How far the connection has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Greeting => Phase::Greeting,
            State::Handshake | State::TlsRequested => Phase::Handshake,
            State::Authentication => Phase::Authentication,
            State::Command => Phase::Command,
            State::Refused(phase) => phase,
        }
    }

    /// The client asked for TLS: its next byte says whether TLS comes.
    #[must_use]
    pub fn awaits_tls(&self) -> bool {
        self.state == State::TlsRequested
    }

    /// The client asked for TLS and then went on without.
    pub fn no_tls(&mut self) {
        self.state = State::Authentication;
    }

    /// Takes the head of a packet of the client.
    pub fn client_packet(&mut self, packet: &Packet, to: &mut Observer) -> Outcome {
        match self.state {
            State::Greeting => Err(OpaqueReason::NotMysql),
            State::Handshake => {
                let hello = HandshakeResponse::parse(packet.prefix).map_err(|_| OpaqueReason::Desync)?;
                self.capabilities = self.capabilities & hello.capabilities;
                let tls = self.capabilities.contains(Capabilities::SSL);
                self.state = if tls { State::TlsRequested } else { State::Authentication };
                Ok(())
            }
            State::Command => {
                let carries_on = self.command_phase_packet(packet, to)?;
                self.client_passing = if packet.complete { CarriesOn::Nobody } else { carries_on };
                Ok(())
            }
            State::TlsRequested | State::Authentication | State::Refused(_) => Ok(()),
        }
    }

    /// Takes the head of a packet of the server.
    pub fn server_packet(&mut self, packet: &Packet, to: &mut Observer) -> Outcome {
        match (self.state, packet.first()) {
            (State::Greeting, _) => self.greeting(packet, to),
            (State::Command, _) => {
                let carries_on = self.answer(packet, to)?;
                self.server_passing = if packet.complete { CarriesOn::Nobody } else { carries_on };
                Ok(())
            }
            (State::Refused(_), _) => Ok(()),
            (State::Handshake | State::TlsRequested | State::Authentication, Some(ERR)) => {
                self.state = State::Refused(self.phase());
                to.events.push(Event::Handshake(HandshakeResult::Error));
                Ok(())
            }
            (State::TlsRequested | State::Authentication, Some(OK)) => {
                self.state = State::Command;
                to.events.push(Event::Handshake(HandshakeResult::Ok));
                let compression = Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
                let compressed = self.capabilities.intersects(compression);
                if compressed { Err(OpaqueReason::Compressed) } else { Ok(()) }
            }
            // Another plugin, more data, another factor (AuthSwitchRequest, AuthMoreData, AuthNextFactor).
            (State::TlsRequested | State::Authentication, Some(0xfe | 0x01 | 0x02)) => {
                self.state = State::Authentication;
                Ok(())
            }
            (State::Handshake | State::TlsRequested | State::Authentication, _) => Err(OpaqueReason::Desync),
        }
    }

    /// The last byte of a long packet passed; its last fragment had `sequence_id`.
    pub fn packet_end(&mut self, sender: Sender, sequence_id: u8) {
        let next = sequence_id.wrapping_add(1);
        let passing = match sender {
            Sender::Client => &mut self.client_passing,
            Sender::Server => &mut self.server_passing,
        };
        let queued = match std::mem::take(passing) {
            CarriesOn::Oldest => self.queue.front_mut(),
            CarriesOn::Newest => self.queue.back_mut(),
            CarriesOn::Upload => return self.upload = Some(next),
            CarriesOn::Tail => return self.tail = self.tail.map(|(grammar, _)| (grammar, next)),
            CarriesOn::Nobody => None,
        };
        if let Some(queued) = queued {
            queued.sequence_id = next;
        }
    }

    /// The client sent COM_QUIT: it is the one that ends the connection.
    #[must_use]
    pub fn has_quit(&self) -> bool {
        self.quit
    }

    /// The connection ended, or inspection did for `reason`: nothing waits for an answer any more.
    pub fn end(&mut self, reason: Option<OpaqueReason>, events: &mut Vec<Event>) {
        for queued in self.queue.drain(..) {
            events.push(Event::CommandEnded { command: queued.command, tally: None });
        }
        let undecided = matches!(self.state, State::Handshake | State::TlsRequested | State::Authentication);
        match reason {
            Some(OpaqueReason::Tls) => events.push(Event::Handshake(HandshakeResult::Tls)),
            None if undecided => events.push(Event::Handshake(HandshakeResult::Aborted)),
            Some(_) | None => {}
        }
    }

    fn greeting(&mut self, packet: &Packet, to: &mut Observer) -> Outcome {
        match packet.first() {
            Some(handshake::PROTOCOL_V10) => {
                let greeting = HandshakeV10::parse(packet.prefix).map_err(|_| OpaqueReason::NotMysql)?;
                let (flavor, release) = identify(greeting.server_version);
                let after = to.clock.now().since(self.opened);
                to.events.push(Event::Greeting { flavor, release, after });
                self.capabilities = greeting.capabilities;
                self.state = State::Handshake;
                Ok(())
            }
            Some(handshake::ERR) => {
                let errno = error_code(packet.prefix).map_err(|_| OpaqueReason::NotMysql)?;
                to.events.push(Event::PreHandshakeError { errno });
                self.state = State::Refused(Phase::Greeting);
                Ok(())
            }
            _ => Err(OpaqueReason::NotMysql),
        }
    }

    fn command_phase_packet(&mut self, packet: &Packet, to: &mut Observer) -> Outcome<CarriesOn> {
        let next = packet.sequence_id.wrapping_add(1);
        if self.upload.is_some_and(|expected| expected == packet.sequence_id) {
            self.upload = (packet.length > 0).then_some(next);
            // A server that refused the file has answered already, and the head is another command.
            if let Some(head) = self.queue.front_mut().filter(|_| self.reply.awaits_file()) {
                head.sequence_id = next;
            }
            return Ok(CarriesOn::Upload);
        }
        let head = self.queue.front().map(|queued| queued.command.grammar());
        match (packet.sequence_id, head) {
            (0, Some(Grammar::BinlogDump)) if packet.first() == Some(SEMI_SYNC_ACK) => Ok(CarriesOn::Nobody),
            (0, _) => self.command(packet, to),
            (_, Some(Grammar::ChangeUser)) => {
                if let Some(head) = self.queue.front_mut() {
                    head.sequence_id = next;
                }
                Ok(CarriesOn::Oldest)
            }
            _ => Err(OpaqueReason::Desync),
        }
    }

    fn command(&mut self, packet: &Packet, to: &mut Observer) -> Outcome<CarriesOn> {
        self.upload = None;
        self.tail = None;
        let command = packet.first().map_or(Command::SLEEP, Command);
        let grammar = command.grammar();
        if grammar == Grammar::Nothing {
            self.quit |= command == Command::QUIT;
            to.events.push(Event::CommandSent(command));
            return Ok(CarriesOn::Nobody);
        }
        if self.queue.len() >= MAX_QUEUED {
            return Err(OpaqueReason::Memory);
        }
        to.events.push(Event::CommandStarted(command));
        if self.queue.is_empty() {
            self.reply = Reply::new(grammar);
        }
        self.queue.push_back(Queued { command, sequence_id: 1 });
        match command {
            Command::CLONE => Err(OpaqueReason::Clone),
            Command::SUBSCRIBE_GROUP_REPLICATION_STREAM => Err(OpaqueReason::Replication),
            _ => Ok(CarriesOn::Newest),
        }
    }

    fn answer(&mut self, packet: &Packet, to: &mut Observer) -> Outcome<CarriesOn> {
        let next = packet.sequence_id.wrapping_add(1);
        let is_alone = self.queue.len() == 1;
        let Some(head) = self.queue.front_mut() else { return self.unasked(packet, to) };
        // A refused file is answered before all of it has come.
        if packet.sequence_id != head.sequence_id && !self.reply.awaits_file() {
            // Servers number an error that answers nothing 0 or 1 (MySQL 4031, MariaDB 1927).
            if packet.sequence_id <= 1 {
                return self.unasked(packet, to);
            }
            // So is a command too long for the server (1153), at whichever fragment it noticed.
            let sending = is_alone && self.client_passing == CarriesOn::Newest;
            if !(sending && self.reply.awaits_first() && packet.first() == Some(ERR)) {
                return Err(OpaqueReason::Desync);
            }
        }
        head.sequence_id = next;
        let asked_before = self.reply.awaits_file();
        match self.reply.packet(packet, self.capabilities) {
            Step::More => {
                if self.reply.awaits_file() && !asked_before {
                    self.upload = Some(next);
                }
                Ok(CarriesOn::Oldest)
            }
            Step::Done => {
                if let Some(Queued { command, .. }) = self.queue.pop_front() {
                    to.events.push(Event::CommandEnded { command, tally: Some(self.reply.tally()) });
                    self.tail = Some((command.grammar(), next));
                }
                if let Some(head) = self.queue.front() {
                    self.reply = Reply::new(head.command.grammar());
                } else {
                    self.queue.shrink_to(4);
                }
                Ok(CarriesOn::Tail)
            }
            Step::Unexpected => Err(OpaqueReason::Desync),
        }
    }

    /// A packet of the server that belongs to no command: an error of the server's own accord, or what
    /// some servers send behind an answer that looked complete: the OK after OUT parameters, and
    /// definitions beyond the 16 bits of their count.
    fn unasked(&mut self, packet: &Packet, to: &mut Observer) -> Outcome<CarriesOn> {
        if packet.first() == Some(ERR) {
            let errno = error_code(packet.prefix).map_err(|_| OpaqueReason::Desync)?;
            to.events.push(Event::ServerNotice { errno });
            return Ok(CarriesOn::Nobody);
        }
        match self.tail {
            Some((Grammar::ResultSet | Grammar::Prepare, expected)) if expected == packet.sequence_id => {
                self.tail = self.tail.map(|(grammar, id)| (grammar, id.wrapping_add(1)));
                Ok(CarriesOn::Tail)
            }
            _ => Err(OpaqueReason::Desync),
        }
    }
}

#[cfg(test)]
mod tests;
