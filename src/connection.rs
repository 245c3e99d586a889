//! One connection, sans-IO: data and endings in by `handle_*`, [`Event`]s out. It has no way to
//! change, hold or drop a byte.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::detect::{Detection, Detector};
use crate::event::{ClientFirst, ClosedBy, Event, OpaqueReason, Phase, Protocol, Sender, ServerFirst};
use crate::mysql::packet::{Framed, Framer};
use crate::mysql::session::{Observer, Session};

/// One read of a chunk takes this much at first: nearly every chunk is smaller.
const FIRST_READ: usize = 16 << 10;
/// Each further read of the same chunk takes this much.
const NEXT_READ: usize = 64 << 10;
/// The first byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Bytes that pass in one callback. They stay with the host until they are asked for: every read
/// costs, whatever its size.
pub trait Chunk {
    /// How many bytes pass.
    fn len(&self) -> usize;

    /// No byte passes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `max` bytes from `start` on. None: the host does not give them.
    fn read(&self, start: usize, max: usize) -> Option<Bytes>;
}

impl Chunk for Bytes {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        let end = start.saturating_add(max).min(Self::len(self));
        (start <= end).then(|| self.slice(start..end))
    }
}

/// How closely a connection is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// First bytes, and the whole life of it if it is MySQL.
    Full,
    /// First bytes only.
    FirstBytes,
    /// Not at all.
    Nothing,
}

/// What is known of a connection when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How closely it is looked at.
    pub inspection: Inspection,
    /// What a rule or the port table expects.
    pub expected: Protocol,
    /// How long the server may take for its first word, where it is expected to have it.
    pub greeting_timeout: Duration,
    /// When it began.
    pub opened: Timestamp,
}

/// A connection's state. What is not MySQL, or no longer readable, costs no memory and no reads.
#[derive(Debug)]
pub struct Connection {
    opened: Timestamp,
    inspection: Inspection,
    /// What a rule or the port table expects.
    expected: Protocol,
    /// None: the server has spoken, or need not, or its silence has been told.
    greeting_timeout: Option<Duration>,
    waited_as: Option<Protocol>,
    recognised: Option<Protocol>,
    ended_first: Option<Sender>,
    /// See [`Connection::take_report`].
    report: Option<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    Detecting(Detector),
    Mysql(Box<Mysql>),
    Opaque { compressed: bool },
}

#[derive(Debug)]
struct Mysql {
    session: Session,
    client: Framer,
    server: Framer,
}

impl Mysql {
    fn new(opened: Timestamp) -> Self {
        let session = Session::new(opened);
        let framer = |sender| Framer::new(session.keep(sender));
        let (client, server) = (framer(Sender::Client), framer(Sender::Server));
        Self { session, client, server }
    }

    fn framer(&mut self, sender: Sender) -> &mut Framer {
        match sender {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    fn inspect(&mut self, sender: Sender, mut input: &[u8], to: &mut Observer) -> Result<(), OpaqueReason> {
        let Self { session, client, server } = self;
        loop {
            if sender == Sender::Client && session.awaits_tls() && client.is_at_border() {
                match input.first() {
                    None => return Ok(()),
                    Some(&TLS_HANDSHAKE) => return Err(OpaqueReason::Tls),
                    Some(_) => session.no_tls(),
                }
            }
            let framer = if sender == Sender::Client { &mut *client } else { &mut *server };
            let Some(framed) = framer.next(&mut input) else { return Ok(()) };
            match framed {
                Framed::Head(packet) => session.packet(sender, &packet, to)?,
                Framed::End { sequence_id } => session.packet_end(sender, sequence_id),
                Framed::Broken => return Err(OpaqueReason::Desync),
            }
            client.set_keep(session.keep(Sender::Client));
            server.set_keep(session.keep(Sender::Server));
        }
    }
}

impl Connection {
    /// A connection that begins.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { inspection, expected, greeting_timeout, opened } = setup;
        let server_first = matches!(expected, Protocol::Mysql | Protocol::ServerFirst);
        Self {
            opened,
            inspection,
            expected,
            greeting_timeout: server_first.then_some(greeting_timeout),
            waited_as: None,
            recognised: None,
            ended_first: None,
            report: None,
            state: State::Detecting(Detector::default()),
        }
    }

    /// When it began.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// What was expected of it when it began.
    #[must_use]
    pub const fn expected(&self) -> Protocol {
        self.expected
    }

    /// [`Connection::handle_tick`] has something to do. Cheap, for it is asked of every connection on
    /// every tick.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.recognised.is_none() && self.waited_as.is_none() || self.is_overdue(now)
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.greeting_timeout.is_some_and(|timeout| now.since(self.opened) >= timeout)
    }

    /// After [`OpaqueReason::Desync`], once: who talked and what the last packets looked like from
    /// outside, as `key=value` for a log.
    pub fn take_report(&mut self) -> Option<String> {
        self.report.take()
    }

    /// Takes what `sender` sent. `end_stream`: and that it sends no more.
    pub fn handle_data(&mut self, sender: Sender, chunk: &impl Chunk, end_stream: bool, to: &mut Observer) {
        if end_stream {
            self.ended_first.get_or_insert(sender);
        }
        if chunk.is_empty() {
            return;
        }
        self.skip_if_told_so(to.events);
        if sender == Sender::Server {
            self.greeting_timeout = None;
        }
        let count = chunk.len() as u64;
        to.events.push(Event::Bytes { sender, count });
        if matches!(self.state, State::Opaque { compressed: true }) {
            to.events.push(Event::CompressedBytes { sender, count });
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
                self.inspect(sender, &[], to)
            } else {
                match chunk.read(at, read_len.min(left)) {
                    Some(bytes) if !bytes.is_empty() => {
                        at = at.saturating_add(bytes.len());
                        read_len = NEXT_READ;
                        self.inspect(sender, &bytes, to)
                    }
                    // Without its bytes the stream cannot be followed.
                    _ => Err(OpaqueReason::Desync),
                }
            };
            if let Err(reason) = outcome {
                self.give_up(reason, to.events);
            }
        }
        if let State::Mysql(mysql) = &mut self.state {
            count_packets(mysql, sender, to.events);
        }
    }

    /// Some time has gone by: a connection on which nobody has spoken is told of, and a server that is
    /// silent for too long.
    pub fn handle_tick(&mut self, now: Timestamp, events: &mut Vec<Event>) {
        self.skip_if_told_so(events);
        if self.recognised.is_none() && self.waited_as.is_none() {
            self.waited_as = Some(self.expected);
            events.push(Event::Waiting(self.expected));
        }
        if self.is_overdue(now) {
            self.greeting_timeout = None;
            events.push(Event::GreetingTimeout);
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

    /// The connection ended. `unless_known` says who ended it where the traffic does not.
    pub fn handle_close(&mut self, unless_known: impl FnOnce() -> ClosedBy, events: &mut Vec<Event>) {
        self.skip_if_told_so(events);
        let (phase, quit) = match &mut self.state {
            State::Detecting(_) => (Phase::Greeting, false),
            State::Mysql(mysql) => {
                mysql.session.end(None, events);
                (mysql.session.phase(), mysql.session.has_quit())
            }
            State::Opaque { .. } => (Phase::Opaque, false),
        };
        if let State::Detecting(detector) = self.state {
            self.detected(detector.give_up(), events);
        }
        let protocol = self.recognised.unwrap_or(self.expected);
        self.recognise(protocol, events);
        let by = match self.ended_first {
            _ if quit => ClosedBy::Client,
            Some(Sender::Client) => ClosedBy::Client,
            Some(Sender::Server) => ClosedBy::Server,
            None => unless_known(),
        };
        events.push(Event::Closed { protocol, phase, by });
        self.state = State::Opaque { compressed: false };
    }

    /// Nobody looks at this connection. That is told when something happens on it and not when it opens,
    /// for by then the host has not chosen where it goes.
    fn skip_if_told_so(&mut self, events: &mut Vec<Event>) {
        if self.inspection == Inspection::Nothing && self.recognised.is_none() {
            self.handle_off(events);
        }
    }

    fn skippable(&mut self, sender: Sender) -> usize {
        match &mut self.state {
            State::Mysql(mysql) => mysql.framer(sender).skippable(),
            State::Detecting(_) | State::Opaque { .. } => 0,
        }
    }

    fn skip(&mut self, sender: Sender, n: usize) {
        if let State::Mysql(mysql) = &mut self.state {
            mysql.framer(sender).skip(n);
        }
    }

    fn inspect(&mut self, sender: Sender, bytes: &[u8], to: &mut Observer) -> Result<(), OpaqueReason> {
        match &mut self.state {
            State::Mysql(mysql) => mysql.inspect(sender, bytes, to),
            State::Opaque { .. } => Ok(()),
            State::Detecting(detector) => {
                let before = *detector;
                let detection = match sender {
                    Sender::Client => detector.client_bytes(bytes),
                    Sender::Server => detector.server_bytes(bytes),
                };
                self.detected(detection, to.events);
                match detection {
                    Detection::Undecided => Ok(()),
                    _ if self.inspection != Inspection::Full => Err(OpaqueReason::Configured),
                    Detection::Mysql => {
                        let mut mysql = Box::new(Mysql::new(self.opened));
                        let outcome = mysql.inspect(sender, before.seen(), to);
                        let outcome = outcome.and_then(|()| mysql.inspect(sender, bytes, to));
                        self.state = State::Mysql(mysql);
                        outcome
                    }
                    Detection::ServerFirst(_) | Detection::ClientFirst(_) => Err(OpaqueReason::NotMysql),
                }
            }
        }
    }

    fn detected(&mut self, detection: Detection, events: &mut Vec<Event>) {
        match detection {
            Detection::Undecided => {}
            Detection::Mysql => {
                self.recognise(Protocol::Mysql, events);
                events.push(Event::ServerFirst(ServerFirst::Mysql));
            }
            Detection::ServerFirst(kind) => {
                self.recognise(Protocol::ServerFirst, events);
                events.push(Event::ServerFirst(kind));
            }
            Detection::ClientFirst(kind) => {
                self.recognise(Protocol::ClientFirst, events);
                events.push(Event::ClientFirst(kind));
                // A PROXY header is in front of a protocol, and says nothing of who speaks first in it.
                if !matches!(kind, ClientFirst::ProxyV1 | ClientFirst::ProxyV2) {
                    self.greeting_timeout = None;
                }
            }
        }
    }

    fn recognise(&mut self, protocol: Protocol, events: &mut Vec<Event>) {
        if self.recognised.is_none() {
            self.recognised = Some(protocol);
            events.push(Event::Recognised { protocol, waited_as: self.waited_as });
        }
    }

    /// Inspection ends; all it needed is freed.
    fn give_up(&mut self, reason: OpaqueReason, events: &mut Vec<Event>) {
        if let State::Mysql(mysql) = &mut self.state {
            count_packets(mysql, Sender::Client, events);
            count_packets(mysql, Sender::Server, events);
            mysql.session.end(Some(reason), events);
            if reason == OpaqueReason::Desync {
                self.report = Some(mysql.session.report());
            }
        }
        self.state = State::Opaque { compressed: reason == OpaqueReason::Compressed };
        events.push(Event::Opaque(reason));
    }
}

fn count_packets(mysql: &mut Mysql, sender: Sender, events: &mut Vec<Event>) {
    let count = mysql.framer(sender).take_count();
    if count > 0 {
        events.push(Event::Packets { sender, count });
    }
}

#[cfg(test)]
mod tests;
