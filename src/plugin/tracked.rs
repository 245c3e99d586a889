//! A connection, where its metrics go, and what is said about it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use log::Level;

use super::access_log::State;
use super::advice::{self, Place};
use super::host;
use super::memory::Share;
use super::newest::Told;
use super::rewrites;
use super::shared::Shared;
use super::slow_log;
use super::stream::{attribute, cluster_name, integer};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, ClearCapabilities, Config, HoldSplitEof, Mode, Observe, Policy, ProxyProtocol};
use crate::connection::{Chunk, Connection, FrontRules, Inspection, ReceiveRules, SendRules, Setup, Verdict};
use crate::event::details::{Notes, Wanted};
use crate::event::output::Output;
use crate::event::{ClosedBy, Direction, Event, HazardKind, OpaqueReason, Protocol, Sender};
use crate::metrics::{ScopeId, ScopeLabel};
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
    /// What the core is to tell besides events.
    wanted: Wanted,
    recorder: Recorder,
    share: Share,
}

/// Where what happens on a connection is recorded.
struct Recorder {
    labels: Labels,
    /// The other end of the client's connection; asked for only where PROXY headers are received or sent.
    peer: Option<SocketAddr>,
    place: Place,
    /// The name of the rule that matched.
    rule: Option<Arc<str>>,
    scope: Option<ScopeId>,
    /// None: no access-log state is asked for.
    state: Option<Box<State>>,
}

/// What is known of a connection when it begins, and what holds for it.
pub(super) struct Opening<'c> {
    pub(super) direction: Direction,
    destination: Option<SocketAddr>,
    pub(super) policy: &'c Policy,
    inspection: Inspection,
    pub(super) expected: Protocol,
}

impl<'c> Opening<'c> {
    /// Reads once what is needed of a new connection's attributes.
    pub(super) fn read(config: &'c Config) -> Self {
        let direction = match integer("xds\0listener_direction") {
            Some(1) => Direction::Inbound,
            Some(2) => Direction::Outbound,
            _ => Direction::Unspecified,
        };
        let destination = attribute("destination\0address").and_then(|text| socket_address(&text));
        Self::of(config, direction, destination)
    }

    /// What holds for a connection of which this is known.
    pub(super) fn of(config: &'c Config, direction: Direction, destination: Option<SocketAddr>) -> Self {
        let port = destination.map(|destination| destination.port());
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
        Self { direction, destination, policy, inspection, expected }
    }

    /// The values of its labels.
    pub(super) fn labels(&self, shared: &Shared) -> Labels {
        let port = self.destination.map(|destination| destination.port());
        let named = port.filter(|port| shared.is_named(*port));
        Labels {
            direction: self.direction,
            port: named.map_or("other".into(), |port| port.to_string().into()),
        }
    }

    /// A rule protects the server or the client on it.
    pub(super) fn is_protected(&self, config: &Config) -> bool {
        let headers = &self.policy.proxy_protocol;
        let protects = headers.receive.is_some() || headers.send.is_some() || self.policy.block_local_infile;
        config.mode == Mode::Active && protects
    }

    /// Where it goes, for the log.
    pub(super) fn place(&self) -> Place {
        Place {
            direction: self.direction,
            destination: self.destination,
            expected: self.expected,
            sends: false,
            holds: false,
            clears_tls: false,
        }
    }
}

impl Tracked {
    /// The connection that begins now. `None` if the budget of connection state has no room for it.
    pub(super) fn begin(shared: &Shared, opening: &Opening) -> Option<Rc<RefCell<Self>>> {
        let config = &shared.config;
        let Opening { destination, policy, inspection, expected, .. } = *opening;
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
        let mut this = Self {
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
            mode: config.mode,
            wanted,
            recorder: Recorder {
                labels: opening.labels(shared),
                peer,
                place: Place {
                    sends: front.is_some_and(|front| front.send.is_some()),
                    holds: holds != HoldSplitEof::Off,
                    clears_tls: clears.ssl,
                    ..opening.place()
                },
                rule: policy.name.clone(),
                scope: None,
                state: shared.access_log.as_ref().map(|_| Box::default()),
            },
            share: Share::default(),
        };
        let bytes = this.memory();
        if !shared.has_room(bytes) {
            return None;
        }
        this.take_share(shared, bytes);
        Some(Rc::new(RefCell::new(this)))
    }

    /// Memory of a connection at the host's side that is not inspected, in bytes.
    const fn least_state() -> usize {
        // The entry in the list of connections and the context are what the rest is for.
        size_of::<RefCell<Self>>().saturating_add(size_of::<State>()).saturating_add(128)
    }

    /// What its state takes of the budget, in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        self.share.bytes()
    }

    fn take_share(&mut self, shared: &Shared, bytes: usize) {
        shared.count_state(self.share.bytes(), bytes);
        self.share.set(bytes);
    }

    fn memory(&self) -> usize {
        self.connection.memory().saturating_add(Self::least_state())
    }

    /// A newer configuration than its own came while the connection was open, with another mode.
    pub(super) fn follows(&self, newest: &Told) -> bool {
        newest.mode != self.mode && self.connection.opened() < newest.since
    }

    /// [`Tracked::tick`] has something to do.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.connection.is_due(now) || self.recorder.state.as_ref().is_some_and(|state| state.is_due())
    }

    /// Takes what `sender` sent.
    pub(super) fn data(
        &mut self,
        shared: &Shared,
        sender: Sender,
        chunk: &impl Chunk,
        end_stream: bool,
    ) -> Verdict {
        self.handle(shared, |connection, recorder, events, notes| {
            let mut clock = Clock::new(&host::now);
            let mut drain = |events: &mut Vec<Event>, notes: &mut Notes| {
                recorder.record(shared, None, events, notes);
                events.clear();
                notes.clear();
            };
            let mut out =
                Output::new(events, &mut clock, notes).with_drain(&mut drain).with_room(shared.room());
            connection.handle_data(sender, chunk, end_stream, &mut out)
        })
    }

    /// Lets the connection take something and records what it tells.
    fn handle<T>(
        &mut self,
        shared: &Shared,
        what: impl FnOnce(&mut Connection, &mut Recorder, &mut Vec<Event>, &mut Notes) -> T,
    ) -> T {
        let (mut events, mut notes) = shared.lists();
        notes.wanted = self.wanted;
        let Self { connection, recorder, .. } = self;
        let answer = what(connection, recorder, &mut events, &mut notes);
        self.take_share(shared, self.memory());
        if !shared.has_room(0) {
            self.connection.handle_memory(&mut events);
            self.take_share(shared, self.memory());
        }
        self.recorder.record(shared, Some(&mut self.connection), &events, &mut notes);
        if let Some(state) = &mut self.recorder.state {
            // The account that this callback named is not kept until the next one begins.
            state.callback_begins();
        }
        shared.put_back(events, notes);
        answer
    }

    /// Some time has gone by; `newer` is the mode of a newer configuration. What was not looked at before
    /// cannot be followed from its middle, so nothing but `off` changes how an open connection is seen.
    /// `is_too_large`: its state is more than its share of the budget.
    pub(super) fn tick(&mut self, shared: &Shared, now: Timestamp, newer: Option<Mode>, is_too_large: bool) {
        self.mode = newer.unwrap_or(self.mode);
        let inert = newer.is_some_and(|mode| mode != Mode::Active);
        self.wanted.files &= !inert;
        let (held, verdict) = self.handle(shared, |connection, _, events, _| {
            if newer == Some(Mode::Off) {
                connection.handle_off(events);
            }
            if is_too_large {
                connection.handle_memory(events);
            }
            (inert && connection.handle_inert(events), connection.handle_tick(now, events))
        });
        if let (Some(keys), Some(state)) = (&shared.access_log, &mut self.recorder.state) {
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

    /// The connection has ended; `by` says who ended it where the traffic does not.
    pub(super) fn close(&mut self, shared: &Shared, by: impl FnOnce() -> ClosedBy) {
        self.handle(shared, |connection, _, events, notes| {
            let mut clock = Clock::new(&host::now);
            if notes.wanted.slow_after.is_some() {
                connection.note_unanswered(clock.now(), notes);
            }
            connection.handle_close(&mut clock, by, events);
        });
        self.take_share(shared, 0);
    }
}

impl Recorder {
    /// Records what happened. Where no rule names the destination it is Envoy's cluster, which is
    /// chosen after this filter's first callback: so it is asked for when there is something to record.
    /// `connection`: `None` if the callback goes on.
    fn record(
        &mut self,
        shared: &Shared,
        connection: Option<&mut Connection>,
        events: &[Event],
        notes: &mut Notes,
    ) {
        if events.is_empty() {
            return;
        }
        let Self { labels, rule, scope, .. } = self;
        let scope = *scope.get_or_insert_with(|| shared.scope(labels, &destination(rule.as_deref())));
        shared.record(scope, events);
        if let (Some(keys), Some(state)) = (&shared.access_log, &mut self.state) {
            state.take(keys, events, notes, &shared.journal);
            if let Some(source) = connection.as_ref().and_then(|connection| connection.source()) {
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
                Event::Opaque(OpaqueReason::Memory) => advice::out_of_memory(&shared.journal, &self.place),
                Event::ProtectionLost(reason) => {
                    rewrites::protection_lost(&shared.journal, &self.place, *reason);
                }
                Event::LocalInfileBlocked => rewrites::file_blocked(&shared.journal, &self.place),
                Event::TlsCleared => shared.told_tls.cleared(&shared.journal, &self.place),
                _ => {}
            }
        }
        let Some(connection) = connection else { return };
        if let Some(refusal) = connection.take_refusal() {
            advice::refused(&shared.journal, &self.place, self.peer, &refusal);
        }
        if let Some(report) = connection.take_report() {
            let version = crate::version::VERSION;
            shared
                .journal
                .line(Level::Warn, || format!("event=opaque reason=desync version={version} {report}"));
        }
    }
}

/// What the label `destination` says: the rule's name, or Envoy's cluster.
pub(super) fn destination(rule: Option<&str>) -> Cow<'_, str> {
    match rule {
        Some(name) => name.into(),
        None => cluster_name().map_or("passthrough".into(), Cow::from),
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
