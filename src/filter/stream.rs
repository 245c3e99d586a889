//! One connection that is inspected: the core's connection, and what the filter keeps beside it.

use std::cell::RefCell;

use super::access_log::State;
use super::budget::{self, Reservation};
use super::host::{ConnectionInfo, Host};
use super::mode::PublishedMode;
use super::policy::{ConnectionPolicy, Setting};
use super::recorder::Recorder;
use super::uninspected::Uninspected;
use super::{Filter, Scratch};
use crate::clock::{Clock, Timestamp};
use crate::config::Mode;
use crate::connection::{Chunk, Connection, Verdict};
use crate::event::details::{Notes, Wanted};
use crate::event::output::Output;
use crate::event::{Event, Sender};

/// A connection that is inspected. All calls pass the filter that opened it, and the host of the callback.
pub struct Stream {
    connection: Connection,
    /// The mode that it follows: that of its configuration, or of a newer one.
    mode: Mode,
    /// The details that the core has to record.
    wanted: Wanted,
    recorder: Recorder,
    reservation: Reservation,
}

/// What a tick has to do on a stream.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    now: Timestamp,
    /// The mode of a newer configuration; `None` if it is that which the stream follows already.
    newer: Option<Mode>,
    is_above_share: bool,
}

impl Stream {
    /// Opens the stream of a connection that begins now.
    ///
    /// # Errors
    /// The budget of connection state has no room: the connection is counted and not inspected.
    pub fn open(filter: &Filter, info: ConnectionInfo, host: &dyn Host) -> Result<Self, Uninspected> {
        let policy = ConnectionPolicy::new(&filter.config, info);
        let Setting { setup, wanted, peer } = policy.setting(filter.access_log.as_ref(), host);
        let mut this = Self {
            connection: Connection::new(setup),
            mode: filter.config.mode,
            wanted,
            recorder: Recorder {
                labels: policy.labels(),
                peer,
                to: policy.destination(),
                rule: policy.rule.name.clone(),
                scope: None,
                state: filter.access_log.as_ref().map(|_| Box::default()),
            },
            reservation: Reservation::default(),
        };
        let bytes = this.memory();
        if !budget::has_room(filter.budget(), bytes) {
            return Err(Uninspected::new(filter, &policy, host));
        }
        this.reserve(filter, bytes);
        Ok(this)
    }

    /// Whether the proxy must not connect to the server before the client's bytes get another verdict than
    /// [`Verdict::Hold`].
    #[must_use]
    pub fn holds_connection(&self) -> bool {
        self.connection.holds_connection()
    }

    /// Takes bytes of the client. Bytes that were held are the beginning of `chunk`. `end_stream`: the client sends no more.
    pub fn client(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> Verdict {
        self.data(filter, Sender::Client, chunk, end_stream, host)
    }

    /// Takes bytes of the server. `end_stream`: the server sends no more.
    pub fn server(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> Verdict {
        self.data(filter, Sender::Server, chunk, end_stream, host)
    }

    fn data(
        &mut self,
        filter: &Filter,
        sender: Sender,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> Verdict {
        let mut scratch = filter.take_scratch(self.wanted);
        let now = || host.now();
        let mut clock = Clock::new(&now);
        let Self { connection, recorder, .. } = self;
        let mut drain = |events: &mut Vec<Event>, notes: &mut Notes| {
            recorder.record(filter, None, events, notes, host);
            events.clear();
            notes.clear();
        };
        let mut out = Output::new(&mut scratch.events, &mut clock, &mut scratch.notes)
            .with_drain(&mut drain)
            .with_room(budget::left(filter.budget()));
        let verdict = connection.handle_data(sender, chunk, end_stream, &mut out);
        self.finish(filter, scratch, host);
        verdict
    }

    /// Returns what a tick has to do now; `None` if nothing. Cheap, because the shell asks it for every connection on
    /// every tick. `newest`: the mode of the newest configuration; it has no effect on connections that began after it.
    #[must_use]
    pub fn due(&self, filter: &Filter, now: Timestamp, newest: Option<PublishedMode>) -> Option<Due> {
        let is_newer =
            |newest: &PublishedMode| newest.mode != self.mode && self.connection.opened() < newest.since;
        let newer = newest.filter(is_newer).map(|newest| newest.mode);
        let is_above_share = budget::is_above_share(filter.budget(), self.reservation.bytes());
        let has_counts = self.recorder.state.as_ref().is_some_and(|state| state.is_due());
        let is_due = newer.is_some() || is_above_share || has_counts || self.connection.is_due(now);
        is_due.then_some(Due { now, newer, is_above_share })
    }

    /// Does what is due.
    ///
    /// Inspection cannot start in the middle of a connection, so of the modes of newer configurations `off` alone changes
    /// what is inspected. `off` and `observe` end rewriting.
    pub fn tick(&mut self, filter: &Filter, due: Due, host: &dyn Host) {
        let Due { now, newer, is_above_share } = due;
        self.mode = newer.unwrap_or(self.mode);
        let ends_rewriting = newer.is_some_and(|mode| mode != Mode::Active);
        self.wanted.files &= !ends_rewriting;
        let mut scratch = filter.take_scratch(self.wanted);
        let events = &mut scratch.events;
        if newer == Some(Mode::Off) {
            self.connection.handle_off(events);
        }
        if is_above_share {
            self.connection.handle_memory(events);
        }
        let was_held = ends_rewriting && self.connection.handle_inert(events);
        let verdict = self.connection.handle_tick(now, events);
        self.finish(filter, scratch, host);
        if let (Some(writer), Some(state)) = (filter.access_log(host), &mut self.recorder.state) {
            if state.is_due() {
                state.write_counts(writer);
            }
        }
        if was_held {
            filter.check(host.resume(), host);
        }
        if verdict == Verdict::Close {
            filter.check(host.close(), host);
        }
    }

    /// The connection has ended.
    pub fn close(&mut self, filter: &Filter, host: &dyn Host) {
        let mut scratch = filter.take_scratch(self.wanted);
        let now = || host.now();
        let mut clock = Clock::new(&now);
        if scratch.notes.wanted.slow_after.is_some() {
            self.connection.note_unanswered(clock.now(), &mut scratch.notes);
        }
        self.connection.handle_close(&mut clock, || host.closed_by(), &mut scratch.events);
        self.finish(filter, scratch, host);
        self.reserve(filter, 0);
    }

    /// Ends a callback: keeps to the budget, and records the events.
    fn finish(&mut self, filter: &Filter, mut scratch: Box<Scratch>, host: &dyn Host) {
        let Scratch { events, notes } = &mut *scratch;
        self.reserve(filter, self.memory());
        if !budget::has_room(filter.budget(), 0) {
            self.connection.handle_memory(events);
            self.reserve(filter, self.memory());
        }
        self.recorder.record(filter, Some(&mut self.connection), events, notes, host);
        if let Some(state) = &mut self.recorder.state {
            state.end_callback();
        }
        filter.return_scratch(scratch);
    }

    fn reserve(&mut self, filter: &Filter, bytes: usize) {
        filter.count_state(self.reservation.bytes(), bytes);
        self.reservation.set(bytes);
    }

    /// Memory of the connection's state in bytes.
    fn memory(&self) -> usize {
        self.connection.memory().saturating_add(Self::least_memory())
    }

    /// Memory in bytes of a stream that inspects nothing any more. A shell keeps each stream in a cell, and needs an entry in
    /// a list and a context for it.
    const fn least_memory() -> usize {
        size_of::<RefCell<Self>>().saturating_add(size_of::<State>()).saturating_add(128)
    }
}
