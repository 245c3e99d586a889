//! Details that accompany events, recorded only on request: identities for the access log, slow commands and the causes
//! of refusals for the log. None of them becomes a label.

use std::net::SocketAddr;
use std::time::Duration;

use super::desync_report::DesyncReport;
use super::refusal::Refusal;
pub use crate::escape::word;
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;
use crate::rules::{Field, Interests};

/// Stands for a value that the peer sent and that cannot be read; see [`word`].
pub const UNREADABLE: &str = "%";

/// A command that was slow or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// The command.
    pub command: Command,
    /// Verb of the statement that it executes or prepares; `None` for other commands.
    pub verb: Option<Verb>,
    /// Number of equal commands that arrived together and got no response; 1 for a single one.
    pub commands: usize,
    /// Time from its first packet to the last of its response, or to the end of the connection.
    pub duration: Duration,
    /// The error that ended it; `None` if it did not fail.
    pub errno: Option<u16>,
    /// True if the response arrived.
    pub answered: bool,
    /// Its statement without literals; empty if it has none or none is known.
    pub digest: String,
    /// `traceparent` of W3C Trace Context, from a query attribute or a comment in the statement.
    pub traceparent: Option<String>,
}

/// The details of one callback.
#[derive(Debug, Default)]
pub struct Details {
    /// New values, in order.
    pub fields: Vec<(Field, String)>,
    /// Commands that were slow or failed.
    pub slow: Vec<SlowCommand>,
    /// The client's original address, from a PROXY header that is believed.
    pub source: Option<SocketAddr>,
    /// Why the connection is closed; `None` if it is not, or if its client left without sending a byte.
    pub refusal: Option<Refusal>,
    /// After [`OpaqueReason::Desync`](super::OpaqueReason::Desync): why, and between whom.
    pub desync: Option<Box<DesyncReport>>,
}

impl Details {
    /// True if there are no details.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { fields, slow, source, refusal, desync } = self;
        let lists_are_empty = fields.is_empty() && slow.is_empty();
        lists_are_empty && source.is_none() && refusal.is_none() && desync.is_none()
    }

    /// Removes all details.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.fields.clear();
            self.slow.clear();
            (self.source, self.refusal, self.desync) = (None, None, None);
        }
    }

    /// Number of values, or of commands, for which memory is reserved.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.fields.capacity().max(self.slow.capacity())
    }

    /// Frees memory beyond that of `len` values and commands.
    pub fn shrink_to(&mut self, len: usize) {
        self.fields.shrink_to(len);
        self.slow.shrink_to(len);
    }

    /// Records a value if `interests` has its field.
    pub fn record(&mut self, interests: Interests, field: Field, value: impl FnOnce() -> String) {
        if interests.has(field) {
            self.fields.push((field, value()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_of_interest_are_recorded() {
        let (mut details, mut interests) = (Details::default(), Interests::NONE);
        interests.add(Field::Schema);
        details.record(interests, Field::User, || panic!("not of interest"));
        details.record(interests, Field::Schema, || "shop".into());
        assert_eq!(details.fields, [(Field::Schema, "shop".to_owned())]);
    }
}
