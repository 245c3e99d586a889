//! The line about a call that the host refused.

use log::Level;

use super::RateLimitedLog;
use crate::filter::host::{Host, HostError};

/// Logs a refused call. `key`: key of filter state that the call sets or declares; `None` for all other calls.
pub(in crate::filter) fn refused(
    log: &RateLimitedLog,
    host: &dyn Host,
    level: Level,
    key: Option<&str>,
    error: &HostError,
) {
    log.line(host, level, || {
        let HostError { call, status } = error;
        let key = key.map_or_else(String::new, |key| format!(" key={key}"));
        format!(
            "event=host_refused call={call}{key} status={status} fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
        )
    });
}
