//! Connections that do not fit into the budget (`limits.connection_state`). Their bytes are forwarded, and they are counted
//! as opaque. The filter keeps a fixed number of bytes for each, which is not part of the budget.

use super::Filter;
use super::destination::{self, Destination};
use super::host::{ConnectionInfo, Host};
use super::log::{ConnectionLog, opaque, rule_effects};
use super::policy::ConnectionPolicy;
use crate::connection::chunk::Edit;
use crate::event::{ClosedBy, Event, OpaqueReason, Phase, ProtectionLost, Sender};
use crate::metrics::ScopeId;

/// Connection that is not inspected.
#[derive(Clone, Copy, Debug)]
pub struct UninspectedStream {
    to: Destination,
    /// `None` until the first event, because the cluster is not known before.
    scope: Option<ScopeId>,
    ended_first: Option<Sender>,
    is_refused: bool,
}

impl UninspectedStream {
    pub(super) fn new(filter: &Filter, policy: &ConnectionPolicy, host: &dyn Host) -> Self {
        let is_refused = policy.is_protected();
        let mut this = Self { to: policy.destination(), scope: None, ended_first: None, is_refused };
        if is_refused {
            this.record(filter, &[Event::ProtectionLost(ProtectionLost::Memory)], host);
            let log = ConnectionLog { log: &filter.log, host, to: &this.to };
            rule_effects::protection_lost(&log, ProtectionLost::Memory);
        }
        this
    }

    /// True if a rule protects the connection. The shell must then close it, because the rule cannot be enforced without
    /// inspection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Takes `size` bytes of `sender`. `end_stream`: no bytes follow. Returns `None` if the bytes are forwarded unchanged.
    pub fn data(
        &mut self,
        filter: &Filter,
        sender: Sender,
        size: usize,
        end_stream: bool,
        host: &dyn Host,
    ) -> Option<Edit> {
        if self.is_refused {
            return Some(Edit { drain: size, prepend: Vec::new() });
        }
        if end_stream {
            self.ended_first.get_or_insert(sender);
        }
        let count = size as u64;
        let bytes = Event::Bytes { sender, count };
        self.record(filter, if count > 0 { std::slice::from_ref(&bytes) } else { &[] }, host);
        None
    }

    /// Takes the end of the connection.
    pub fn close(&mut self, filter: &Filter, host: &dyn Host) {
        let by = match self.ended_first {
            Some(Sender::Client) => ClosedBy::Client,
            Some(Sender::Server) => ClosedBy::Server,
            None => host.closed_by(),
        };
        let protocol = self.to.expected.into();
        self.record(filter, &[Event::Closed { protocol, phase: Phase::Opaque, by }], host);
    }

    fn record(&mut self, filter: &Filter, events: &[Event], host: &dyn Host) {
        let scope = match self.scope {
            Some(scope) => scope,
            None => self.begin(filter, host),
        };
        filter.count(scope, events);
    }

    /// Counts and logs once that the connection is not inspected.
    fn begin(&mut self, filter: &Filter, host: &dyn Host) -> ScopeId {
        let info = ConnectionInfo { direction: self.to.direction, destination: self.to.address };
        let policy = ConnectionPolicy::new(&filter.config, info);
        let label = destination::label(policy.rule.name.as_deref(), host);
        let scope = filter.scope(&policy.labels(), &label);
        self.scope = Some(scope);
        let protocol = self.to.expected.into();
        let events = [Event::Recognised { protocol, waited_as: None }, Event::Opaque(OpaqueReason::Memory)];
        filter.count(scope, &events);
        if let Some(writer) = filter.access_log(host) {
            writer.uninspected(protocol);
        }
        opaque::out_of_memory(&ConnectionLog { log: &filter.log, host, to: &self.to });
        scope
    }
}
