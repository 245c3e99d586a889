//! Recording of the events of one connection in metrics, access-log state and the log.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Filter;
use super::access_log::AccessLogState;
use super::destination::{self, Destination, Labels};
use super::host::Host;
use super::log::{
    ConnectionLog, affected_clients, hazards, opaque, ports, proxy_headers, rule_effects, slow_commands,
};
use crate::event::details::Details;
use crate::event::{Event, HazardKind, OpaqueReason};
use crate::metrics::ScopeId;

/// Recorder of the events of one connection.
pub(super) struct Recorder {
    pub(super) labels: Labels,
    /// The client's address. `None` if it is unknown, or if no rule handles PROXY headers.
    pub(super) peer: Option<SocketAddr>,
    pub(super) to: Destination,
    /// Name of the rule that matched. `None` if it has none.
    pub(super) rule: Option<Arc<str>>,
    /// `None` until there are events to record.
    pub(super) scope: Option<ScopeId>,
    /// `None` if the configuration requires no access-log state.
    pub(super) state: Option<Box<AccessLogState>>,
}

impl Recorder {
    /// Records the events of a callback, or of a part of it.
    ///
    /// If the rule has no name, the destination is the cluster. The filter reads the cluster when there are events to record,
    /// because the proxy chooses it after this filter's first callback.
    pub(super) fn record(
        &mut self,
        filter: &Filter,
        events: &[Event],
        details: &mut Details,
        host: &dyn Host,
    ) {
        if events.is_empty() {
            return;
        }
        let Self { labels, rule, scope, .. } = self;
        let rule = rule.as_deref();
        let scope = *scope.get_or_insert_with(|| filter.scope(labels, &destination::label(rule, host)));
        filter.count(scope, events);
        if let (Some(state), Some(writer)) = (&mut self.state, filter.access_log(host)) {
            state.record(writer, events, details);
            if let Some(source) = details.source {
                writer.source(source);
            }
        }
        if details.is_empty() && events.iter().all(is_only_counted) {
            return;
        }
        let log = ConnectionLog { log: &filter.log, host, to: &self.to };
        for slow in &details.slow {
            slow_commands::line(&log, rule, slow);
        }
        record_hazards(filter, &log, scope, events);
        log_events(filter, &log, events);
        if let Some(refusal) = &details.refusal {
            proxy_headers::refused(&log, self.peer, refusal);
        }
        if let Some(report) = &details.desync {
            opaque::desync(&log, report);
        }
    }
}

/// True for the events of nearly all callbacks: they show no hazard, and no line of the log is about them.
const fn is_only_counted(event: &Event) -> bool {
    match event {
        Event::Bytes { .. } | Event::Packets { .. } | Event::CommandStarted(_) | Event::CommandSent(_) => {
            true
        }
        Event::CommandEnded { response: Some(response), .. } => response.tally.errno.is_none(),
        _ => false,
    }
}

/// Counts the hazards that events show, and logs them.
fn record_hazards(filter: &Filter, log: &ConnectionLog, scope: ScopeId, events: &[Event]) {
    for event in events {
        let Some(kind) = HazardKind::of(event) else { continue };
        filter.count_hazard(scope, kind);
        // `rule_effects` logs blocked requests.
        let has_own_line =
            kind == HazardKind::LocalInfileUnsolicited && events.contains(&Event::LocalInfileBlocked);
        if !has_own_line {
            hazards::seen(log, &filter.reported_hazards, scope, kind, event);
        }
    }
}

fn log_events(filter: &Filter, log: &ConnectionLog, events: &[Event]) {
    for event in events {
        match event {
            Event::GreetingTimeout => ports::greeting_timeout(log),
            Event::ServerFirst(spoken) => ports::server_first(log, &filter.reported_ports, *spoken),
            Event::EofHazardClient(client) => {
                affected_clients::seen(log, &filter.reported_clients, *client);
            }
            Event::Opaque(OpaqueReason::Memory) => opaque::out_of_memory(log),
            Event::ProtectionLost(reason) => rule_effects::protection_lost(log, *reason),
            Event::LocalInfileBlocked => rule_effects::file_blocked(log),
            #[cfg(not(target_family = "wasm"))]
            Event::Tls { side, result } => rule_effects::tls(log, *side, *result),
            Event::TlsCleared => rule_effects::tls_cleared(log, &filter.reported_tls),
            _ => {}
        }
    }
}
