//! Decision about a connection after a panic in one of its callbacks, for shells that survive a panic.

use log::Level;

use super::Filter;
use super::access_log::StateKeys;
use super::host::{ConnectionInfo, Host};
use super::policy::ConnectionPolicy;
use super::stream::Stream;
use crate::event::PanicResult;

/// Connection on which a callback panicked.
#[derive(Clone, Copy)]
pub enum Panicked<'a> {
    /// Inspected connection. Its stream must get no more bytes.
    Inspected(&'a Stream),
    /// Connection that was not inspected, or was not inspected yet.
    Uninspected(ConnectionInfo),
}

impl Filter {
    /// Decides whether a connection continues without inspection. Counts and logs the decision. The connection is closed if
    /// a rule changes its bytes, or if a filter after this one may decide by its access-log state.
    pub fn after_panic(&self, connection: Panicked, host: &dyn Host) -> PanicResult {
        let (needs_filter, to) = match connection {
            Panicked::Inspected(stream) => (stream.is_rewritten(), stream.destination()),
            Panicked::Uninspected(info) => {
                let policy = ConnectionPolicy::new(&self.config, info);
                (policy.is_protected(), policy.destination())
            }
        };
        let feeds_policy = self.access_log.as_ref().is_some_and(StateKeys::can_decide);
        let result = if needs_filter || feeds_policy { PanicResult::Closed } else { PanicResult::Passed };
        self.with_metrics(|metrics| metrics.panic(result));
        self.log.line(host, Level::Error, || {
            let (result, to) = (result.label(), to.text(host));
            format!("event=panic result={result} {to} fix=\"report it, with the place in the line before\"")
        });
        result
    }
}
