//! The line about a connection that needs too much memory.

use log::Level;

use super::ConnectionLog;

/// Inspection of a connection has ended, because its state needs more memory than it may use.
pub(in crate::filter) fn out_of_memory(log: &ConnectionLog) {
    log.line(Level::Warn, || {
        format!(
            "event=opaque reason=memory {} cause=\"the state of connections takes limits.connection_state, or this client \
             pipelines more than the filter keeps of one connection\" fix=\"raise limits.connection_state, or find the \
             clients that pipeline or connect so much\"",
            log.destination()
        )
    });
}
