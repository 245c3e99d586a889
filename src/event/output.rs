//! The output of one callback: its events and details. Also the clock of that callback.

use super::details::Details;
use super::violation::{Rule, Violation};
use super::{Event, OpaqueReason};
use crate::clock::Clock;
use crate::mysql::wire::types::ParseError;

/// Maximum number of events before they are handed over during a callback.
const MAX_EVENTS: usize = 1024;
/// Takes the events and details so far, and leaves both lists empty.
pub(crate) type Drain<'a> = &'a mut dyn FnMut(&mut Vec<Event>, &mut Details);

/// The output of one callback, and the clock of that callback. [`Runner`](super::runner::Runner) creates it.
pub struct Output<'a, 'c> {
    /// Events in the order in which they happened.
    pub(crate) events: &'a mut Vec<Event>,
    /// Time of the callback.
    pub(crate) clock: &'a mut Clock<'c>,
    /// Details that accompany the events.
    pub(crate) details: &'a mut Details,
    /// `None` if the lists may grow until the callback ends.
    drain: Option<Drain<'a>>,
    /// Maximum number of the server's bytes that the connection may withhold from now on.
    pub(crate) room: usize,
    /// The rule whose violation ends inspection.
    pub(crate) violation: Option<Violation>,
}

impl<'a, 'c> Output<'a, 'c> {
    /// An output that collects all events and details of one callback.
    pub(crate) fn new(
        events: &'a mut Vec<Event>,
        clock: &'a mut Clock<'c>,
        details: &'a mut Details,
    ) -> Self {
        Self { events, clock, details, drain: None, room: usize::MAX, violation: None }
    }

    /// Hands the lists to `drain` between two reads of a chunk, so that a large chunk of small packets needs no more memory
    /// than one read of it.
    pub(crate) fn with_drain(self, drain: Drain<'a>) -> Self {
        Self { drain: Some(drain), ..self }
    }

    /// Limits the bytes that the connection may withhold, because it cannot give them back when its inspection ends.
    pub(crate) fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// Remembers the rule that a peer broke. Returns the reason for which inspection ends.
    pub(crate) fn desync(&mut self, violation: impl Into<Violation>) -> OpaqueReason {
        self.violation = Some(violation.into());
        OpaqueReason::Desync
    }

    /// Remembers the rule that a peer broke and the field that shows it. Returns the reason for which inspection ends.
    pub(crate) fn malformed(&mut self, rule: Rule, error: ParseError) -> OpaqueReason {
        self.desync(Violation { rule, error: Some(error) })
    }

    /// Hands over the lists if they are long, because another read of the chunk follows.
    pub(crate) fn between_reads(&mut self) {
        if let Some(drain) = self.drain.as_mut().filter(|_| self.events.len() >= MAX_EVENTS) {
            drain(self.events, self.details);
        }
    }
}

/// The effect of a packet, or the reason for which inspection ends.
pub(crate) type Outcome<T = ()> = Result<T, OpaqueReason>;
