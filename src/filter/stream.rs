//! One inspected connection: the connection of the core, and the state that the filter keeps for it.

use std::cell::RefCell;

use super::Filter;
use super::access_log::AccessLogState;
use super::budget::{self, Reservation};
use super::destination::Destination;
use super::host::{ConnectionInfo, Host};
use super::mode::PublishedMode;
use super::policy::{ConnectionPolicy, ResolvedRules};
use super::recorder::Recorder;
use super::uninspected::UninspectedStream;
use crate::clock::Timestamp;
use crate::config::Mode;
use crate::connection::Connection;
use crate::connection::chunk::{Chunk, ClientVerdict, ServerVerdict, TickVerdict};
use crate::event::output::Output;

/// Inspected connection. All calls take the filter that opened it, and the host of the callback.
pub struct Stream {
    connection: Connection,
    /// Current mode: that of the stream's configuration, or of a newer one.
    mode: Mode,
    recorder: Recorder,
    reservation: Reservation,
}

/// Work of a tick on one stream.
#[derive(Clone, Copy, Debug)]
pub struct DueWork {
    now: Timestamp,
    /// Mode of a newer configuration. `None` if the stream already has this mode.
    newer: Option<Mode>,
    is_above_share: bool,
}

impl Stream {
    /// Opens the stream of a connection that begins now.
    ///
    /// # Errors
    /// The budget of connection state has no room. The connection is then counted but not inspected.
    pub fn open(filter: &Filter, info: ConnectionInfo, host: &dyn Host) -> Result<Self, UninspectedStream> {
        let policy = ConnectionPolicy::new(&filter.config, info);
        let ResolvedRules { rules, peer } =
            policy.resolve(filter.access_log.as_ref(), filter.password_key, host);
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
            return Err(UninspectedStream::new(filter, &policy, host));
        }
        reserve(&mut this.reservation, filter, bytes);
        Ok(this)
    }

    /// True if the proxy must not connect to the server before the client's bytes get a verdict other than
    /// [`ClientVerdict::Hold`].
    #[must_use]
    pub fn holds_connection(&self) -> bool {
        self.connection.holds_connection()
    }

    /// True if another filter starts the connection without TLS, as its partner.
    #[must_use]
    pub fn has_partner(&self) -> bool {
        self.connection.has_partner()
    }

    /// Takes the client's SSLRequest, which the partner hands over.
    pub fn tls_requested(&mut self) {
        self.connection.tls_requested();
    }

    /// Takes bytes of the client. `chunk` begins with the bytes that were held before. `end_stream`: no bytes follow.
    pub fn client(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> ClientVerdict {
        self.run(filter, host, |connection, out| connection.client(chunk, end_stream, out))
    }

    /// Takes bytes of the server. `end_stream`: no bytes follow.
    pub fn server(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> ServerVerdict {
        self.run(filter, host, |connection, out| connection.server(chunk, end_stream, out))
    }

    /// Returns the work of a tick at this time. `None` if there is none. Cheap, because the shell calls it for every
    /// connection on every tick. `newest`: mode of the newest configuration. It has no effect on connections that began
    /// after it was published.
    #[must_use]
    pub fn due(&self, filter: &Filter, now: Timestamp, newest: Option<PublishedMode>) -> Option<DueWork> {
        let is_newer =
            |newest: &PublishedMode| newest.mode != self.mode && self.connection.opened() < newest.since;
        let newer = newest.filter(is_newer).map(|newest| newest.mode);
        let is_above_share = budget::is_above_share(filter.budget(), self.reservation.bytes());
        let has_counts = self.recorder.state.as_ref().is_some_and(|state| state.is_due());
        let is_due = newer.is_some() || is_above_share || has_counts || self.connection.is_due(now);
        is_due.then_some(DueWork { now, newer, is_above_share })
    }

    /// Does the work of a tick.
    ///
    /// Inspection cannot start in the middle of a connection. So a newer configuration can only end inspection, with `off`,
    /// and rewriting, with `off` or `observe`.
    pub fn tick(&mut self, filter: &Filter, due: DueWork, host: &dyn Host) {
        let DueWork { now, newer, is_above_share } = due;
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

    /// True if the connection cannot continue without the filter, because a rule changes its bytes.
    pub(super) fn is_rewritten(&self) -> bool {
        self.connection.is_rewritten()
    }

    /// Destination of the connection, for the log.
    pub(super) fn destination(&self) -> Destination {
        self.recorder.to
    }

    /// Takes the end of the connection.
    pub fn close(&mut self, filter: &Filter, host: &dyn Host) {
        self.run(filter, host, |connection, out| connection.close(|| host.closed_by(), out));
        reserve(&mut self.reservation, filter, 0);
    }

    /// Runs a callback: calls the connection, enforces the budget, and records the events.
    fn run<T>(
        &mut self,
        filter: &Filter,
        host: &dyn Host,
        call: impl FnOnce(&mut Connection, &mut Output) -> T,
    ) -> T {
        let mut runner = filter.take_runner();
        let Self { connection, recorder, reservation, .. } = self;
        let result = runner.run(
            &|| host.now(),
            budget::left(filter.budget()),
            &mut |events, details| recorder.record(filter, events, details, host),
            |out| {
                let result = call(connection, out);
                reserve(reservation, filter, memory(connection));
                if !budget::has_room(filter.budget(), 0) {
                    connection.end_for_memory(out);
                    reserve(reservation, filter, memory(connection));
                }
                result
            },
        );
        if let Some(state) = &mut self.recorder.state {
            state.end_callback();
        }
        filter.return_runner(runner);
        result
    }
}

fn reserve(reservation: &mut Reservation, filter: &Filter, bytes: usize) {
    filter.count_state(reservation.bytes(), bytes);
    reservation.set(bytes);
}

/// Memory of a connection's state in bytes.
fn memory(connection: &Connection) -> usize {
    connection.memory().saturating_add(MIN_MEMORY)
}

/// Memory in bytes of a stream that inspects nothing any more. It includes the cell, the list entry and the context that a
/// shell needs for each stream.
const MIN_MEMORY: usize =
    size_of::<RefCell<Stream>>().saturating_add(size_of::<AccessLogState>()).saturating_add(128);
