//! One connection, sans-IO: data and endings in by `handle_*`, [`Event`]s out. It has no way to
//! change, hold or drop a byte.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::detect::{Detection, Detector};
use crate::event::{ClosedBy, Event, OpaqueReason, Phase, Protocol, Sender};
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

/// A connection's state. What is not MySQL, or no longer readable, costs no memory and no reads.
#[derive(Debug)]
pub struct Connection {
    opened: Timestamp,
    inspection: Inspection,
    /// What a rule or the port table expects.
    expected: Protocol,
    waited_as: Option<Protocol>,
    recognised: Option<Protocol>,
    ended_first: Option<Sender>,
    state: State,
}

#[derive(Debug)]
enum State {
    Detecting(Detector),
    Mysql(Box<Mysql>),
    Opaque,
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
        let keep = session.keep();
        Self { session, client: Framer::new(keep), server: Framer::new(keep) }
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
            match (framed, sender) {
                (Framed::Head(packet), Sender::Client) => session.client_packet(&packet, to)?,
                (Framed::Head(packet), Sender::Server) => session.server_packet(&packet, to)?,
                (Framed::End { sequence_id }, _) => session.packet_end(sender, sequence_id),
                (Framed::Broken, _) => return Err(OpaqueReason::Desync),
            }
            client.set_keep(session.keep());
            server.set_keep(session.keep());
        }
    }
}

impl Connection {
    /// A connection that begins at `opened`, on which `expected` is expected.
    #[must_use]
    pub fn new(inspection: Inspection, expected: Protocol, opened: Timestamp) -> Self {
        let state = State::Detecting(Detector::default());
        Self { opened, inspection, expected, waited_as: None, recognised: None, ended_first: None, state }
    }

    /// What it carries is known, or nobody will look.
    #[must_use]
    pub fn is_recognised(&self) -> bool {
        self.recognised.is_some()
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
        to.events.push(Event::Bytes { sender, count: chunk.len() as u64 });
        let mut read_len = FIRST_READ;
        let mut at: usize = 0;
        while at < chunk.len() {
            let left = chunk.len().saturating_sub(at);
            let skip = self.skippable(sender).min(left);
            let outcome = if matches!(self.state, State::Opaque) {
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

    /// Some time has gone by: a connection on which nobody has spoken is told of.
    pub fn handle_tick(&mut self, events: &mut Vec<Event>) {
        self.skip_if_told_so(events);
        if self.recognised.is_none() && self.waited_as.is_none() {
            self.waited_as = Some(self.expected);
            events.push(Event::Waiting(self.expected));
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
            State::Opaque => (Phase::Opaque, false),
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
        self.state = State::Opaque;
    }

    /// Nobody looks at this connection. That is told when something happens on it and not when it opens,
    /// for by then the host has not chosen where it goes.
    fn skip_if_told_so(&mut self, events: &mut Vec<Event>) {
        if self.inspection == Inspection::Nothing && self.recognised.is_none() {
            self.recognise(self.expected, events);
            self.give_up(OpaqueReason::Configured, events);
        }
    }

    fn skippable(&mut self, sender: Sender) -> usize {
        match &mut self.state {
            State::Mysql(mysql) => mysql.framer(sender).skippable(),
            State::Detecting(_) | State::Opaque => 0,
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
            State::Opaque => Ok(()),
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
                    Detection::ServerFirst | Detection::ClientFirst(_) => Err(OpaqueReason::NotMysql),
                }
            }
        }
    }

    fn detected(&mut self, detection: Detection, events: &mut Vec<Event>) {
        match detection {
            Detection::Undecided => {}
            Detection::Mysql => self.recognise(Protocol::Mysql, events),
            Detection::ServerFirst => self.recognise(Protocol::ServerFirst, events),
            Detection::ClientFirst(kind) => {
                self.recognise(Protocol::ClientFirst, events);
                events.push(Event::ClientFirst(kind));
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
        }
        self.state = State::Opaque;
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
