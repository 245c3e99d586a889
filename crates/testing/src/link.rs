//! A host for tests: passes bytes to a connection, applies its verdicts, and keeps the bytes that are held.

use std::cell::Cell;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::Connection;
use firstword::connection::chunk::{Chunk, Edit, HeldRest, Reply, TickVerdict};
use firstword::event::output::Output;
use firstword::event::refusal::Refusal;
use firstword::event::runner::Runner;
use firstword::event::{ClosedBy, Event, Sender};
use firstword::rules::Rules;

/// A chunk that records whether it was read.
pub struct WatchedChunk {
    pub bytes: Bytes,
    /// False if the host refuses to return the bytes.
    pub is_readable: bool,
    pub was_read: Cell<bool>,
}

impl WatchedChunk {
    pub fn new(bytes: Bytes, is_readable: bool) -> Self {
        Self { bytes, is_readable, was_read: Cell::new(false) }
    }
}

impl Chunk for WatchedChunk {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        self.was_read.set(true);
        self.bytes.read(start, max).filter(|_| self.is_readable)
    }
}

/// Verdict about bytes of either direction.
pub use firstword::connection::chunk::ClientVerdict as Verdict;

/// One connection, and its events.
pub struct Link {
    pub connection: Connection,
    pub now: Timestamp,
    /// Maximum number of bytes that the connection may withhold.
    pub room: usize,
    pub events: Vec<Event>,
    pub refusal: Option<Refusal>,
    /// The client's bytes that are held.
    held: Vec<u8>,
    pub is_closed: bool,
    /// True once TLS to the server has started.
    pub server_tls: bool,
    /// Bytes that the connection itself has sent to the client.
    pub replies: Vec<u8>,
}

impl Link {
    pub fn new(rules: &Rules, opened: Timestamp) -> Self {
        Self {
            connection: Connection::new(rules, opened),
            now: opened,
            room: usize::MAX,
            events: Vec::new(),
            refusal: None,
            held: Vec::new(),
            is_closed: false,
            server_tls: false,
            replies: Vec::new(),
        }
    }

    /// Calls the connection in a callback of its own.
    pub fn call<T>(&mut self, call: impl FnOnce(&mut Connection, &mut Output) -> T) -> T {
        let Self { connection, now, room, events, refusal, .. } = self;
        let now = *now;
        // A runner for each call, so that a test which measures memory sees that of the connection alone.
        Runner::default().run(
            &|| now,
            *room,
            &mut |emitted, details| {
                events.extend_from_slice(emitted);
                *refusal = refusal.take().or(details.refusal.take());
            },
            |out| call(connection, out),
        )
    }

    /// The connection's verdict about a chunk.
    pub fn chunk(&mut self, sender: Sender, chunk: &impl Chunk, end_stream: bool) -> Verdict {
        self.call(|connection, out| match sender {
            Sender::Client => connection.client(chunk, end_stream, out),
            Sender::Server => connection.server(chunk, end_stream, out).into(),
        })
    }

    /// Bytes that leave for the other side when these arrive.
    pub fn pass(&mut self, sender: Sender, bytes: &[u8]) -> Vec<u8> {
        let mut offered = if sender == Sender::Client { std::mem::take(&mut self.held) } else { Vec::new() };
        offered.extend_from_slice(bytes);
        match self.chunk(sender, &Bytes::copy_from_slice(&offered), false) {
            Verdict::Pass => offered,
            Verdict::Edit(Edit { drain, prepend }) => [&prepend, &offered[drain..]].concat(),
            Verdict::Hold => {
                self.held = offered;
                Vec::new()
            }
            Verdict::Close => {
                self.is_closed = true;
                Vec::new()
            }
            Verdict::HoldRest(rest) => {
                let HeldRest { drain, mut send, is_due_next_turn } = *rest;
                self.held = offered.split_off(drain);
                if is_due_next_turn {
                    send.extend(self.pass(sender, &[]));
                }
                send
            }
            Verdict::StartServerTls(Edit { drain, prepend }) => {
                self.server_tls = true;
                [&prepend, &offered[drain..]].concat()
            }
            Verdict::HandOver(_) | Verdict::Resume(_) => panic!("a connection without a partner"),
            Verdict::Reply(reply) => {
                let Reply { edit: Edit { drain, prepend }, bytes, closes } = *reply;
                self.replies.extend(bytes);
                self.is_closed |= closes;
                [&prepend, &offered[drain..]].concat()
            }
        }
    }

    pub fn tick(&mut self, now: Timestamp) -> TickVerdict {
        self.now = now;
        self.call(|connection, out| connection.tick(now, out))
    }

    pub fn close(&mut self, by: ClosedBy) {
        self.call(|connection, out| connection.close(|| by, out));
    }
}
