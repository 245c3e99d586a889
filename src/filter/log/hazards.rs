//! Lines about hazards between clients and servers, with the cause and the remedy.

use log::Level;

use super::ConnectionLog;
use super::once::ReportOnce;
use crate::event::{Event, HazardKind};
use crate::metrics::ScopeId;

/// Advice if a server requires TLS and a rule removes its offer of TLS.
const TLS_CLEARED: (&str, &str) = (
    "The server accepts no client without TLS (3159), and clear_capabilities removes its offer of TLS.",
    "Remove ssl from clear_capabilities in the rule of this destination.",
);

/// Logs a hazard. Logs one line for each destination and kind. Health checks are logged again whenever there are ten times
/// as many, because their number decides when the server blocks their host.
pub(in crate::filter) fn seen(
    log: &ConnectionLog,
    reported: &ReportOnce<(ScopeId, HazardKind)>,
    scope: ScopeId,
    kind: HazardKind,
    event: &Event,
) {
    // Such clients have a line of their own, `event=eof_hazard`.
    if kind == HazardKind::SplitEof {
        return;
    }
    let is_cleared = kind == HazardKind::TlsRequired && log.to.clears_tls;
    let (cause, fix) = if is_cleared { TLS_CLEARED } else { kind.advice() };
    let Some(count) = reported.count((scope, kind)) else { return };
    let again = kind == HazardKind::UnansweredGreeting
        && count.checked_ilog10().map(|n| 10_u64.pow(n)) == Some(count);
    if count > 1 && !again {
        return;
    }
    log.line(Level::Warn, || {
        let detail = match event {
            Event::IdleClosed { idle, .. } => format!(" idle_s={}", idle.as_secs()),
            _ if kind == HazardKind::UnansweredGreeting => format!(" count={count}"),
            _ => String::new(),
        };
        let (kind, destination) = (kind.label(), log.destination());
        format!("event=hazard kind={kind} {destination}{detail} cause=\"{cause}\" fix=\"{fix}\"")
    });
}
