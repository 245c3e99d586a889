//! One line in the log for each command that was slow or failed. Nothing in it is a literal of a statement.

use std::fmt::Write;

use log::Level;

use super::advice::Place;
use super::journal::Journal;
use crate::event::details::SlowCommand;

/// Tells of a command on a connection to `place`, for which the rule of this name holds.
pub(super) fn line(journal: &Journal, place: &Place, rule: Option<&str>, slow: &SlowCommand) {
    journal.line(Level::Warn, || {
        let event = match (slow.answered, slow.errno) {
            (false, _) => "unanswered_command",
            (true, Some(_)) => "failed_command",
            (true, None) => "slow_command",
        };
        let micros = slow.took.as_micros();
        let (millis, fraction) = (micros / 1000, micros % 1000);
        let mut line = format!("event={event} {}", place.text());
        // Nothing that is written to a String is refused.
        let mut add = |key: &str, value: &dyn std::fmt::Display| {
            let _ = write!(line, " {key}={value}");
        };
        if let Some(rule) = rule {
            add("rule", &rule);
        }
        add("duration_ms", &format_args!("{millis}.{fraction:03}"));
        if let Some(errno) = slow.errno {
            add("errno", &errno);
        }
        add("command", &slow.command.label());
        if slow.commands > 1 {
            add("commands", &slow.commands);
        }
        if let Some(verb) = slow.verb {
            add("verb", &verb.label());
        }
        if !slow.digest.is_empty() {
            add("digest", &format_args!("\"{}\"", slow.digest));
        }
        if let Some(traceparent) = &slow.traceparent {
            add("traceparent", traceparent);
        }
        line
    });
}
