//! A connection for whose state the budget (`limits.connection_state`) has no room: it passes and is counted as opaque. What
//! is remembered of it has a fixed size and is not part of the budget.

use super::advice::{self, Place};
use super::shared::Shared;
use super::tracked::{Opening, destination};
use super::{access_log, rewrites};
use crate::event::{ClosedBy, Event, OpaqueReason, Phase, ProtectionLost, Sender};
use crate::metrics::ScopeId;

/// What is remembered of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfollowed {
    place: Place,
    /// `None` until something happens on it, because only then its cluster is known.
    scope: Option<ScopeId>,
    ended_first: Option<Sender>,
    is_refused: bool,
}

impl Unfollowed {
    /// A connection begins. One that a rule protects has to be closed: see [`Unfollowed::is_refused`].
    pub(super) fn begin(shared: &Shared, opening: &Opening) -> Self {
        let is_refused = opening.is_protected(&shared.config);
        let mut this = Self { place: opening.place(), scope: None, ended_first: None, is_refused };
        if is_refused {
            this.record(shared, &[Event::ProtectionLost(ProtectionLost::Memory)]);
            rewrites::protection_lost(&shared.journal, &this.place, ProtectionLost::Memory);
        }
        this
    }

    /// Without inspection a rule cannot protect it, so nothing of it may pass.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Takes `size` bytes of `sender`.
    pub(super) fn data(&mut self, shared: &Shared, sender: Sender, size: usize, end_stream: bool) {
        if end_stream {
            self.ended_first.get_or_insert(sender);
        }
        let count = size as u64;
        let bytes = Event::Bytes { sender, count };
        self.record(shared, if count > 0 { std::slice::from_ref(&bytes) } else { &[] });
    }

    /// It has ended; `unless_known` says who ended it where the traffic does not.
    pub(super) fn close(&mut self, shared: &Shared, unless_known: impl FnOnce() -> ClosedBy) {
        let by = match self.ended_first {
            Some(Sender::Client) => ClosedBy::Client,
            Some(Sender::Server) => ClosedBy::Server,
            None => unless_known(),
        };
        self.record(shared, &[Event::Closed { protocol: self.place.expected, phase: Phase::Opaque, by }]);
    }

    fn record(&mut self, shared: &Shared, events: &[Event]) {
        let scope = match self.scope {
            Some(scope) => scope,
            None => self.opaque(shared),
        };
        shared.record(scope, events);
    }

    /// Says once that it is not inspected.
    fn opaque(&mut self, shared: &Shared) -> ScopeId {
        let opening = Opening::of(&shared.config, self.place.direction, self.place.destination);
        let labels = opening.labels(shared);
        let scope = shared.scope(&labels, &destination(opening.policy.name.as_deref()));
        self.scope = Some(scope);
        let protocol = self.place.expected;
        let events = [Event::Recognised { protocol, waited_as: None }, Event::Opaque(OpaqueReason::Memory)];
        shared.record(scope, &events);
        if let Some(keys) = &shared.access_log {
            access_log::unfollowed(keys, protocol, &shared.journal);
        }
        advice::out_of_memory(&shared.journal, &self.place);
        scope
    }
}
