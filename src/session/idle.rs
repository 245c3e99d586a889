//! Connections without a pending command, and the peer that ends them.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::event::{ClosedBy, Event};

/// A close within this time is a reaction to traffic, because idle time-outs are longer.
const MIN_IDLE: Duration = Duration::from_secs(1);
/// `ER_CLIENT_INTERACTION_TIMEOUT`: MySQL sends it when `wait_timeout` ends.
const INTERACTION_TIMEOUT: u16 = 4031;

/// Time since which a connection has been idle.
#[derive(Debug)]
pub(super) struct Idle {
    /// `None` if the server has announced the end of the connection.
    since: Option<Timestamp>,
}

impl Idle {
    /// Begins when the server accepts the client, or ends the response to its last command.
    pub(super) fn since(now: Timestamp) -> Self {
        Self { since: Some(now) }
    }

    /// Takes an unsolicited error of the server, after which the server closes the connection.
    pub(super) fn on_unsolicited_error(&mut self, errno: u16, clock: &mut Clock, events: &mut Vec<Event>) {
        if let Some(since) = self.since.take().filter(|_| errno == INTERACTION_TIMEOUT) {
            let idle = clock.now().since(since);
            events.push(Event::IdleClosed { by: ClosedBy::Server, idle });
        }
    }

    /// The event of an idle connection that `by` ended; `None` if it was not idle or the client ended it.
    pub(super) fn on_close(&self, by: ClosedBy, clock: &mut Clock) -> Option<Event> {
        let since = self.since.filter(|_| by != ClosedBy::Client)?;
        let idle = clock.now().since(since);
        (idle >= MIN_IDLE).then_some(Event::IdleClosed { by, idle })
    }
}
