//! Runs the bytes of one connection through the core and collects the report.

use std::collections::VecDeque;
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::connection::inspector::Inspector;
use firstword::event;
use firstword::event::output::Output;
use firstword::event::runner::Runner;
use firstword::event::{ClosedBy, Event, HandshakeResult, HazardKind, OpaqueReason, Phase, Protocol, Sender};
use firstword::mysql::sql::verb::Verb;
use firstword::mysql::wire::command::Command;
use firstword::rules::{Expected, Rules};

use super::capture::{Capture, micros};
use super::greeting::Greeting;
use super::proxy_headers::ProxyHeaders;
use super::report::{self, Answer, Both, Connection, FirstWord, Handshake, Opaque, PacketLocation, Waits};
use super::segment::Ends;
use super::slowest;
use super::stream::Piece;

/// Memory that the core of the filter uses, in bytes: for a connection, a prepared statement, a command without a response.
const CORE_SIZE: usize = 4096;
const STATEMENT_SIZE: usize = 32;
const COMMAND_SIZE: usize = 64;

/// A command without a complete response.
#[derive(Debug)]
struct InFlight {
    command: Command,
    /// Index in the list of commands; `None` if it is not listed.
    listed: Option<usize>,
    location: PacketLocation,
}

/// The MySQL conversation of a connection.
#[derive(Debug)]
pub(super) struct Conversation {
    inspector: Inspector,
    runner: Runner,
    ends: Ends,
    pub(super) opened: Timestamp,
    headers: ProxyHeaders,
    greeting: Greeting,
    in_flight: VecDeque<InFlight>,
    /// The expected protocol.
    pub(super) expected: Expected,
    /// Location and time of the last bytes of each side.
    pub(super) last: [Option<(PacketLocation, Timestamp)>; 2],
    /// The newest split EOF: its index in the list of hazards, and its time. See [`super::hazard`].
    pub(super) split: Option<(Option<usize>, Timestamp)>,
    pub(super) phase: Option<Phase>,
    pub(super) report: Connection,
}

impl Both {
    /// The count of `sender`.
    pub(super) fn of(&mut self, sender: Sender) -> &mut u64 {
        match sender {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    fn add(&mut self, sender: Sender, count: u64) {
        let sum = self.of(sender);
        *sum = sum.saturating_add(count);
    }
}

impl Conversation {
    /// A conversation that begins at the time `opened`.
    pub(super) fn new(ends: Ends, expected: Expected, opened: Timestamp, capture: &Capture) -> Self {
        let rules = Rules { expected, ..Rules::observe_only() };
        Self {
            inspector: Inspector::new(&rules, opened),
            runner: Runner::default(),
            ends,
            opened,
            headers: ProxyHeaders::default(),
            greeting: Greeting::new(capture.shows_user),
            in_flight: VecDeque::new(),
            expected,
            last: [None; 2],
            split: None,
            phase: None,
            report: Connection { protocol: Protocol::Unknown.label(), ..Connection::default() },
        }
    }

    /// Approximate maximum memory in bytes.
    pub(super) fn memory(&self) -> usize {
        let prepared = self.report.counts.commands.get("stmt_prepare").copied().unwrap_or_default();
        let statements = usize::try_from(prepared).unwrap_or(usize::MAX).saturating_mul(STATEMENT_SIZE);
        let in_flight =
            self.in_flight.len().saturating_mul(size_of::<InFlight>().saturating_add(COMMAND_SIZE));
        let parts =
            [self.headers.memory(), self.greeting.memory(), self.report.memory(), statements, in_flight];
        parts.into_iter().fold(size_of::<Self>().saturating_add(CORE_SIZE), usize::saturating_add)
    }

    /// Takes bytes of `sender`.
    pub(super) fn data(&mut self, sender: Sender, piece: Piece, capture: &Capture) {
        if let Some(last) = self.last.get_mut(sender as usize) {
            *last = Some((capture.location(piece.packet, piece.at), piece.at));
        }
        let pieces = match sender {
            Sender::Client => {
                let headers = self.report.proxy_headers.len();
                let rest = self.headers.take(piece, self.ends, capture, &mut self.report.proxy_headers);
                self.headers_found(headers);
                rest
            }
            Sender::Server => vec![piece],
        };
        for piece in pieces {
            self.pass(sender, &piece, capture);
        }
    }

    /// Ends the bytes of `sender`.
    pub(super) fn end_of(&mut self, sender: Sender, at: Timestamp, capture: &Capture) {
        if sender == Sender::Client {
            self.flush(capture);
        }
        let piece = Piece { packet: 0, at, bytes: bytes::Bytes::new(), len: 0 };
        self.hand_over(sender, &piece, true, capture);
    }

    /// Inspects bytes that were held because they could be the start of a PROXY header.
    fn flush(&mut self, capture: &Capture) {
        for piece in self.headers.flush() {
            self.pass(Sender::Client, &piece, capture);
        }
    }

    fn pass(&mut self, sender: Sender, piece: &Piece, capture: &Capture) {
        self.report.first_word.get_or_insert_with(|| FirstWord {
            by: sender.label(),
            seen: "other",
            packet: piece.packet,
            after_us: micros(piece.at.since(self.opened)),
        });
        self.greeting.take(sender, piece);
        self.hand_over(sender, piece, false, capture);
    }

    fn hand_over(&mut self, sender: Sender, piece: &Piece, end_stream: bool, capture: &Capture) {
        let (events, desync) = self.run(piece.at, |inspector, out| {
            if end_stream {
                inspector.end_of_stream(sender);
            }
            inspector.inspect(sender, piece, out);
        });
        for event in &events {
            self.event(event, sender, piece, capture);
        }
        self.explain(desync);
    }

    /// Runs the inspector at a time of the capture. Returns what it emitted, and the report of a desync.
    fn run(
        &mut self,
        at: Timestamp,
        call: impl FnOnce(&mut Inspector, &mut Output),
    ) -> (Vec<Event>, Option<String>) {
        let (mut events, mut desync) = (Vec::new(), None);
        let Self { runner, inspector, .. } = self;
        runner.run(
            &|| at,
            usize::MAX,
            &mut |emitted, details| {
                events.extend_from_slice(emitted);
                desync = desync.take().or(details.desync.take().map(|report| report.to_string()));
            },
            |out| call(inspector, out),
        );
        (events, desync)
    }

    /// Adds the report of a desync to the end of inspection that it explains.
    fn explain(&mut self, desync: Option<String>) {
        if let Some(opaque) = self.report.opaque.as_mut().filter(|opaque| !opaque.lost_bytes) {
            opaque.detail = opaque.detail.take().or(desync);
        }
    }

    fn event(&mut self, event: &Event, sender: Sender, piece: &Piece, capture: &Capture) {
        let location = capture.location(piece.packet, piece.at);
        let counts = &mut self.report.counts;
        match *event {
            Event::Recognised { protocol, .. } => self.report.protocol = protocol.label(),
            Event::ServerFirst(spoken) => self.spoken(spoken.label()),
            Event::ClientFirst(spoken) => self.spoken(spoken.label()),
            Event::Bytes { sender, count } => counts.bytes.add(sender, count),
            Event::Packets { sender, count } => counts.packets.add(sender, count),
            Event::CompressedBytes { sender, count } => counts.compressed_bytes.add(sender, count),
            Event::PreHandshakeError { errno } => self.decided("refused", None, Some(errno)),
            Event::HandshakeError { errno, .. } => self.handshake().errno = Some(errno),
            Event::AuthSwitch(plugin) => self.handshake().auth_plugin = Some(plugin.label().to_owned()),
            Event::Handshake { result, duration } => self.decided(result.label(), duration, None),
            Event::CommandSent(command) => {
                self.went_on(sender, location);
                self.list(command, location, capture);
            }
            Event::CommandStarted(command) => {
                self.went_on(sender, location);
                let listed = self.list(command, location, capture);
                self.in_flight.push_back(InFlight { command, listed, location });
            }
            Event::CommandEnded { command, verb, response } => {
                self.end_command(command, verb, response, piece, capture.max_slowest)
            }
            Event::CommandsAbandoned { count, .. } => {
                let abandoned = self.in_flight.drain(..count.min(self.in_flight.len()));
                for index in abandoned.filter_map(|ended| ended.listed) {
                    if let Some(listed) = self.report.commands.get_mut(index) {
                        listed.unanswered = true;
                    }
                }
            }
            Event::Opaque(reason) => {
                let lost_bytes = reason == OpaqueReason::Desync && !piece.is_whole();
                self.report.opaque =
                    Some(Opaque { reason: reason.label(), location, lost_bytes, detail: None });
            }
            Event::Closed { protocol, phase, .. } => {
                self.report.protocol = protocol.label();
                self.phase = Some(phase);
            }
            _ => {}
        }
        self.hazard(event, location, piece.at);
    }

    /// Ends the oldest command in flight. `answer`: its response, `None` if it did not get one.
    fn end_command(
        &mut self,
        command: Command,
        verb: Option<Verb>,
        response: Option<event::Response>,
        piece: &Piece,
        max_slowest: usize,
    ) {
        let ended = self.in_flight.pop_front();
        let location = ended.as_ref().map(|ended| ended.location);
        let answer = response.map(|response| Answer {
            first_byte_us: micros(response.first_byte),
            took_us: micros(response.duration),
            rows: response.tally.rows,
            affected_rows: response.tally.affected_rows,
            warnings: response.tally.warnings,
            result_sets: response.tally.result_sets,
            errno: response.tally.errno,
        });
        if let (Some(location), Some(answer)) = (location, &answer) {
            let slow = slowest::of(command.label(), verb.map(Verb::label), location, answer);
            slowest::add(&mut self.report.slowest, slow, max_slowest);
        }
        if let Some(listed) = ended.and_then(|ended| self.report.commands.get_mut(ended.listed?)) {
            listed.verb = verb.map(Verb::label);
            listed.unanswered = answer.is_none();
            listed.answer = answer;
        }
        if let Some(response) = response {
            let counts = &mut self.report.counts;
            let tally = response.tally;
            counts.rows = counts.rows.saturating_add(tally.rows);
            counts.affected_rows = counts.affected_rows.saturating_add(tally.affected_rows);
            counts.warnings = counts.warnings.saturating_add(u64::from(tally.warnings));
            counts.result_sets = counts.result_sets.saturating_add(u64::from(tally.result_sets));
            if let Some(errno) = tally.errno {
                report::add(&mut counts.errors, errno, 1);
            }
            self.prepared(command, piece);
        }
    }

    fn spoken(&mut self, seen: &'static str) {
        if let Some(first) = &mut self.report.first_word {
            first.seen = seen;
        }
    }

    fn handshake(&mut self) -> &mut Handshake {
        self.report.handshake.get_or_insert_default()
    }

    fn decided(&mut self, result: &'static str, duration: Option<Duration>, errno: Option<u16>) {
        let handshake = self.handshake();
        handshake.result = result;
        handshake.took_us = duration.map(micros);
        handshake.errno = handshake.errno.or(errno);
    }

    fn list(&mut self, command: Command, location: PacketLocation, capture: &Capture) -> Option<usize> {
        report::add(&mut self.report.counts.commands, command.label(), 1);
        let index = self.report.commands.len();
        if index >= capture.max_commands {
            self.report.commands_not_listed = self.report.commands_not_listed.saturating_add(1);
            return None;
        }
        let command = command.label();
        let listed = report::Command { command, verb: None, location, answer: None, unanswered: false };
        self.report.commands.push(listed);
        Some(index)
    }

    /// Ends the connection, or the capture. Returns the commands without a response.
    pub(super) fn finish(&mut self, at: Timestamp, is_open: bool, capture: &Capture) -> Vec<&'static str> {
        self.flush(capture);
        let waiting: Vec<_> = self.in_flight.iter().map(|waiting| waiting.command.label()).collect();
        let since = self.in_flight.front().map(|oldest| oldest.location);
        let (events, _) = self.run(at, |inspector, out| {
            let by = inspector.closed_by(|| ClosedBy::Proxy);
            inspector.close(by, out);
        });
        let piece = Piece { packet: capture.packets, at, bytes: bytes::Bytes::new(), len: 0 };
        for event in &events {
            let is_about_end = matches!(
                event,
                Event::Handshake { result: HandshakeResult::Aborted, .. }
                    | Event::IdleClosed { .. }
                    | Event::Hazard(HazardKind::UnansweredGreeting)
            );
            if !(is_open && is_about_end) {
                self.event(event, Sender::Client, &piece, capture);
            }
        }
        let (server, client) = (self.greeting.server.take(), self.greeting.client.take());
        if self.report.handshake.is_some() || server.is_some() && self.phase != Some(Phase::Opaque) {
            let agreed = std::mem::take(&mut self.greeting.agreed);
            let named =
                [client.as_ref().map(|it| &it.auth_plugin), server.as_ref().map(|it| &it.auth_plugin)];
            let named = named.into_iter().flatten().find(|plugin| !plugin.is_empty()).cloned();
            let handshake = self.handshake();
            if handshake.result.is_empty() {
                handshake.result = "undecided";
            }
            handshake.auth_plugin = handshake.auth_plugin.take().or(named);
            (handshake.server, handshake.client, handshake.agreed) = (server, client, agreed);
        }
        if is_open {
            self.report.waits = self.waits(&waiting, since, at, capture);
        }
        self.silence(at, capture);
        waiting
    }

    fn waits(
        &self,
        commands: &[&'static str],
        oldest: Option<PacketLocation>,
        at: Timestamp,
        capture: &Capture,
    ) -> Option<Waits> {
        let [client, server] = self.last;
        let client_spoke_last = match (client, server) {
            (Some((client, _)), Some((server, _))) => client.packet > server.packet,
            (client, _) => client.is_some(),
        };
        let (who, what) = match self.phase? {
            Phase::Greeting => (Some("client"), "greeting"),
            Phase::Handshake => (Some("server"), "handshake_response"),
            Phase::Authentication if client_spoke_last => (Some("client"), "authentication"),
            Phase::Authentication => (Some("server"), "authentication"),
            Phase::Command if !commands.is_empty() => (Some("client"), "answer"),
            Phase::Command if self.is_struck_by_split() => (Some("client"), "rest_of_split_eof"),
            Phase::Command => (None, "command"),
            Phase::Opaque => return None,
        };
        let opened = (PacketLocation { at_us: capture.at_us(self.opened), ..self.report.first }, self.opened);
        let (location, since) = match what {
            "greeting" => opened,
            _ => [client, server].into_iter().flatten().max_by_key(|(location, _)| location.packet)?,
        };
        let location = oldest.unwrap_or(location);
        let for_us = match oldest {
            Some(oldest) => capture.at_us(at).saturating_sub(oldest.at_us),
            None => micros(at.since(since)),
        };
        Some(Waits { who, what, commands: commands.to_vec(), since: location, for_us })
    }
}
