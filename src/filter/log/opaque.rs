//! Lines about connections whose inspection has ended although no rule or setting excludes them.

use log::Level;

use super::ConnectionLog;
use crate::event::desync_report::DesyncReport;
use crate::version::VERSION;

/// Remedy if connections need more memory than they may use.
pub(super) const MEMORY_FIX: &str =
    "raise limits.connection_state, or find the clients that pipeline or connect so much";

/// Logs that inspection has ended, because the state of the connection needs more memory than it may use.
pub(in crate::filter) fn out_of_memory(log: &ConnectionLog) {
    log.line(Level::Warn, || {
        format!(
            "event=opaque reason=memory {} cause=\"the state of connections takes limits.connection_state, or this client \
             pipelines more than the filter keeps of one connection\" fix=\"{MEMORY_FIX}\"",
            log.destination()
        )
    });
}

/// Logs that inspection has ended, because a packet violates the protocol.
pub(in crate::filter) fn desync(log: &ConnectionLog, report: &DesyncReport) {
    log.line(Level::Warn, || {
        format!(
            "event=opaque reason=desync version={VERSION} {report} fix=\"report this line: it has no content of the session\""
        )
    });
}
