//! The stream context: one Envoy connection. It translates callbacks into the core's terms, and always
//! answers Continue: no callback waits for anybody.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use log::Level;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use super::host::{self, Buffer};
use super::shared::{Shared, socket_address};
use crate::clock::Clock;
use crate::config::{self, Mode};
use crate::connection::{Chunk, Connection, Inspection};
use crate::event::{ClosedBy, Direction, Event, OpaqueReason, Protocol, Sender};
use crate::metrics::{ScopeId, ScopeLabel, label_value};
use crate::mysql::session::Observer;
use crate::ports;

/// In the attribute `response.flags`: Envoy's `CoreResponseFlag::UpstreamRemoteReset`, `UR`, which `tcp_proxy` sets when
/// the server resets an established connection.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

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

/// A connection and where its metrics go.
pub(super) struct Tracked {
    pub(super) connection: Connection,
    labels: Labels,
    /// The name of the rule that matched.
    rule: Option<Rc<str>>,
    scope: Option<ScopeId>,
}

impl Tracked {
    /// Records what happened. Where no rule names the destination it is Envoy's cluster, which is
    /// chosen after this filter's first callback: so it is asked for when there is something to record.
    fn record(&mut self, shared: &Shared, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let Self { labels, rule, scope, .. } = self;
        let scope = *scope.get_or_insert_with(|| match rule {
            Some(name) => shared.scope(labels, name),
            None => shared.scope(labels, &cluster_name().unwrap_or_else(|| "passthrough".to_owned())),
        });
        shared.record(scope, events);
        if events.contains(&Event::Opaque(OpaqueReason::Desync)) {
            shared.journal.line(Level::Warn, format_args!("event=opaque reason=desync"));
        }
    }

    /// Lets the connection take something and records what it tells.
    fn handle(&mut self, shared: &Shared, what: impl FnOnce(&mut Connection, &mut Vec<Event>)) {
        let mut events = shared.events();
        what(&mut self.connection, &mut events);
        self.record(shared, &events);
        shared.put_back(events);
    }

    pub(super) fn tick(&mut self, shared: &Shared) {
        self.handle(shared, Connection::handle_tick);
    }
}

/// One Envoy connection.
pub(super) struct Stream {
    context_id: u32,
    /// None: the plugin was not configured, and its connections just pass.
    shared: Option<Rc<Shared>>,
    /// From the first callback to the close.
    tracked: Option<Rc<RefCell<Tracked>>>,
}

impl Stream {
    pub(super) fn new(context_id: u32, shared: Option<Rc<Shared>>) -> Self {
        Self { context_id, shared, tracked: None }
    }

    fn handle(&self, what: impl FnOnce(&mut Connection, &mut Vec<Event>)) {
        let (Some(shared), Some(tracked)) = (&self.shared, &self.tracked) else { return };
        let Ok(mut tracked) = tracked.try_borrow_mut() else { return };
        tracked.handle(shared, what);
    }

    fn data(&self, sender: Sender, buffer: Buffer, size: usize, end_stream: bool) {
        self.handle(|connection, events| {
            let mut clock = Clock::new(&host::now);
            let chunk = HostChunk { buffer, size };
            let mut to = Observer { events, clock: &mut clock };
            connection.handle_data(sender, &chunk, end_stream, &mut to);
        });
    }

    fn close(&mut self, by: impl FnOnce() -> ClosedBy) {
        self.handle(|connection, events| connection.handle_close(by, events));
        if self.tracked.take().is_some() {
            // A plugin that has ended ticks no more.
            if let Some(shared) = self.shared.as_ref().filter(|shared| shared.has_ended()) {
                shared.end();
            }
        }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        // The close comes before; where it did not, Envoy has torn the connection down.
        self.close(|| ClosedBy::Proxy);
        true
    }
}

impl StreamContext for Stream {
    fn on_new_connection(&mut self) -> Action {
        let Some(shared) = &self.shared else { return Action::Continue };
        let tracked = Rc::new(RefCell::new(begin(shared)));
        shared.watch(self.context_id, Rc::downgrade(&tracked));
        self.tracked = Some(tracked);
        Action::Continue
    }

    fn on_downstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        self.data(Sender::Client, Buffer::DownstreamData, size, end_stream);
        Action::Continue
    }

    fn on_upstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        self.data(Sender::Server, Buffer::UpstreamData, size, end_stream);
        Action::Continue
    }

    fn on_downstream_close(&mut self, peer_type: PeerType) {
        self.close(|| match peer_type {
            PeerType::Remote => ClosedBy::Client,
            _ if response_flags() & UPSTREAM_REMOTE_RESET != 0 => ClosedBy::Server,
            _ => ClosedBy::Proxy,
        });
    }
}

/// The bytes of one callback, still in Envoy's buffer.
struct HostChunk {
    buffer: Buffer,
    size: usize,
}

impl Chunk for HostChunk {
    fn len(&self) -> usize {
        self.size
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        host::buffer(self.buffer, start, max).ok().map(Bytes::from)
    }
}

/// Reads once what is needed of a new connection's attributes.
fn begin(shared: &Shared) -> Tracked {
    let direction = match integer("xds\0listener_direction") {
        Some(1) => Direction::Inbound,
        Some(2) => Direction::Outbound,
        _ => Direction::Unspecified,
    };
    let destination = attribute("destination\0address").and_then(|text| socket_address(&text));
    let (address, port) = destination.unzip();
    let policy = shared.config.policy(port, address, direction);
    let hint = port.map_or(Protocol::Unknown, ports::expected);
    let (inspection, expected) = match (shared.config.mode, policy.protocol) {
        (Mode::Off, _) | (_, config::Protocol::Opaque) => (Inspection::Nothing, Protocol::Opaque),
        (_, config::Protocol::Mysql) => (Inspection::Full, Protocol::Mysql),
        (_, config::Protocol::ServerFirst) => (Inspection::FirstBytes, Protocol::ServerFirst),
        (_, config::Protocol::Detect) => (Inspection::Full, hint),
    };
    let named = port.filter(|port| shared.is_named(*port));
    Tracked {
        connection: Connection::new(inspection, expected, host::now()),
        labels: Labels { direction, port: named.map_or("other".into(), |port| port.to_string().into()) },
        rule: policy.name.as_deref().map(Rc::from),
        scope: None,
    }
}

fn cluster_name() -> Option<String> {
    let name = attribute("xds\0cluster_name").or_else(|| attribute("cluster_name"))?;
    let name = label_value(std::str::from_utf8(&name).ok()?);
    (!name.is_empty()).then_some(name)
}

fn response_flags() -> u64 {
    integer("response\0flags").unwrap_or(0)
}

/// An attribute, where the host has it; a refusal is the same as an absence.
fn attribute(path: &str) -> Option<Vec<u8>> {
    host::property(path).ok().flatten()
}

fn integer(path: &str) -> Option<u64> {
    attribute(path)?.try_into().ok().map(u64::from_le_bytes)
}
