//! Host for tests: passes bytes to a connection and applies its verdicts.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::connection::Connection;
use crate::connection::chunk::{ClientVerdict, Edit, ServerVerdict, TickVerdict};
use crate::event::details::Details;
use crate::event::output::Output;
use crate::event::{ClosedBy, Event, Sender};
use crate::rules::{Expected, Rules};

pub(super) fn packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u32).to_le_bytes().to_vec();
    wire[3] = sequence_id;
    wire.extend_from_slice(payload);
    wire
}

/// Rules that inspect all of a connection, expect MySQL, and change nothing.
pub(super) fn observe_mysql() -> Rules {
    Rules { expected: Expected::Mysql, greeting_timeout: Duration::from_secs(5), ..Rules::observe_only() }
}

/// Greeting with version `version`, and a handshake response with these connection `attributes`.
pub(super) fn login(version: &str, capabilities: u32, attributes: &[&str]) -> [Vec<u8>; 2] {
    const PLUGIN: &[u8] = b"mysql_native_password\0";
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut greeting = [b"\x0a", version.as_bytes(), b"\0\x07\0\0\0\x312345678\0"].concat();
    greeting.extend([a, b, 33, 2, 0, c, d, 21]);
    greeting.extend([0; 10]);
    greeting.extend([b"123456789012\0", PLUGIN].concat());
    let mut response = capabilities.to_le_bytes().to_vec();
    response.extend([0; 28]);
    response.extend([b"app\0\0", PLUGIN].concat());
    if !attributes.is_empty() {
        response.push(attributes.iter().map(|text| text.len() as u8 + 1).sum());
        for text in attributes {
            response.push(text.len() as u8);
            response.extend(text.as_bytes());
        }
    }
    [packet(0, &greeting), packet(1, &response)]
}

/// Error that the filter sends in place of a packet of the server, to a client with PROTOCOL_41.
pub(super) fn error_of_the_filter(sequence_id: u8, errno: u16) -> Vec<u8> {
    let (state, message) = match errno {
        3948 => (
            "42000",
            "The server asked for a file that the statement does not name (blocked by block_local_infile)",
        ),
        1835 => (
            "HY000",
            "The server's response does not follow the protocol (connection closed by block_local_infile)",
        ),
        other => panic!("the filter does not send error {other}"),
    };
    let errno = errno.to_le_bytes();
    packet(sequence_id, &[b"\xff", &errno[..], b"#", state.as_bytes(), message.as_bytes()].concat())
}

/// Connection, and the output that it has emitted.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) now: Timestamp,
    pub(super) events: Vec<Event>,
    pub(super) details: Details,
    /// See [`Output::room`].
    pub(super) room: usize,
}

impl Link {
    /// Opens a connection at 1 ns.
    pub(super) fn new(rules: Rules) -> Self {
        let now = Timestamp::from_nanos(1);
        Self {
            connection: Connection::new(&rules, now),
            now,
            events: Vec::new(),
            details: Details::default(),
            room: usize::MAX,
        }
    }

    /// Opens a connection and logs the client in.
    pub(super) fn logged_in(rules: Rules, [greeting, response]: [Vec<u8>; 2]) -> Self {
        let mut link = Self::new(rules);
        link.server_passes(&greeting);
        link.client(&response);
        link.server_passes(&packet(2, b"\0\0\0\x02\0\0\0"));
        link
    }

    /// Calls the connection.
    pub(super) fn call<T>(&mut self, call: impl FnOnce(&mut Connection, &mut Output) -> T) -> T {
        let now = self.now;
        let read = || now;
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.details).with_room(self.room);
        call(&mut self.connection, &mut out)
    }

    /// Takes `bytes` in one callback. Returns the bytes that are forwarded to the other peer.
    pub(super) fn take(&mut self, sender: Sender, bytes: &[u8], end_stream: bool) -> Vec<u8> {
        let chunk = Bytes::copy_from_slice(bytes);
        let edit = match sender {
            Sender::Client => match self.call(|connection, out| connection.client(&chunk, end_stream, out)) {
                ClientVerdict::Pass => None,
                ClientVerdict::Edit(edit) => Some(edit),
                verdict => panic!("{verdict:?}"),
            },
            Sender::Server => match self.call(|connection, out| connection.server(&chunk, end_stream, out)) {
                ServerVerdict::Pass => None,
                ServerVerdict::Edit(edit) => Some(edit),
                verdict @ (ServerVerdict::HandOver(_) | ServerVerdict::Resume(_)) => panic!("{verdict:?}"),
            },
        };
        edit.map_or(bytes.to_vec(), |Edit { drain, prepend }| [&prepend, &bytes[drain..]].concat())
    }

    pub(super) fn client(&mut self, bytes: &[u8]) {
        assert_eq!(self.take(Sender::Client, bytes, false), bytes);
    }

    pub(super) fn server(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.take(Sender::Server, bytes, false)
    }

    pub(super) fn server_passes(&mut self, bytes: &[u8]) {
        assert_eq!(self.server(bytes), bytes);
    }

    pub(super) fn tick(&mut self, now: Timestamp) -> TickVerdict {
        self.now = now;
        self.call(|connection, out| connection.tick(now, out))
    }

    pub(super) fn close(&mut self, by: ClosedBy) {
        self.call(|connection, out| connection.close(|| by, out));
    }

    /// Number of times that each of these events was emitted.
    pub(super) fn counts<const N: usize>(&self, events: [Event; N]) -> [usize; N] {
        events.map(|event| self.events.iter().filter(|emitted| **emitted == event).count())
    }
}
