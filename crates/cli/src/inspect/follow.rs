//! A connection's bytes through the core, and what it tells of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::connection::inspector::Inspector;
use firstword::event::output::Output;
use firstword::event::runner::Runner;
use firstword::event::{ClosedBy, Event, HandshakeResult, HazardKind, OpaqueReason, Phase, Protocol, Sender};
use firstword::mysql::wire::command::Command;
use firstword::rules::{Expected, Rules};

use super::Capture;
use super::hello::Hello;
use super::intro::Intro;
use super::report::{self, Answer, Both, Connection, FirstWord, Handshake, Opaque, Place, Waits};
use super::stream::Piece;

/// What the core of the filter keeps, in bytes: of any connection, of a prepared statement, of a command without a response.
const CORE: usize = 4096;
const STATEMENT: usize = 32;
const QUEUED: usize = 64;

/// The ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

/// A command that is being answered.
#[derive(Debug)]
struct InFlight {
    command: Command,
    /// Where it is listed, if it is.
    listed: Option<usize>,
    place: Place,
}

/// A connection that is followed.
#[derive(Debug)]
pub(super) struct Follow {
    inspector: Inspector,
    runner: Runner,
    ends: Ends,
    pub(super) opened: Timestamp,
    intro: Intro,
    hello: Hello,
    in_flight: VecDeque<InFlight>,
    /// What it may be expected to carry.
    pub(super) expected: Expected,
    /// The last bytes of either side.
    pub(super) last: [Option<(Place, Timestamp)>; 2],
    /// See [`super::hazard`].
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

/// Microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Follow {
    /// A connection on which bytes can pass from `opened` on.
    pub(super) fn new(ends: Ends, expected: Expected, opened: Timestamp, capture: &Capture) -> Self {
        let rules = Rules { expected, ..Rules::observe_only() };
        Self {
            inspector: Inspector::new(&rules, opened),
            runner: Runner::default(),
            ends,
            opened,
            intro: Intro::default(),
            hello: Hello::new(capture.arguments.user),
            in_flight: VecDeque::new(),
            expected,
            last: [None; 2],
            split: None,
            phase: None,
            report: Connection { protocol: Protocol::Unknown.label(), ..Connection::default() },
        }
    }

    /// How much memory it takes, about and at most, in bytes.
    pub(super) fn memory(&self) -> usize {
        let prepared = self.report.counts.commands.get("stmt_prepare").copied().unwrap_or_default();
        let statements = usize::try_from(prepared).unwrap_or(usize::MAX).saturating_mul(STATEMENT);
        let in_flight = self.in_flight.len().saturating_mul(size_of::<InFlight>().saturating_add(QUEUED));
        let parts = [self.intro.memory(), self.hello.memory(), self.report.memory(), statements, in_flight];
        parts.into_iter().fold(size_of::<Self>().saturating_add(CORE), usize::saturating_add)
    }

    /// Takes bytes of `sender`.
    pub(super) fn data(&mut self, sender: Sender, piece: Piece, capture: &Capture) {
        if let Some(last) = self.last.get_mut(sender as usize) {
            *last = Some((capture.place(piece.packet, piece.at), piece.at));
        }
        let pieces = match sender {
            Sender::Client => {
                let headers = self.report.proxy_headers.len();
                let rest = self.intro.take(piece, self.ends, capture, &mut self.report.proxy_headers);
                self.headers_found(headers);
                rest
            }
            Sender::Server => vec![piece],
        };
        for piece in pieces {
            self.pass(sender, &piece, capture);
        }
    }

    /// `sender` sends no more.
    pub(super) fn end_of(&mut self, sender: Sender, at: Timestamp, capture: &Capture) {
        if sender == Sender::Client {
            self.flush(capture);
        }
        let piece = Piece { packet: 0, at, bytes: bytes::Bytes::new(), len: 0 };
        self.hand_over(sender, &piece, true, capture);
    }

    /// What may have been a header's beginning is none.
    fn flush(&mut self, capture: &Capture) {
        for piece in self.intro.flush() {
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
        self.hello.take(sender, piece);
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
                desync = desync.take().or(details.desync.take());
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
        let place = capture.place(piece.packet, piece.at);
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
            Event::Handshake { result, took } => self.decided(result.label(), took, None),
            Event::CommandSent(command) => {
                self.went_on(sender, place);
                self.list(command, place, capture);
            }
            Event::CommandStarted(command) => {
                self.went_on(sender, place);
                let listed = self.list(command, place, capture);
                self.in_flight.push_back(InFlight { command, listed, place });
            }
            Event::CommandEnded { command, verb, answer } => {
                let ended = self.in_flight.pop_front();
                let listed = ended.and_then(|ended| self.report.commands.get_mut(ended.listed?));
                let told = answer.map(|answer| Answer {
                    first_byte_us: micros(answer.first_byte),
                    took_us: micros(answer.took),
                    rows: answer.tally.rows,
                    affected_rows: answer.tally.affected_rows,
                    warnings: answer.tally.warnings,
                    result_sets: answer.tally.result_sets,
                    errno: answer.tally.errno,
                });
                if let Some(listed) = listed {
                    listed.verb = verb.map(firstword::mysql::sql::verb::Verb::label);
                    listed.unanswered = told.is_none();
                    listed.answer = told;
                }
                if let Some(answer) = answer {
                    let counts = &mut self.report.counts;
                    let tally = answer.tally;
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
                self.report.opaque = Some(Opaque { reason: reason.label(), place, lost_bytes, detail: None });
            }
            Event::Closed { protocol, phase, .. } => {
                self.report.protocol = protocol.label();
                self.phase = Some(phase);
            }
            _ => {}
        }
        self.hazard(event, place, piece.at);
    }

    fn spoken(&mut self, seen: &'static str) {
        if let Some(first) = &mut self.report.first_word {
            first.seen = seen;
        }
    }

    fn handshake(&mut self) -> &mut Handshake {
        self.report.handshake.get_or_insert_default()
    }

    fn decided(&mut self, result: &'static str, took: Option<Duration>, errno: Option<u16>) {
        let handshake = self.handshake();
        handshake.result = result;
        handshake.took_us = took.map(micros);
        handshake.errno = handshake.errno.or(errno);
    }

    fn list(&mut self, command: Command, place: Place, capture: &Capture) -> Option<usize> {
        report::add(&mut self.report.counts.commands, command.label(), 1);
        let index = self.report.commands.len();
        if index >= capture.arguments.limit {
            self.report.commands_not_listed = self.report.commands_not_listed.saturating_add(1);
            return None;
        }
        let command = command.label();
        let listed = report::Command { command, verb: None, place, answer: None, unanswered: false };
        self.report.commands.push(listed);
        Some(index)
    }

    /// The connection, or the capture, is at its end: what is still to tell, and the commands without an answer.
    pub(super) fn finish(&mut self, at: Timestamp, is_open: bool, capture: &Capture) -> Vec<&'static str> {
        self.flush(capture);
        let waiting: Vec<_> = self.in_flight.iter().map(|waiting| waiting.command.label()).collect();
        let since = self.in_flight.front().map(|oldest| oldest.place);
        let (events, _) = self.run(at, |inspector, out| {
            let by = inspector.closed_by(|| ClosedBy::Proxy);
            inspector.close(by, out);
        });
        let piece = Piece { packet: capture.packets, at, bytes: bytes::Bytes::new(), len: 0 };
        for event in &events {
            let of_the_end = matches!(
                event,
                Event::Handshake { result: HandshakeResult::Aborted, .. }
                    | Event::IdleClosed { .. }
                    | Event::Hazard(HazardKind::UnansweredGreeting)
            );
            if !(is_open && of_the_end) {
                self.event(event, Sender::Client, &piece, capture);
            }
        }
        let (server, client) = (self.hello.server.take(), self.hello.client.take());
        if self.report.handshake.is_some() || server.is_some() && self.phase != Some(Phase::Opaque) {
            let agreed = std::mem::take(&mut self.hello.agreed);
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
        oldest: Option<Place>,
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
        let opened = (Place { at_us: capture.at_us(self.opened), ..self.report.first }, self.opened);
        let (place, since) = match what {
            "greeting" => opened,
            _ => [client, server].into_iter().flatten().max_by_key(|(place, _)| place.packet)?,
        };
        let place = oldest.unwrap_or(place);
        let for_us = match oldest {
            Some(oldest) => capture.at_us(at).saturating_sub(oldest.at_us),
            None => micros(at.since(since)),
        };
        Some(Waits { who, what, commands: commands.to_vec(), since: place, for_us })
    }
}
