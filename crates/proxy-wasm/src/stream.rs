//! The stream context: one Envoy connection. It translates callbacks into calls of the filter, and verdicts into host calls.
//! A callback pauses the connection only while it waits for a PROXY header that a rule requires.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use firstword::connection::chunk::{Chunk, ClientVerdict, Edit, ServerVerdict};
use firstword::event::Sender;
use firstword::filter::host::Host;
use firstword::filter::stream;
use firstword::filter::uninspected::UninspectedStream;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use crate::host::{Envoy, connection_info};
use crate::hostcalls::{self, Buffer};
use crate::instance::Instance;

/// One Envoy connection.
pub(crate) struct Stream {
    context_id: u32,
    /// `None` if the plugin refused its configuration. Its connections are then forwarded unchanged.
    instance: Option<Rc<Instance>>,
    state: State,
}

/// State of a connection. It is [`State::None`] only before the first callback and after the close.
#[derive(Default)]
enum State {
    #[default]
    None,
    Inspected(Rc<RefCell<stream::Stream>>),
    Uninspected(Box<UninspectedStream>),
}

impl Stream {
    pub(crate) fn new(context_id: u32, instance: Option<Rc<Instance>>) -> Self {
        Self { context_id, instance, state: State::None }
    }

    fn client(&mut self, size: usize, end_stream: bool) -> Action {
        let Some(instance) = &self.instance else { return Action::Continue };
        let (filter, host, buffer) = (&instance.filter, Envoy::default(), Buffer::DownstreamData);
        let verdict = match &mut self.state {
            State::None => ClientVerdict::Pass,
            State::Inspected(stream) => match stream.try_borrow_mut() {
                Ok(mut stream) => stream.client(filter, &HostChunk { buffer, size }, end_stream, &host),
                Err(_) => ClientVerdict::Pass,
            },
            State::Uninspected(connection) => {
                let edit = connection.data(filter, Sender::Client, size, end_stream, &host);
                edit.map_or(ClientVerdict::Pass, ClientVerdict::Edit)
            }
        };
        match verdict {
            ClientVerdict::Pass => Action::Continue,
            ClientVerdict::Hold => Action::Pause,
            ClientVerdict::Edit(edit) => apply(instance, buffer, &edit),
            ClientVerdict::Close => close(instance),
            // Only rules with `tls` lead to these verdicts, and this shell refuses such rules.
            ClientVerdict::HoldRest(_)
            | ClientVerdict::StartServerTls(_)
            | ClientVerdict::Reply(_)
            | ClientVerdict::HandOver(_)
            | ClientVerdict::Resume(_) => close(instance),
        }
    }

    fn server(&mut self, size: usize, end_stream: bool) {
        let Some(instance) = &self.instance else { return };
        let (filter, host, buffer) = (&instance.filter, Envoy::default(), Buffer::UpstreamData);
        let verdict = match &mut self.state {
            State::None => ServerVerdict::Pass,
            State::Inspected(stream) => match stream.try_borrow_mut() {
                Ok(mut stream) => stream.server(filter, &HostChunk { buffer, size }, end_stream, &host),
                Err(_) => ServerVerdict::Pass,
            },
            State::Uninspected(connection) => {
                let edit = connection.data(filter, Sender::Server, size, end_stream, &host);
                edit.map_or(ServerVerdict::Pass, ServerVerdict::Edit)
            }
        };
        if let ServerVerdict::Edit(edit) = verdict {
            apply(instance, buffer, &edit);
        }
    }

    /// Takes the end of the connection. `closed`: side of the client's connection that closed it; `None` if it is unknown.
    fn close(&mut self, closed: Option<PeerType>) {
        let Some(instance) = &self.instance else { return };
        let (filter, host) = (&instance.filter, Envoy { closed });
        match std::mem::take(&mut self.state) {
            State::None => return,
            State::Inspected(stream) => {
                if let Ok(mut stream) = stream.try_borrow_mut() {
                    stream.close(filter, &host);
                }
                instance.remove(self.context_id);
            }
            State::Uninspected(mut connection) => connection.close(filter, &host),
        }
        // A plugin that has ended gets no more ticks, so the close exports the metrics.
        if filter.has_ended() {
            instance.end();
        }
    }
}

/// Changes the bytes in Envoy's buffer. If Envoy refuses the change, closes the connection, because bytes that had to be
/// removed would be forwarded.
fn apply(instance: &Instance, buffer: Buffer, edit: &Edit) -> Action {
    match hostcalls::edit_front(buffer, edit.drain, &edit.prepend) {
        Ok(()) => Action::Continue,
        Err(error) => {
            instance.filter.check(Err(error), &Envoy::default());
            close(instance)
        }
    }
}

/// Closes the connection of this callback. Its bytes stay in Envoy's buffer.
fn close(instance: &Instance) -> Action {
    let host = Envoy::default();
    instance.filter.check(host.close(), &host);
    Action::Pause
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        // A close callback comes before this one. Without it, Envoy has torn down the connection.
        self.close(None);
        true
    }
}

impl StreamContext for Stream {
    fn on_new_connection(&mut self) -> Action {
        let Some(instance) = &self.instance else { return Action::Continue };
        match stream::Stream::open(&instance.filter, connection_info(), &Envoy::default()) {
            Ok(stream) => {
                let holds_connection = stream.holds_connection();
                let stream = Rc::new(RefCell::new(stream));
                instance.add(self.context_id, Rc::downgrade(&stream));
                self.state = State::Inspected(stream);
                if holds_connection { Action::Pause } else { Action::Continue }
            }
            Err(connection) => {
                self.state = State::Uninspected(Box::new(connection));
                if connection.is_refused() { close(instance) } else { Action::Continue }
            }
        }
    }

    fn on_downstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        crate::traps::inject(size);
        self.client(size, end_stream)
    }

    fn on_upstream_data(&mut self, size: usize, end_stream: bool) -> Action {
        // Envoy cannot hold the server's bytes, because a Pause here would leave them in another connection's buffer.
        self.server(size, end_stream);
        Action::Continue
    }

    fn on_downstream_close(&mut self, peer_type: PeerType) {
        self.close(Some(peer_type));
    }
}

/// Bytes of one callback, still in Envoy's buffer.
struct HostChunk {
    buffer: Buffer,
    size: usize,
}

impl Chunk for HostChunk {
    fn len(&self) -> usize {
        self.size
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        hostcalls::buffer(self.buffer, start, max).ok().map(Bytes::from)
    }
}
