//! The stream context: one Envoy connection. It translates callbacks into the core's terms, and its verdicts into
//! host calls. No callback waits for anybody but for a PROXY header, where a rule says so.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use super::host::{self, Buffer};
use super::shared::Shared;
use super::tracked::{Opening, Tracked};
use super::unfollowed::Unfollowed;
use crate::connection::{Chunk, Edit, Verdict};
use crate::event::{ClosedBy, Sender};
use crate::metrics::label_value;

/// In the attribute `response.flags`: Envoy's `CoreResponseFlag::UpstreamRemoteReset`, `UR`, which `tcp_proxy` sets when
/// the server resets an established connection. Envoy 1.37 and older set nothing.
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;

/// One Envoy connection.
pub(super) struct Stream {
    context_id: u32,
    /// None: the plugin was not configured, and its connections just pass.
    shared: Option<Rc<Shared>>,
    state: State,
}

/// From the first callback to the close, unless it is [`State::None`].
#[derive(Default)]
enum State {
    #[default]
    None,
    Tracked(Rc<RefCell<Tracked>>),
    Unfollowed(Box<Unfollowed>),
}

impl Stream {
    pub(super) fn new(context_id: u32, shared: Option<Rc<Shared>>) -> Self {
        Self { context_id, shared, state: State::None }
    }

    fn data(&mut self, sender: Sender, buffer: Buffer, size: usize, end_stream: bool) -> Action {
        let Some(shared) = &self.shared else { return Action::Continue };
        let verdict = match &mut self.state {
            State::None => Verdict::Pass,
            State::Tracked(tracked) => match tracked.try_borrow_mut() {
                Ok(mut tracked) => tracked.data(shared, sender, &HostChunk { buffer, size }, end_stream),
                Err(_) => Verdict::Pass,
            },
            State::Unfollowed(connection) if connection.is_refused() => {
                Verdict::Edit(Edit { drain: size, prepend: Vec::new() })
            }
            State::Unfollowed(connection) => {
                connection.data(shared, sender, size, end_stream);
                Verdict::Pass
            }
        };
        match verdict {
            Verdict::Pass => Action::Continue,
            Verdict::Hold => Action::Pause,
            Verdict::Close => close(shared),
            Verdict::Edit(edit) => {
                match host::edit_front(buffer, edit.drain, &edit.prepend) {
                    Ok(()) => Action::Continue,
                    // What was not removed would be handed on to the server.
                    Err(status) => {
                        shared.refused("set_buffer_bytes", status);
                        close(shared)
                    }
                }
            }
        }
    }

    fn close(&mut self, by: impl FnOnce() -> ClosedBy) {
        let Some(shared) = &self.shared else { return };
        match std::mem::take(&mut self.state) {
            State::None => return,
            State::Tracked(tracked) => {
                if let Ok(mut tracked) = tracked.try_borrow_mut() {
                    tracked.close(shared, by);
                }
                shared.forget(self.context_id);
            }
            State::Unfollowed(mut connection) => connection.close(shared, by),
        }
        // A plugin that has ended ticks no more.
        if shared.has_ended() {
            shared.end();
        }
    }
}

/// Ends the connection of this callback, whose bytes stay where they are.
fn close(shared: &Shared) -> Action {
    if let Err(status) = host::close() {
        shared.refused("close_stream", status);
    }
    Action::Pause
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
        let opening = Opening::read(&shared.config);
        let Some(tracked) = Tracked::begin(shared, &opening) else {
            let connection = Unfollowed::begin(shared, &opening);
            let is_refused = connection.is_refused();
            self.state = State::Unfollowed(Box::new(connection));
            return if is_refused { close(shared) } else { Action::Continue };
        };
        shared.watch(self.context_id, Rc::downgrade(&tracked));
        let waits = tracked.try_borrow().is_ok_and(|tracked| tracked.connection.holds_connection());
        self.state = State::Tracked(tracked);
        if waits { Action::Pause } else { Action::Continue }
    }

    fn on_downstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        self.data(Sender::Client, Buffer::DownstreamData, size, end_stream)
    }

    fn on_upstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        // Envoy cannot hold the server's bytes: a Pause here would leave them in another connection's buffer.
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

/// The cluster that Envoy chose, as a label value; none before it chose.
pub(super) fn cluster_name() -> Option<String> {
    let name = attribute("xds\0cluster_name").or_else(|| attribute("cluster_name"))?;
    let name = label_value(std::str::from_utf8(&name).ok()?);
    (!name.is_empty()).then_some(name)
}

fn response_flags() -> u64 {
    integer("response\0flags").unwrap_or(0)
}

/// An attribute of the connection, where the host has it; a refusal is the same as an absence.
pub(super) fn attribute(path: &str) -> Option<Vec<u8>> {
    host::property(path).ok().flatten()
}

pub(super) fn integer(path: &str) -> Option<u64> {
    attribute(path)?.try_into().ok().map(u64::from_le_bytes)
}
