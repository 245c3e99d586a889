//! One connection, sans-IO: data and endings in by `handle_*`, a [`Verdict`] and [`Event`]s out. What inspects
//! it has no way to change, hold or drop a byte; what has, stands in front of the client's bytes ([`FrontRules`]) and
//! behind the server's (`server`).

mod chunk;
pub mod inspector;
mod protection;
mod recognised;
mod server;
mod setup;
mod stages;

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::config::HoldSplitEof;
use crate::connection::inspector::detect::{Detection, Detector};
use crate::event::details::Notes;
use crate::event::output::Output;
use crate::event::{ClosedBy, Event, OpaqueReason, Phase, Protocol, Sender};
pub use chunk::{Chunk, Edit, Verdict};
use chunk::{drop_all, whole};
use inspector::mysql::Mysql;
use protection::Lost;
use recognised::count_packets;
pub use setup::{Inspection, Setup};
use stages::clear_capabilities::Clearing;
use stages::hold_split_eof::Held;
use stages::proxy_header::receive::Front;
pub use stages::proxy_header::receive::{FrontRules, ReceiveRules, SendRules};
pub use stages::proxy_header::refusal::{Refusal, Why};

/// One read of a chunk takes this much at first: nearly every chunk is smaller.
const FIRST_READ: usize = 16 << 10;
/// Each further read of the same chunk takes this much.
const NEXT_READ: usize = 64 << 10;

/// A connection's state. What is not MySQL, or no longer readable, costs no memory and no reads.
#[derive(Debug)]
pub struct Connection {
    opened: Timestamp,
    inspection: Inspection,
    /// What a rule or the port table expects.
    expected: Protocol,
    /// None: the server has spoken, or need not, or its silence has been told.
    greeting_timeout: Option<Duration>,
    /// Since when the server may speak.
    silent_since: Timestamp,
    stall: Duration,
    waited_as: Option<Protocol>,
    recognised: Option<Protocol>,
    ended_first: Option<Sender>,
    /// See [`Connection::take_report`].
    report: Option<String>,
    /// None: nothing stands in front, or not any more.
    front: Option<Box<Front>>,
    /// See [`Connection::source`].
    source: Option<SocketAddr>,
    /// None: the server's greeting loses nothing, or has passed.
    clearing: Option<Box<Clearing>>,
    hold_split_eof: HoldSplitEof,
    block_local_infile: bool,
    held: Held,
    /// Neither side hears of the other any more; the next tick ends the connection.
    is_cut: bool,
    /// What `block_local_infile` has to keep from the client; `None` if it can be enforced.
    lost: Option<Lost>,
    state: State,
}

#[derive(Debug)]
enum State {
    Detecting(Detector),
    Mysql(Box<Mysql>),
    Opaque { compressed: bool },
}

impl Connection {
    /// A connection that begins.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { inspection, expected, greeting_timeout, stall, opened, front, .. } = setup;
        Self {
            opened,
            inspection,
            expected,
            greeting_timeout: expected.is_server_first().then_some(greeting_timeout),
            silent_since: opened,
            stall,
            waited_as: None,
            recognised: None,
            ended_first: None,
            report: None,
            front: front.map(|rules| Box::new(Front::new(rules, opened))),
            source: None,
            clearing: Clearing::new(setup.clear_capabilities).map(Box::new),
            hold_split_eof: setup.hold_split_eof,
            block_local_infile: setup.block_local_infile,
            held: Held::default(),
            is_cut: false,
            lost: None,
            state: State::Detecting(Detector::default()),
        }
    }

    /// When it began.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// [`Connection::handle_tick`] has something to do. Cheap, for it is asked of every connection on
    /// every tick.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.recognised.is_none() && self.waited_as.is_none()
            || self.is_overdue(now)
            || self.is_stall_due(now)
            || self.front.as_ref().is_some_and(|front| front.is_overdue(now))
            || self.is_cut
    }

    fn is_stall_due(&self, now: Timestamp) -> bool {
        matches!(&self.state, State::Mysql(mysql) if mysql.session.is_stall_due(now, self.stall))
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        let is_silent = |timeout| !self.holds_connection() && now.since(self.silent_since) >= timeout;
        self.greeting_timeout.is_some_and(is_silent)
    }

    /// The server is not to be connected to before the client's bytes get another verdict than
    /// [`Verdict::Hold`].
    #[must_use]
    pub fn holds_connection(&self) -> bool {
        self.front.as_ref().is_some_and(|front| front.holds_connection())
    }

    /// Where the client really connected from, by a PROXY header that is believed.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// After [`Verdict::Close`], once: why. None where there is nothing to say about it.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.front.as_mut()?.take_refusal()
    }

    /// After [`OpaqueReason::Desync`], once: who talked and what the last packets looked like from
    /// outside, as `key=value` for a log.
    pub fn take_report(&mut self) -> Option<String> {
        self.report.take()
    }

    /// Takes what `sender` sent; of the client, what was held before is the beginning of `chunk`.
    /// `end_stream`: and that it sends no more.
    pub fn handle_data(
        &mut self,
        sender: Sender,
        chunk: &impl Chunk,
        end_stream: bool,
        out: &mut Output,
    ) -> Verdict {
        if end_stream {
            self.ended_first.get_or_insert(sender);
        }
        if self.is_cut {
            return drop_all(chunk);
        }
        match (sender, &self.front) {
            (Sender::Client, None) => {
                self.take(sender, chunk, out);
                if self.is_cut { drop_all(chunk) } else { Verdict::Pass }
            }
            (Sender::Client, Some(_)) => self.client_in_front(chunk, end_stream, out),
            (Sender::Server, _) => self.server(chunk, end_stream, out),
        }
    }

    /// Takes what the client sent while something stands in front.
    fn client_in_front(&mut self, chunk: &impl Chunk, end_stream: bool, out: &mut Output) -> Verdict {
        let Some(front) = &mut self.front else { return Verdict::Pass };
        if !end_stream && front.holds_unread(chunk.len(), out) {
            return Verdict::Hold;
        }
        let held_connection = front.holds_connection();
        let bytes = whole(chunk);
        let verdict = match &bytes {
            Some(bytes) => front.client(bytes, end_stream, out),
            None => front.unreadable(out),
        };
        self.source = front.source();
        if held_connection && !front.holds_connection() && verdict != Verdict::Close {
            self.silent_since = out.clock.now();
        }
        if front.is_done() {
            self.front = None;
        }
        let bytes = bytes.unwrap_or_default();
        match &verdict {
            Verdict::Pass => self.take(Sender::Client, &bytes, out),
            Verdict::Edit(edit) => {
                self.take(Sender::Client, &bytes.slice(edit.drain.min(bytes.len())..), out);
            }
            Verdict::Hold | Verdict::Close => {}
        }
        if self.is_cut { drop_all(chunk) } else { verdict }
    }

    /// Inspects what passes.
    fn take(&mut self, sender: Sender, chunk: &impl Chunk, out: &mut Output) {
        if chunk.is_empty() {
            return;
        }
        self.skip_if_told_so(out.events);
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
        let mut read_len = FIRST_READ;
        let mut at: usize = 0;
        while at < chunk.len() {
            let left = chunk.len().saturating_sub(at);
            let skip = self.skippable(sender).min(left);
            let outcome = if matches!(self.state, State::Opaque { .. }) {
                break;
            } else if skip > 0 {
                self.skip(sender, skip);
                at = at.saturating_add(skip);
                self.inspect(sender, &[], at, out)
            } else {
                match chunk.read(at, read_len.min(left)) {
                    Some(bytes) if !bytes.is_empty() => {
                        at = at.saturating_add(bytes.len());
                        read_len = NEXT_READ;
                        self.inspect(sender, &bytes, at, out)
                    }
                    // Without its bytes the stream cannot be followed.
                    _ => Err(OpaqueReason::Desync),
                }
            };
            if let Err(reason) = outcome {
                self.protect(sender, reason, out.events);
                self.give_up(reason, out.events);
                if let (Some(report), Some(violation)) = (&mut self.report, out.violation.take()) {
                    *report = format!("{violation} {report}");
                }
            } else if at < chunk.len() {
                out.between_reads();
            }
        }
        if let State::Mysql(mysql) = &mut self.state {
            count_packets(mysql, sender, out.events);
            if sender == Sender::Server {
                mysql.chunk_ended(out.events);
            }
        }
    }

    /// Some time has gone by: a connection on which nobody has spoken is told of, a server that is silent
    /// for too long, and commands that wait for too long. The verdict is [`Verdict::Pass`], or
    /// [`Verdict::Close`] where a PROXY header does not come or a request for a file was blocked.
    pub fn handle_tick(&mut self, now: Timestamp, events: &mut Vec<Event>) -> Verdict {
        self.skip_if_told_so(events);
        if self.recognised.is_none() && self.waited_as.is_none() {
            self.waited_as = Some(self.expected);
            events.push(Event::Waiting(self.expected));
        }
        if self.is_overdue(now) {
            self.greeting_timeout = None;
            events.push(Event::GreetingTimeout);
        }
        if let State::Mysql(mysql) = &mut self.state {
            mysql.session.stall(now, self.stall, events);
        }
        match self.front.as_mut().filter(|front| front.is_overdue(now)) {
            Some(front) => {
                front.time_out(events);
                Verdict::Close
            }
            None if self.is_cut => Verdict::Close,
            None => Verdict::Pass,
        }
    }

    /// No rule changes bytes any more. Says whether bytes or the connection to the server were held, and are to
    /// go on; those bytes were not looked at.
    pub fn handle_inert(&mut self, events: &mut Vec<Event>) -> bool {
        self.hold_split_eof = HoldSplitEof::Off;
        (self.clearing, self.block_local_infile) = (None, false);
        // One that has refused the connection stays: nothing of it may pass until it is closed.
        let Some(front) = self.front.take_if(|front| !front.has_refused()) else { return false };
        if front.held() > 0 && !matches!(self.state, State::Opaque { .. }) {
            let protocol = self.recognised.unwrap_or(self.expected);
            self.recognise(protocol, events);
            self.give_up(OpaqueReason::LateStart, events);
        }
        front.held() > 0 || front.holds_connection()
    }

    /// Memory in bytes that inspection takes, beyond the size of this type.
    #[must_use]
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Mysql(mysql) => mysql.memory(),
            State::Detecting(_) | State::Opaque { .. } => 0,
        };
        let front = self.front.as_ref().map_or(0, |front| front.memory());
        let clearing = self.clearing.as_ref().map_or(0, |_| size_of::<Clearing>());
        let report = self.report.as_ref().map_or(0, String::capacity);
        state
            .saturating_add(front)
            .saturating_add(clearing)
            .saturating_add(report)
            .saturating_add(self.held.memory())
    }

    /// The connection may take no more memory: its inspection ends. `sender`: whose bytes are passing.
    pub(crate) fn end_for_memory(&mut self, sender: Sender, events: &mut Vec<Event>) {
        if matches!(self.state, State::Opaque { .. }) {
            return;
        }
        let protocol = self.recognised.unwrap_or(self.expected);
        self.recognise(protocol, events);
        self.protect(sender, OpaqueReason::Memory, events);
        self.give_up(OpaqueReason::Memory, events);
    }

    /// The connection may take no more memory: its inspection ends, before or after a chunk.
    pub fn handle_memory(&mut self, events: &mut Vec<Event>) {
        self.end_for_memory(Sender::Client, events);
        if self.is_cut {
            // Nothing of it reaches the client any more.
            self.held = Held::default();
        }
    }

    /// Configuration says not to look any more.
    pub fn handle_off(&mut self, events: &mut Vec<Event>) {
        self.inspection = Inspection::Nothing;
        self.greeting_timeout = None;
        let protocol = self.recognised.unwrap_or(self.expected);
        self.recognise(protocol, events);
        if !matches!(self.state, State::Opaque { .. }) {
            self.give_up(OpaqueReason::Configured, events);
        }
    }

    /// The connection is about to end: tells of the commands that are not answered and have waited for as
    /// long as a slow one.
    pub fn note_unanswered(&self, now: Timestamp, notes: &mut Notes) {
        if let State::Mysql(mysql) = &self.state {
            mysql.session.note_unanswered(now, notes);
        }
    }

    /// The connection ended. `unless_known` says who ended it where the traffic does not.
    pub fn handle_close(
        &mut self,
        clock: &mut Clock,
        unless_known: impl FnOnce() -> ClosedBy,
        events: &mut Vec<Event>,
    ) {
        self.skip_if_told_so(events);
        let quit = matches!(&self.state, State::Mysql(mysql) if mysql.session.has_quit());
        let by = match self.ended_first {
            _ if quit => ClosedBy::Client,
            Some(Sender::Client) => ClosedBy::Client,
            Some(Sender::Server) => ClosedBy::Server,
            None => unless_known(),
        };
        let phase = match &mut self.state {
            State::Detecting(_) => Phase::Greeting,
            State::Mysql(mysql) => {
                events.extend(mysql.session.hazard_of_close(by, clock));
                mysql.session.end(None, events);
                mysql.session.phase()
            }
            State::Opaque { .. } => Phase::Opaque,
        };
        if let State::Detecting(detector) = self.state {
            self.detected(detector.give_up(), events);
        }
        let protocol = self.recognised.unwrap_or(self.expected);
        self.recognise(protocol, events);
        self.held.closed(by, events);
        events.push(Event::Closed { protocol, phase, by });
        self.state = State::Opaque { compressed: false };
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
    fn inspect(
        &mut self,
        sender: Sender,
        bytes: &[u8],
        end: usize,
        out: &mut Output,
    ) -> Result<(), OpaqueReason> {
        match &mut self.state {
            State::Mysql(mysql) => mysql.inspect(sender, bytes, end, out),
            State::Opaque { .. } => Ok(()),
            State::Detecting(detector) => {
                let before = *detector;
                let detection = match sender {
                    Sender::Client => detector.client_bytes(bytes),
                    Sender::Server => detector.server_bytes(bytes),
                };
                self.detected(detection, out.events);
                match detection {
                    Detection::Undecided => Ok(()),
                    _ if self.inspection == Inspection::FirstBytes => Err(OpaqueReason::Configured),
                    Detection::Mysql => {
                        let mut mysql = Box::new(Mysql::new(self.opened, self.inspection));
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
}

#[cfg(test)]
mod logged_in;
#[cfg(test)]
mod tests;
