//! Policy of one connection: selects its rule, and combines the rule with the facts about the connection.

use std::net::SocketAddr;

use super::access_log::StateKeys;
use super::destination::{Destination, Labels};
use super::host::{ConnectionInfo, Host};
use crate::config::{Config, Inspect, Mode, Policy, ProtocolRule, ProxyProtocol};
use crate::password_key::PasswordKeyRef;
use crate::ports;
use crate::proxy_protocol::Endpoints;
use crate::rules::{
    ClearCapabilities, Expected, GuardPassword, HoldSplitEof, Inspection, Interests, OriginateTls,
    ProxyHeaderRules, ReceiveRules, Rules, SendRules,
};

/// Part of the configuration that applies to one connection.
pub(super) struct ConnectionPolicy<'c> {
    config: &'c Config,
    info: ConnectionInfo,
    /// The rule that matches, or the defaults.
    pub(super) rule: &'c Policy,
    inspection: Inspection,
    /// Protocol that a rule or the port table expects.
    pub(super) expected: Expected,
}

/// Rules of one connection, and the client's address.
pub(super) struct ResolvedRules {
    pub(super) rules: Rules,
    /// `None` if it is unknown, or if no rule handles PROXY headers, because the filter reads it only for these rules.
    pub(super) peer: Option<SocketAddr>,
}

impl<'c> ConnectionPolicy<'c> {
    pub(super) fn new(config: &'c Config, info: ConnectionInfo) -> Self {
        let port = info.destination.map(|destination| destination.port());
        let address = info.destination.map(|destination| destination.ip());
        let rule = config.policy(port, address, info.direction);
        let hint = port.map_or(Expected::Unknown, ports::expected);
        let inspected = match rule.inspect {
            Inspect::Full => Inspection::Full,
            Inspect::Requests => Inspection::Requests,
            Inspect::Handshake => Inspection::Handshake,
        };
        let (inspection, expected) = match (config.mode, rule.protocol) {
            (Mode::Off, _) | (_, ProtocolRule::Opaque) => (Inspection::Nothing, Expected::Opaque),
            (_, ProtocolRule::Mysql) => (inspected, Expected::Mysql),
            (_, ProtocolRule::ServerFirst) => (Inspection::FirstBytes, Expected::ServerFirst),
            (_, ProtocolRule::Detect) => (inspected, hint),
        };
        Self { config, info, rule, inspection, expected }
    }

    /// True if rules may change bytes.
    fn is_active(&self) -> bool {
        self.config.mode == Mode::Active
    }

    /// True if a rule protects the server or the client.
    pub(super) fn is_protected(&self) -> bool {
        let headers = &self.rule.proxy_protocol;
        let protects = headers.receive.is_some() || headers.send.is_some() || self.rule.block_local_infile;
        self.is_active() && protects || self.rule.originate_tls || self.rule.terminate_tls
    }

    /// Returns the rules of the connection, which begins now.
    pub(super) fn resolve(
        &self,
        keys: Option<&StateKeys>,
        password_key: Option<PasswordKeyRef>,
        host: &dyn Host,
    ) -> ResolvedRules {
        let rule = self.rule;
        let is_active = self.is_active();
        let headers = is_active.then_some(&rule.proxy_protocol);
        let (peer, proxy_header) = headers.map_or((None, None), |headers| self.proxy_header(headers, host));
        let mut interests = keys.map_or(Interests::NONE, StateKeys::interests);
        interests.slow_after = rule.slow_command;
        let rules = Rules {
            inspection: self.inspection,
            expected: self.expected,
            greeting_timeout: rule.greeting_timeout,
            stall: self.config.metrics.stall,
            interests,
            proxy_header,
            hold_split_eof: self.hold_split_eof(),
            clear_capabilities: self.clear_capabilities(),
            block_local_infile: is_active && rule.block_local_infile,
            // In every mode, because the connection would go on without TLS.
            originate_tls: rule.originate_tls.then_some(OriginateTls { password_key }),
            terminate_tls: rule.terminate_tls,
            guard_password: self.guards_password().then_some(GuardPassword { password_key }),
        };
        ResolvedRules { rules, peer }
    }

    /// Returns the client's address and the rules for PROXY headers. Without such rules it does not read the address, because
    /// that costs a host call.
    fn proxy_header(
        &self,
        headers: &ProxyProtocol,
        host: &dyn Host,
    ) -> (Option<SocketAddr>, Option<ProxyHeaderRules>) {
        if headers.receive.is_none() && headers.send.is_none() {
            return (None, None);
        }
        let peer = host.peer();
        let endpoints = peer.zip(self.info.destination);
        let rules = ProxyHeaderRules {
            receive: headers.receive.as_ref().map(|receive| ReceiveRules {
                need: receive.need,
                trusted: peer.is_some_and(|peer| receive.trusted_networks.contains(peer.ip())),
                untrusted: receive.untrusted,
                timeout: receive.timeout,
                max_header_bytes: receive.max_header_bytes,
            }),
            send: headers.send.map(|send| SendRules {
                format: send.format,
                only_unless_received: send.only_unless_received,
                endpoints: endpoints.map(|(source, destination)| Endpoints { source, destination }),
            }),
        };
        (peer, Some(rules))
    }

    fn hold_split_eof(&self) -> HoldSplitEof {
        if self.is_active() { self.rule.hold_split_eof } else { HoldSplitEof::Off }
    }

    fn clear_capabilities(&self) -> ClearCapabilities {
        let cleared =
            if self.is_active() { self.rule.clear_capabilities } else { ClearCapabilities::default() };
        // In compressed packets the guard would not see a change of the account.
        let guards = self.guards_password();
        ClearCapabilities { compress: cleared.compress || guards, zstd: cleared.zstd || guards, ..cleared }
    }

    /// True if the client has TLS, and the server does not.
    fn guards_password(&self) -> bool {
        self.rule.terminate_tls && !self.rule.originate_tls
    }

    /// Destination of the connection, for the log.
    pub(super) fn destination(&self) -> Destination {
        Destination {
            direction: self.info.direction,
            address: self.info.destination,
            expected: self.expected,
            sends_header: self.is_active() && self.rule.proxy_protocol.send.is_some(),
            holds_split_eof: self.hold_split_eof() != HoldSplitEof::Off,
            clears_tls: self.clear_capabilities().ssl,
        }
    }

    /// Label values of the connection's metrics. A port is a label value only if a rule or the built-in table names it,
    /// because these ports are a bounded set.
    pub(super) fn labels(&self) -> Labels {
        let is_named = |port: &u16| {
            ports::is_known(*port) || self.config.named_ports().any(|ports| ports.contains(port))
        };
        let port = self.info.destination.map(|destination| destination.port());
        Labels::new(self.info.direction, port.filter(is_named))
    }
}
