//! Where the events and details of one callback go, and the time of that callback.

use super::details::Notes;
use super::violation::{Rule, Violation};
use super::{Event, OpaqueReason};
use crate::clock::Clock;
use crate::mysql::wire::types::ParseError;

/// Number of events from which on they are handed over before the callback ends.
const MAX_EVENTS: usize = 1024;
/// Takes the events and notes so far, and leaves both lists empty.
pub type Drain<'a> = &'a mut dyn FnMut(&mut Vec<Event>, &mut Notes);

/// Where events go, and the time of the callback they come from.
pub struct Output<'a, 'c> {
    /// Events in the order in which they happened.
    pub events: &'a mut Vec<Event>,
    /// The clock of this callback.
    pub clock: &'a mut Clock<'c>,
    /// What is told besides.
    pub notes: &'a mut Notes,
    /// `None` if the lists may grow as long as a callback makes them.
    drain: Option<Drain<'a>>,
    /// Maximum number of the server's bytes that the connection may hold from now on.
    pub room: usize,
    /// The rule whose violation ends inspection.
    pub(crate) violation: Option<Violation>,
}

impl<'a, 'c> Output<'a, 'c> {
    /// An observer that collects everything of one callback.
    pub fn new(events: &'a mut Vec<Event>, clock: &'a mut Clock<'c>, notes: &'a mut Notes) -> Self {
        Self { events, clock, notes, drain: None, room: usize::MAX, violation: None }
    }

    /// Hands the lists to `drain` between two reads of a chunk, so that a large chunk of small packets needs no more
    /// memory than one read of it.
    #[must_use]
    pub fn with_drain(self, drain: Drain<'a>) -> Self {
        Self { drain: Some(drain), ..self }
    }

    /// Limits the bytes that the connection may hold, because it cannot give these back when its inspection ends.
    #[must_use]
    pub fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// A peer broke this rule: the reason for which inspection ends.
    pub(crate) fn desync(&mut self, violation: impl Into<Violation>) -> OpaqueReason {
        self.violation = Some(violation.into());
        OpaqueReason::Desync
    }

    /// The same for a field of the packet.
    pub(crate) fn malformed(&mut self, rule: Rule, error: ParseError) -> OpaqueReason {
        self.desync(Violation { rule, error: Some(error) })
    }

    /// A read of a chunk ended, and another one follows.
    pub(crate) fn between_reads(&mut self) {
        if let Some(drain) = self.drain.as_mut().filter(|_| self.events.len() >= MAX_EVENTS) {
            drain(self.events, self.notes);
        }
    }
}

/// What a packet leads to, or why inspection ends.
pub(crate) type Outcome<T = ()> = Result<T, OpaqueReason>;
