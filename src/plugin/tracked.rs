//! A connection, where its metrics go, and what is said about it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use log::Level;

use super::access_log::State;
use super::advice::{self, Place};
use super::host;
use super::newest::Told;
use super::rewrites;
use super::shared::Shared;
use super::slow_log;
use super::stream::{attribute, cluster_name, integer};
use crate::clock::Timestamp;
use crate::config::{self, ClearCapabilities, HoldSplitEof, Mode, Observe, ProxyProtocol};
use crate::connection::{Connection, FrontRules, Inspection, ReceiveRules, SendRules, Setup, Verdict};
use crate::event::{Direction, Event, HazardKind, Protocol};
use crate::metrics::{ScopeId, ScopeLabel};
use crate::mysql::notes::{Notes, Wanted};
use crate::ports;
use crate::proxy_protocol::Endpoints;

/// The values of `metrics.labels` that are known when a connection begins.
pub(super) struct Labels {
    direction: Direction,
    port: Cow<'static, str>,
}

impl Labels {
    pub(super) fn value<'a>(&'a self, label: ScopeLabel, destination: &'a str) -> &'a str {
        match label {
            ScopeLabel::Direction => self.direction.label(),
            ScopeLabel::Destination => destination,
            ScopeLabel::Port => &self.port,
        }
    }
}

/// A connection and what belongs to it at the host's side.
pub(super) struct Tracked {
    pub(super) connection: Connection,
    /// Of the configuration it follows.
    mode: Mode,
    labels: Labels,
    /// The other end of the client's connection; asked for only where PROXY headers are received or sent.
    peer: Option<SocketAddr>,
    place: Place,
    /// The name of the rule that matched.
    rule: Option<Rc<str>>,
    scope: Option<ScopeId>,
    /// What the core is to tell besides events.
    wanted: Wanted,
    /// None: no access-log state is asked for.
    state: Option<Box<State>>,
}

impl Tracked {
    /// Reads once what is needed of a new connection's attributes.
    pub(super) fn begin(shared: &Shared) -> Rc<RefCell<Self>> {
        let direction = match integer("xds\0listener_direction") {
            Some(1) => Direction::Inbound,
            Some(2) => Direction::Outbound,
            _ => Direction::Unspecified,
        };
        let destination = attribute("destination\0address").and_then(|text| socket_address(&text));
        let port = destination.map(|destination| destination.port());
        let config = &shared.config;
        let policy = config.policy(port, destination.map(|destination| destination.ip()), direction);
        let hint = port.map_or(Protocol::Unknown, ports::expected);
        let followed = match policy.observe {
            Observe::All => Inspection::Full,
            Observe::Requests => Inspection::Requests,
            Observe::Handshake => Inspection::Handshake,
        };
        let (inspection, expected) = match (config.mode, policy.protocol) {
            (Mode::Off, _) | (_, config::Protocol::Opaque) => (Inspection::Nothing, Protocol::Opaque),
            (_, config::Protocol::Mysql) => (followed, Protocol::Mysql),
            (_, config::Protocol::ServerFirst) => (Inspection::FirstBytes, Protocol::ServerFirst),
            (_, config::Protocol::Detect) => (followed, hint),
        };
        let named = port.filter(|port| shared.is_named(*port));
        let active = config.mode == Mode::Active;
        let rules = active.then_some(&policy.proxy_protocol);
        let holds = if active { policy.hold_split_eof } else { HoldSplitEof::Off };
        let clears = if active { policy.clear_capabilities } else { ClearCapabilities::default() };
        let blocks = active && policy.block_local_infile;
        let (peer, front) = rules.map_or((None, None), |rules| front(rules, destination, expected));
        let greeting_timeout = policy.greeting_timeout;
        let mut wanted = shared.access_log.as_ref().map(|keys| keys.wanted()).unwrap_or_default();
        wanted.slow_after = policy.slow_command;
        wanted.files = blocks;
        Rc::new(RefCell::new(Self {
            connection: Connection::new(Setup {
                inspection,
                expected,
                greeting_timeout,
                stall: config.metrics.stall,
                opened: host::now(),
                front,
                hold_split_eof: holds,
                clear_capabilities: clears,
                block_local_infile: blocks,
            }),
            peer,
            mode: config.mode,
            labels: Labels { direction, port: named.map_or("other".into(), |port| port.to_string().into()) },
            place: Place {
                direction,
                destination,
                expected,
                sends: front.is_some_and(|front| front.send.is_some()),
                holds: holds != HoldSplitEof::Off,
                clears_tls: clears.ssl,
            },
            rule: policy.name.as_deref().map(Rc::from),
            scope: None,
            wanted,
            state: shared.access_log.as_ref().map(|_| Box::default()),
        }))
    }

    /// A newer configuration than its own came while the connection was open, with another mode.
    pub(super) fn follows(&self, newest: &Told) -> bool {
        newest.mode != self.mode && self.connection.opened() < newest.since
    }

    /// [`Tracked::tick`] has something to do.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.connection.is_due(now) || self.state.as_ref().is_some_and(|state| state.is_due())
    }

    /// Lets the connection take something and records what it tells.
    pub(super) fn handle<T>(
        &mut self,
        shared: &Shared,
        what: impl FnOnce(&mut Connection, &mut Vec<Event>, &mut Notes) -> T,
    ) -> T {
        let (mut events, mut notes) = shared.lists();
        notes.wanted = self.wanted;
        let answer = what(&mut self.connection, &mut events, &mut notes);
        self.record(shared, &events, &mut notes);
        shared.put_back(events, notes);
        answer
    }

    /// Some time has gone by; `newer` is the mode of a newer configuration. What was not looked at before
    /// cannot be followed from its middle, so nothing but `off` changes how an open connection is seen.
    pub(super) fn tick(&mut self, shared: &Shared, now: Timestamp, newer: Option<Mode>) {
        self.mode = newer.unwrap_or(self.mode);
        let inert = newer.is_some_and(|mode| mode != Mode::Active);
        self.wanted.files &= !inert;
        let (held, verdict) = self.handle(shared, |connection, events, _| {
            if newer == Some(Mode::Off) {
                connection.handle_off(events);
            }
            (inert && connection.handle_inert(events), connection.handle_tick(now, events))
        });
        if let (Some(keys), Some(state)) = (&shared.access_log, &mut self.state) {
            if state.is_due() {
                state.tell(keys, &shared.journal);
            }
        }
        if held {
            if let Err(status) = host::go_on() {
                shared.refused("continue_stream", status);
            }
        }
        if verdict == Verdict::Close {
            if let Err(status) = host::close() {
                shared.refused("close_stream", status);
            }
        }
    }

    /// Records what happened. Where no rule names the destination it is Envoy's cluster, which is
    /// chosen after this filter's first callback: so it is asked for when there is something to record.
    fn record(&mut self, shared: &Shared, events: &[Event], notes: &mut Notes) {
        if events.is_empty() {
            return;
        }
        let Self { labels, rule, scope, .. } = self;
        let scope = *scope.get_or_insert_with(|| match rule {
            Some(name) => shared.scope(labels, name),
            None => shared.scope(labels, &cluster_name().unwrap_or_else(|| "passthrough".to_owned())),
        });
        shared.record(scope, events);
        if let (Some(keys), Some(state)) = (&shared.access_log, &mut self.state) {
            state.take(keys, events, notes, &shared.journal);
            if let Some(source) = self.connection.source() {
                state.source(keys, source, &shared.journal);
            }
        }
        for slow in &notes.slow {
            slow_log::line(&shared.journal, &self.place, self.rule.as_deref(), slow);
        }
        for event in events {
            // A blocked file has a line of its own.
            let has_own = |kind: &HazardKind| {
                *kind == HazardKind::LocalInfileUnsolicited && events.contains(&Event::LocalInfileBlocked)
            };
            if let Some(kind) = HazardKind::of(event).filter(|kind| !has_own(kind)) {
                if let Ok(mut told) = shared.told_hazards.try_borrow_mut() {
                    told.seen(kind, event, scope, &self.place, &shared.journal);
                }
            }
            match event {
                Event::GreetingTimeout => advice::greeting_timeout(&shared.journal, &self.place),
                Event::ServerFirst(spoken) => {
                    if let Ok(mut told) = shared.told_ports.try_borrow_mut() {
                        told.server_first(&shared.journal, &self.place, *spoken);
                    }
                }
                Event::EofHazardClient(suspect) => {
                    if let Ok(mut told) = shared.told_suspects.try_borrow_mut() {
                        told.client(&shared.journal, &self.place, *suspect);
                    }
                }
                Event::LocalInfileBlocked => rewrites::file_blocked(&shared.journal, &self.place),
                Event::TlsCleared => shared.told_tls.cleared(&shared.journal, &self.place),
                _ => {}
            }
        }
        if let Some(refusal) = self.connection.take_refusal() {
            advice::refused(&shared.journal, &self.place, self.peer, &refusal);
        }
        if let Some(report) = self.connection.take_report() {
            let version = crate::VERSION;
            shared
                .journal
                .line(Level::Warn, || format!("event=opaque reason=desync version={version} {report}"));
        }
    }
}

/// The client's address, and what the rules say about its connection; nothing is asked for where they say nothing.
fn front(
    rules: &ProxyProtocol,
    destination: Option<SocketAddr>,
    expected: Protocol,
) -> (Option<SocketAddr>, Option<FrontRules>) {
    if rules.receive.is_none() && rules.send.is_none() {
        return (None, None);
    }
    let peer = attribute("source\0address").and_then(|text| socket_address(&text));
    let endpoints = peer.zip(destination);
    let rules = FrontRules {
        receive: rules.receive.as_ref().map(|receive| ReceiveRules {
            need: receive.need,
            trusted: peer.is_some_and(|peer| receive.trusted_networks.contains(peer.ip())),
            untrusted: receive.untrusted,
            timeout: receive.timeout,
            max_header_bytes: receive.max_header_bytes,
        }),
        send: rules.send.map(|send| SendRules {
            format: send.format,
            only_unless_received: send.only_unless_received,
            endpoints: endpoints.map(|(source, destination)| Endpoints { source, destination }),
        }),
        server_first: expected.is_server_first(),
    };
    (peer, Some(rules))
}

/// Reads an address as Envoy writes it, `ip:port` or `[ip]:port`; none for a Unix socket.
fn socket_address(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
