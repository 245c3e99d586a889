//! Inspection: reads bytes, emits events, and cannot change a byte.

pub(crate) mod banner;
pub mod detect;
pub mod landmarks;
mod mysql;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::inspector::detect::{Detection, Detector};
use crate::connection::inspector::landmarks::{InspectionEnd, Landmarks};
use crate::connection::inspector::mysql::MysqlInspector;
use crate::event::output::{Outcome, Output};
use crate::event::{ClientFirst, ClosedBy, Event, OpaqueReason, Phase, Protocol, Sender, ServerFirst};
use crate::rules::{Expected, Inspection, Rules};
use crate::session::options::Options;

/// Size of the first read of a chunk in bytes: nearly every chunk is smaller.
const FIRST_READ: usize = 16 << 10;
/// Size of each further read of the same chunk in bytes.
const NEXT_READ: usize = 64 << 10;

/// State of inspection of one connection. A connection that is not MySQL, or cannot be inspected, costs no memory and no
/// reads.
#[derive(Debug)]
pub struct Inspector {
    opened: Timestamp,
    inspection: Inspection,
    expected: Expected,
    options: Options,
    /// `None` once the server has sent a byte or need not send one, or once its silence was reported.
    greeting_timeout: Option<Duration>,
    /// Time from which on the server can send bytes.
    silent_since: Timestamp,
    stall: Duration,
    waited_as: Option<Expected>,
    observed: Option<Protocol>,
    ended_first: Option<Sender>,
    state: State,
}

#[derive(Debug)]
enum State {
    Detecting(Detector),
    Mysql(Box<MysqlInspector>),
    Opaque { compressed: bool },
}

impl Inspector {
    /// Creates the inspector of a connection that was opened at `opened`.
    #[must_use]
    pub fn new(rules: &Rules, opened: Timestamp) -> Self {
        let Rules { inspection, expected, greeting_timeout, stall, interests, .. } = *rules;
        let (judge_files, hides_secrets) = (rules.block_local_infile, rules.terminate_tls);
        Self {
            opened,
            inspection,
            expected,
            options: Options { interests, judge_files, hides_secrets },
            greeting_timeout: expected.is_server_first().then_some(greeting_timeout),
            silent_since: opened,
            stall,
            waited_as: None,
            observed: None,
            ended_first: None,
            state: State::Detecting(Detector::default()),
        }
    }

    /// Time at which the connection was opened.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// True if the connection is no longer inspected.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        matches!(self.state, State::Opaque { .. })
    }

    /// True if [`Inspector::tick`] has something to do. Cheap, because it is called for every connection on every tick.
    #[must_use]
    pub fn is_due(&self, now: Timestamp, server_can_speak: bool) -> bool {
        self.observed.is_none() && self.waited_as.is_none()
            || server_can_speak && self.is_silent_too_long(now)
            || matches!(&self.state, State::Mysql(mysql) if mysql.session.is_stall_due(now, self.stall))
    }

    fn is_silent_too_long(&self, now: Timestamp) -> bool {
        self.greeting_timeout.is_some_and(|timeout| now.since(self.silent_since) >= timeout)
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.state {
            State::Mysql(mysql) => mysql.memory(),
            State::Detecting(_) | State::Opaque { .. } => 0,
        }
    }

    /// Takes the time from which on the connection to the server is allowed, so that the server can send bytes.
    pub fn server_can_speak(&mut self, now: Timestamp) {
        self.silent_since = now;
    }

    /// Records that the stream of `sender` ends with the next chunk.
    pub fn end_of_stream(&mut self, sender: Sender) {
        self.ended_first.get_or_insert(sender);
    }

    /// Inspects bytes of `sender`. Returns the end of inspection if these bytes cause it.
    pub fn inspect(&mut self, sender: Sender, chunk: &impl Chunk, out: &mut Output) -> Option<InspectionEnd> {
        if chunk.is_empty() {
            return None;
        }
        self.apply_opaque_rule(out);
        if sender == Sender::Server {
            self.greeting_timeout = None;
            if let State::Mysql(mysql) = &mut self.state {
                mysql.next_chunk();
            }
        }
        let count = chunk.len() as u64;
        out.events.push(Event::Bytes { sender, count });
        if matches!(self.state, State::Opaque { compressed: true }) {
            out.events.push(Event::CompressedBytes { sender, count });
        }
        let mut end = None;
        let mut read_len = FIRST_READ;
        let mut at: usize = 0;
        while at < chunk.len() {
            let left = chunk.len().saturating_sub(at);
            let skip = self.skippable(sender).min(left);
            let outcome = if self.is_opaque() {
                break;
            } else if skip > 0 {
                self.skip(sender, skip);
                at = at.saturating_add(skip);
                self.take(sender, &[], at, out)
            } else {
                let taken = chunk.with_bytes(at, read_len.min(left), |bytes| {
                    at = at.saturating_add(bytes.len());
                    let is_empty = bytes.is_empty();
                    if is_empty { Err(OpaqueReason::Desync) } else { self.take(sender, bytes, at, out) }
                });
                read_len = NEXT_READ;
                // A session cannot be inspected without its bytes.
                taken.unwrap_or(Err(OpaqueReason::Desync))
            };
            if let Err(reason) = outcome {
                end = Some(self.make_opaque(sender, reason, out));
            } else if at < chunk.len() {
                out.between_reads();
            }
        }
        if let State::Mysql(mysql) = &mut self.state {
            mysql.count_packets(sender, out);
            if sender == Sender::Server {
                mysql.chunk_ended(out);
            }
        }
        end
    }

    /// Landmarks of the server's chunk that was inspected last.
    #[must_use]
    pub fn landmarks(&self) -> Landmarks {
        match &self.state {
            State::Mysql(mysql) => mysql.landmarks(),
            State::Detecting(_) | State::Opaque { .. } => Landmarks::default(),
        }
    }

    fn skippable(&mut self, sender: Sender) -> usize {
        match &mut self.state {
            State::Mysql(mysql) => mysql.skippable(sender),
            State::Detecting(_) | State::Opaque { .. } => 0,
        }
    }

    fn skip(&mut self, sender: Sender, n: usize) {
        if let State::Mysql(mysql) = &mut self.state {
            mysql.skip(sender, n);
        }
    }

    /// Takes bytes that end at `end` in their chunk.
    fn take(&mut self, sender: Sender, bytes: &[u8], end: usize, out: &mut Output) -> Outcome {
        match &mut self.state {
            State::Mysql(mysql) => mysql.inspect(sender, bytes, end, out),
            State::Opaque { .. } => Ok(()),
            State::Detecting(detector) => {
                let before = *detector;
                let detection = match sender {
                    Sender::Client => detector.client_bytes(bytes),
                    Sender::Server => detector.server_bytes(bytes),
                };
                self.apply_detection(detection, out);
                match detection {
                    Detection::Undecided => Ok(()),
                    _ if self.inspection == Inspection::FirstBytes => Err(OpaqueReason::Configured),
                    Detection::Mysql => {
                        let mysql = MysqlInspector::new(self.opened, self.inspection, self.options);
                        let mut mysql = Box::new(mysql);
                        let outcome = mysql.inspect(sender, before.seen(), 0, out);
                        let outcome = outcome.and_then(|()| mysql.inspect(sender, bytes, end, out));
                        self.state = State::Mysql(mysql);
                        outcome
                    }
                    Detection::ServerFirst(_) | Detection::ClientFirst(_) => Err(OpaqueReason::NotMysql),
                }
            }
        }
    }

    /// Makes a connection opaque if the configuration excludes it from inspection. This happens after the connection is
    /// opened, because metrics need the destination, which the host has not yet chosen when the connection opens.
    fn apply_opaque_rule(&mut self, out: &mut Output) {
        if self.inspection == Inspection::Nothing && self.observed.is_none() {
            self.stop(out);
        }
    }

    fn apply_detection(&mut self, detection: Detection, out: &mut Output) {
        match detection {
            Detection::Undecided => {}
            Detection::Mysql => {
                self.observe(Protocol::Mysql, out);
                out.events.push(Event::ServerFirst(ServerFirst::Mysql));
            }
            Detection::ServerFirst(kind) => {
                self.observe(Protocol::ServerFirst, out);
                out.events.push(Event::ServerFirst(kind));
            }
            Detection::ClientFirst(kind) => {
                self.observe(Protocol::ClientFirst, out);
                out.events.push(Event::ClientFirst(kind));
                // A PROXY header comes before a protocol and does not show which peer speaks first in that protocol.
                if !matches!(kind, ClientFirst::ProxyV1 | ClientFirst::ProxyV2) {
                    self.greeting_timeout = None;
                }
            }
        }
    }

    /// The observed protocol, or the expected one until a protocol is observed.
    fn protocol(&self) -> Protocol {
        self.observed.unwrap_or_else(|| self.expected.into())
    }

    fn observe(&mut self, protocol: Protocol, out: &mut Output) {
        if self.observed.is_none() {
            self.observed = Some(protocol);
            out.events.push(Event::Recognised { protocol, waited_as: self.waited_as });
        }
    }

    /// Ends inspection because of bytes of `sender`, and frees its memory. `None` if it had ended before.
    pub fn end(&mut self, sender: Sender, reason: OpaqueReason, out: &mut Output) -> Option<InspectionEnd> {
        if self.is_opaque() {
            return None;
        }
        self.observe(self.protocol(), out);
        Some(self.make_opaque(sender, reason, out))
    }

    fn make_opaque(&mut self, sender: Sender, reason: OpaqueReason, out: &mut Output) -> InspectionEnd {
        let mut end = InspectionEnd {
            reason,
            sender,
            is_mysql: self.observed == Some(Protocol::Mysql) || self.expected == Expected::Mysql,
            last_packet: None,
            in_command_phase: false,
        };
        if let State::Mysql(mysql) = &mut self.state {
            end.last_packet = Some(mysql.last_server_packet());
            end.in_command_phase = mysql.session.phase() == Phase::Command;
            mysql.count_packets(Sender::Client, out);
            mysql.count_packets(Sender::Server, out);
            mysql.session.end(Some(reason), out.events);
            if reason == OpaqueReason::Desync {
                let report = mysql.session.report(out.violation.take());
                out.details.desync = Some(Box::new(report));
            }
        }
        self.state = State::Opaque { compressed: reason == OpaqueReason::Compressed };
        out.events.push(Event::Opaque(reason));
        end
    }

    /// Stops inspection, because the configuration requires it.
    pub fn stop(&mut self, out: &mut Output) {
        self.inspection = Inspection::Nothing;
        self.greeting_timeout = None;
        self.observe(self.protocol(), out);
        self.end(Sender::Client, OpaqueReason::Configured, out);
    }

    /// Stops judging file requests, because no request is blocked any more.
    pub fn stop_judging_files(&mut self) {
        self.options.judge_files = false;
        if let State::Mysql(mysql) = &mut self.state {
            mysql.session.stop_judging_files();
        }
    }

    /// Emits the events that only the time shows: a connection without traffic, a silent server, stalled commands.
    pub fn tick(&mut self, now: Timestamp, server_can_speak: bool, out: &mut Output) {
        self.apply_opaque_rule(out);
        if self.observed.is_none() && self.waited_as.is_none() {
            self.waited_as = Some(self.expected);
            out.events.push(Event::Waiting(self.expected));
        }
        if server_can_speak && self.is_silent_too_long(now) {
            self.greeting_timeout = None;
            out.events.push(Event::GreetingTimeout);
        }
        if let State::Mysql(mysql) = &mut self.state {
            mysql.session.stall(now, self.stall, out.events);
        }
    }

    /// Returns the peer that ended the connection. Calls `unless_known` if the traffic does not show it.
    pub fn closed_by(&self, unless_known: impl FnOnce() -> ClosedBy) -> ClosedBy {
        let has_quit = matches!(&self.state, State::Mysql(mysql) if mysql.session.has_quit());
        match self.ended_first {
            _ if has_quit => ClosedBy::Client,
            Some(Sender::Client) => ClosedBy::Client,
            Some(Sender::Server) => ClosedBy::Server,
            None => unless_known(),
        }
    }

    /// Emits the events of the end of the connection.
    pub fn close(&mut self, by: ClosedBy, out: &mut Output) {
        self.apply_opaque_rule(out);
        let phase = match &mut self.state {
            State::Detecting(_) => Phase::Greeting,
            State::Mysql(mysql) => {
                mysql.session.record_unanswered(out);
                out.events.extend(mysql.session.hazard_of_close(by, out.clock));
                mysql.session.end(None, out.events);
                mysql.session.phase()
            }
            State::Opaque { .. } => Phase::Opaque,
        };
        if let State::Detecting(detector) = self.state {
            self.apply_detection(detector.finish(), out);
        }
        let protocol = self.protocol();
        self.observe(protocol, out);
        out.events.push(Event::Closed { protocol, phase, by });
        self.state = State::Opaque { compressed: false };
    }
}
