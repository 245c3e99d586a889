//! Connections on which nothing is asked of the server, and what ends them.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::event::{ClosedBy, Event};

/// Who ends a connection because of what was said on it does so sooner; time-outs for idle ones are longer.
const MIN_IDLE: Duration = Duration::from_secs(1);
/// `ER_CLIENT_INTERACTION_TIMEOUT`, which MySQL sends when `wait_timeout` ends.
const INTERACTION_TIMEOUT: u16 = 4031;

/// Since when nothing has been asked of the server, if that is so.
#[derive(Debug)]
pub(super) struct Idle {
    /// None: the server has announced the end of the connection.
    since: Option<Timestamp>,
}

impl Idle {
    /// The server has accepted the client, or ended the answer to its last command.
    pub(super) fn since(now: Timestamp) -> Self {
        Self { since: Some(now) }
    }

    /// The server sends an error of its own accord, which is the end.
    pub(super) fn ends(&mut self, errno: u16, clock: &mut Clock, events: &mut Vec<Event>) {
        if let Some(since) = self.since.take().filter(|_| errno == INTERACTION_TIMEOUT) {
            let idle = clock.now().since(since);
            events.push(Event::IdleClosed { by: ClosedBy::Server, idle });
        }
    }

    /// The connection was ended by `by`.
    pub(super) fn closed(&self, by: ClosedBy, clock: &mut Clock) -> Option<Event> {
        let since = self.since.filter(|_| by != ClosedBy::Client)?;
        let idle = clock.now().since(since);
        (idle >= MIN_IDLE).then_some(Event::IdleClosed { by, idle })
    }
}
