//! One connection that is inspected: the core's connection, and what the filter keeps beside it.

use std::cell::RefCell;

use super::Filter;
use super::access_log::State;
use super::budget::{self, Reservation};
use super::host::{ConnectionInfo, Host};
use super::mode::PublishedMode;
use super::policy::{ConnectionPolicy, Setting};
use super::recorder::Recorder;
use super::uninspected::Uninspected;
use crate::clock::Timestamp;
use crate::config::Mode;
use crate::connection::Connection;
use crate::connection::chunk::{Chunk, ClientVerdict, ServerVerdict, TickVerdict};
use crate::event::output::Output;

/// A connection that is inspected. All calls pass the filter that opened it, and the host of the callback.
pub struct Stream {
    connection: Connection,
    /// The mode that it follows: that of its configuration, or of a newer one.
    mode: Mode,
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
        let Setting { rules, peer } = policy.setting(filter.access_log.as_ref(), host);
        let mut this = Self {
            connection: Connection::new(&rules, host.now()),
            mode: filter.config.mode,
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
        let bytes = memory(&this.connection);
        if !budget::has_room(filter.budget(), bytes) {
            return Err(Uninspected::new(filter, &policy, host));
        }
        reserve(&mut this.reservation, filter, bytes);
        Ok(this)
    }

    /// Whether the proxy must not connect to the server before the client's bytes get another verdict than
    /// [`ClientVerdict::Hold`].
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
    ) -> ClientVerdict {
        self.run(filter, host, |connection, out| connection.client(chunk, end_stream, out))
    }

    /// Takes bytes of the server. `end_stream`: the server sends no more.
    pub fn server(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> ServerVerdict {
        self.run(filter, host, |connection, out| connection.server(chunk, end_stream, out))
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
        let (was_held, verdict) = self.run(filter, host, |connection, out| {
            if newer == Some(Mode::Off) {
                connection.stop_inspecting(out);
            }
            if is_above_share {
                connection.end_for_memory(out);
            }
            (ends_rewriting && connection.disable_rewriting(out), connection.tick(now, out))
        });
        if let (Some(writer), Some(state)) = (filter.access_log(host), &mut self.recorder.state) {
            if state.is_due() {
                state.write_counts(writer);
            }
        }
        if was_held {
            filter.check(host.resume(), host);
        }
        if verdict == TickVerdict::Close {
            filter.check(host.close(), host);
        }
    }

    /// The connection has ended.
    pub fn close(&mut self, filter: &Filter, host: &dyn Host) {
        self.run(filter, host, |connection, out| connection.close(|| host.closed_by(), out));
        reserve(&mut self.reservation, filter, 0);
    }

    /// Runs a callback: calls the connection, keeps it to the budget, and records the events.
    fn run<T>(
        &mut self,
        filter: &Filter,
        host: &dyn Host,
        call: impl FnOnce(&mut Connection, &mut Output) -> T,
    ) -> T {
        let mut runner = filter.take_runner();
        let Self { connection, recorder, reservation, .. } = self;
        let answer = runner.run(
            &|| host.now(),
            budget::left(filter.budget()),
            &mut |events, details| recorder.record(filter, events, details, host),
            |out| {
                let answer = call(connection, out);
                reserve(reservation, filter, memory(connection));
                if !budget::has_room(filter.budget(), 0) {
                    connection.end_for_memory(out);
                    reserve(reservation, filter, memory(connection));
                }
                answer
            },
        );
        if let Some(state) = &mut self.recorder.state {
            state.end_callback();
        }
        filter.return_runner(runner);
        answer
    }
}

fn reserve(reservation: &mut Reservation, filter: &Filter, bytes: usize) {
    filter.count_state(reservation.bytes(), bytes);
    reservation.set(bytes);
}

/// Memory of a connection's state in bytes.
fn memory(connection: &Connection) -> usize {
    connection.memory().saturating_add(LEAST_MEMORY)
}

/// Memory in bytes of a stream that inspects nothing any more. A shell keeps each stream in a cell, and needs an entry in a
/// list and a context for it.
const LEAST_MEMORY: usize =
    size_of::<RefCell<Stream>>().saturating_add(size_of::<State>()).saturating_add(128);
