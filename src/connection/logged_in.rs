//! What the tests of that which changes bytes share: a connection on which the client has logged in.

use std::time::Duration;

use bytes::Bytes;

use super::{Connection, Inspection, Setup, Verdict};
use crate::clock::{Clock, Timestamp};
use crate::config::{ClearCapabilities, HoldSplitEof};
use crate::event::details::Notes;
use crate::event::output::Output;
use crate::event::{Event, Protocol, Sender};

pub(super) fn packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u32).to_le_bytes().to_vec();
    wire[3] = sequence_id;
    wire.extend_from_slice(payload);
    wire
}

/// Everything is looked at, and nothing changed.
pub(super) fn unchanged() -> Setup {
    Setup {
        inspection: Inspection::Full,
        expected: Protocol::Mysql,
        greeting_timeout: Duration::from_secs(5),
        stall: Duration::MAX,
        opened: Timestamp::default(),
        front: None,
        hold_split_eof: HoldSplitEof::Off,
        clear_capabilities: ClearCapabilities::default(),
        block_local_infile: false,
    }
}

/// A greeting of version `version`, and a response with these `attributes` or none.
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

pub(super) struct LoggedIn {
    pub(super) connection: Connection,
    pub(super) events: Vec<Event>,
    pub(super) notes: Notes,
    /// See [`Output::room`].
    pub(super) room: usize,
}

impl LoggedIn {
    /// A connection on which nothing has passed.
    pub(super) fn empty(setup: Setup) -> Self {
        let mut notes = Notes::default();
        notes.wanted.files = setup.block_local_infile;
        Self { connection: Connection::new(setup), events: Vec::new(), notes, room: usize::MAX }
    }

    pub(super) fn new(setup: Setup, [greeting, response]: [Vec<u8>; 2]) -> Self {
        let mut new = Self::empty(setup);
        new.server_passes(&greeting);
        new.client(&response);
        new.server_passes(&packet(2, b"\0\0\0\x02\0\0\0"));
        new
    }

    /// What leaves for the other side in the callback for these bytes.
    pub(super) fn take(&mut self, sender: Sender, bytes: &[u8], end_stream: bool) -> Vec<u8> {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut clock = Clock::new(&Timestamp::default);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.notes).with_room(self.room);
        match self.connection.handle_data(sender, &bytes, end_stream, &mut out) {
            Verdict::Pass => bytes.to_vec(),
            Verdict::Edit(edit) => [&edit.prepend, &bytes[edit.drain..]].concat(),
            verdict => panic!("{verdict:?}"),
        }
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

    /// How often it told each of these.
    pub(super) fn told<const N: usize>(&self, events: [Event; N]) -> [usize; N] {
        events.map(|told| self.events.iter().filter(|event| **event == told).count())
    }
}
