//! The line about a command that was slow, failed or got no response. It contains no literals of a statement.

use std::fmt::{Display, Write};

use log::Level;

use super::ConnectionLog;
use crate::event::details::SlowCommand;

/// Logs a command of a connection. `rule`: name of the connection's rule; `None` if it has none.
pub(in crate::filter) fn line(log: &ConnectionLog, rule: Option<&str>, slow: &SlowCommand) {
    log.line(Level::Warn, || {
        let event = match (slow.answered, slow.errno) {
            (false, _) => "unanswered_command",
            (true, Some(_)) => "failed_command",
            (true, None) => "slow_command",
        };
        let micros = slow.duration.as_micros();
        let (millis, fraction) = (micros / 1000, micros % 1000);
        let mut line = format!("event={event} {}", log.destination());
        // Writing to a String cannot fail.
        let mut add = |key: &str, value: &dyn Display| {
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
