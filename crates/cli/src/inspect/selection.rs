//! The connections that a report lists: all, those with a problem, or one.

use super::report::{Connection, Report, Severity};

/// The user's choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selection {
    /// Only connections with a problem.
    pub(super) problems: bool,
    /// Only the connection with this number.
    pub(super) connection: Option<u64>,
}

impl Selection {
    /// Removes the other connections from a report. They remain in its totals. An error means that there is no such connection.
    pub(super) fn apply(self, report: &mut Report) -> Result<(), String> {
        let listed = report.connections.len();
        report.connections.retain(|connection| {
            self.connection.is_none_or(|wanted| wanted == connection.number)
                && (!self.problems || has_problem(connection))
        });
        let left = listed.saturating_sub(report.connections.len());
        report.not_selected = u64::try_from(left).unwrap_or(u64::MAX);
        match self.connection {
            Some(number) if left == listed && !self.problems => {
                Err(format!("expected the number of a connection from 1 to {listed}, found {number}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether something on the connection failed, is unfinished, or exposes it to a hazard.
fn has_problem(connection: &Connection) -> bool {
    let failed =
        connection.handshake.as_ref().is_some_and(|it| ["error", "aborted", "refused"].contains(&it.result));
    let lost =
        connection.end.as_ref().is_some_and(|end| !end.unanswered.is_empty() || end.reset_by.is_some());
    let waits = connection.waits.as_ref().is_some_and(|waits| waits.who.is_some() && waits.what != "command");
    let desync = connection.opaque.as_ref().is_some_and(|opaque| opaque.reason == "desync");
    connection.worst >= Some(Severity::Warning)
        || !connection.counts.errors.is_empty()
        || failed
        || lost
        || waits
        || desync
}
