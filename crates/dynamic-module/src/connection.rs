//! One connection. It translates hooks into calls of the filter, and verdicts into calls of Envoy.
//!
//! Envoy can call a hook of the same connection during a call that resumes or closes it. So these calls come last, when
//! neither the state nor the filter is borrowed.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use firstword::connection::chunk::{Chunk, ClientVerdict as Verdict, Edit, HandOver, HeldRest, Reply};
use firstword::event::{PanicResult, Sender};
use firstword::filter::after_panic::Panicked;
use firstword::filter::clear_stream::ClearStream;
use firstword::filter::host::{ConnectionInfo, Host};
use firstword::filter::stream::Stream;
use firstword::filter::uninspected::UninspectedStream;
use firstword::password_key::{wipe, wiped};
use log::Level;

use crate::abi::ConnectionHandle;
use crate::configuration::{Configuration, SharedFilter, lock};
use crate::host::{Envoy, connection_info};
use crate::panics::{catch, inject};
use crate::partners::Part;
use crate::types::{CloseSide, Status};
use crate::worker::{self, Key, Listed};

/// Filter of one connection.
pub(crate) struct Connection {
    handle: ConnectionHandle,
    configuration: Arc<Configuration>,
    filter: SharedFilter,
    state: RefCell<State>,
    /// True if the client has ended its stream.
    client_ended: Cell<bool>,
    /// `None` if the connection gets no ticks.
    key: Cell<Option<Key>>,
    /// `None` if the connection has no partner.
    part: Cell<Option<Part>>,
}

/// State of a connection. It is [`State::None`] only before the first hook and after the close.
#[derive(Default)]
enum State {
    #[default]
    None,
    Inspected(Box<Stream>),
    Uninspected(Box<UninspectedStream>),
    /// The client has its TLS ended by another listener, whose filter is the partner.
    Clear(Box<ClearStream>),
    /// A hook has panicked. The stream is closed with the connection, and gets no more bytes.
    Panicked(Option<Box<Stream>>, PanicResult),
}

impl Connection {
    pub(crate) fn new(configuration: Arc<Configuration>, handle: ConnectionHandle) -> Self {
        let filter = configuration.worker(handle.worker());
        Self {
            handle,
            configuration,
            filter,
            state: RefCell::default(),
            client_ended: Cell::new(false),
            key: Cell::new(None),
            part: Cell::new(None),
        }
    }

    /// Takes the start of the connection.
    pub(crate) fn opened(self: &Rc<Self>) -> Status {
        catch(|| self.open()).unwrap_or_else(|| self.give_up(Sender::Client, 0))
    }

    /// Takes bytes of a sender.
    pub(crate) fn data(&self, sender: Sender, len: usize, end_stream: bool) -> Status {
        if end_stream && sender == Sender::Client {
            self.client_ended.set(true);
        }
        let inspect = || {
            inject(sender.label());
            self.verdict(sender, len, end_stream)
        };
        match catch(inspect) {
            Some(verdict) => self.apply(sender, verdict),
            None => self.give_up(sender, len),
        }
    }

    /// Takes the end of the connection. Has no effect if it has ended.
    pub(crate) fn closed(&self, side: CloseSide) {
        if let Some(key) = self.key.take() {
            worker::remove(key);
        }
        if let Some(part) = self.part.take() {
            part.remove(self.handle);
        }
        // An inspected stream has seen this itself. After a panic it has not.
        let side = if self.client_ended.get() { CloseSide::Client } else { side };
        let host = Envoy::new(self.handle, Some(side));
        let state = self.state.try_borrow_mut().map(|mut state| std::mem::take(&mut *state));
        let end = || {
            inject("close");
            match state.unwrap_or_default() {
                State::None | State::Clear(_) | State::Panicked(None, _) => {}
                State::Inspected(mut stream) | State::Panicked(Some(mut stream), _) => {
                    stream.close(&lock(&self.filter), &host);
                }
                State::Uninspected(mut stream) => stream.close(&lock(&self.filter), &host),
            }
        };
        if catch(end).is_none() {
            // Envoy has closed the connection, so only the count is left to do.
            catch(|| self.decide_after_panic(None));
        }
    }

    fn open(self: &Rc<Self>) -> Status {
        inject("open");
        self.configuration.use_now();
        if let Some(counter) = self.configuration.unexported() {
            self.handle.count(counter);
        }
        let (host, info) = (Envoy::new(self.handle, None), connection_info(self.handle));
        if let Some(stream) = self.start(info) {
            self.state.replace(State::Clear(Box::new(stream)));
            self.add(true);
            return Status::Continue;
        }
        let opened = Stream::open(&lock(&self.filter), info, &host);
        match opened {
            Ok(stream) => {
                let (holds_connection, has_partner) = (stream.holds_connection(), stream.has_partner());
                self.state.replace(State::Inspected(Box::new(stream)));
                self.add(has_partner);
                if holds_connection { Status::Stop } else { Status::Continue }
            }
            Err(stream) => {
                self.state.replace(State::Uninspected(Box::new(stream)));
                if stream.is_refused() { self.close() } else { Status::Continue }
            }
        }
    }

    /// Returns the stream of a connection without TLS whose rule ends TLS.
    fn start(&self, info: ConnectionInfo) -> Option<ClearStream> {
        if self.handle.is_tls() { None } else { ClearStream::open(&lock(&self.filter), info) }
    }

    /// Adds the connection to the lists of the worker.
    fn add(self: &Rc<Self>, has_partner: bool) {
        let listed: Weak<dyn Listed> = Rc::<Self>::downgrade(self);
        if has_partner {
            self.part.set(Part::add(self.handle, Weak::clone(&listed)));
        }
        self.key.set(Some(worker::add(self.handle, listed)));
    }

    fn verdict(&self, sender: Sender, len: usize, end_stream: bool) -> Verdict {
        let Ok(mut state) = self.state.try_borrow_mut() else { return Verdict::Pass };
        let host = Envoy::new(self.handle, None);
        let chunk = HostChunk { handle: self.handle, sender, len };
        let filter = lock(&self.filter);
        match &mut *state {
            State::None | State::Panicked(_, PanicResult::Passed) => Verdict::Pass,
            State::Panicked(_, PanicResult::Closed) => drop_all(len),
            State::Inspected(stream) => match sender {
                Sender::Client => stream.client(&filter, &chunk, end_stream, &host),
                Sender::Server => stream.server(&filter, &chunk, end_stream, &host).into(),
            },
            State::Uninspected(stream) => {
                let edit = stream.data(&filter, sender, len, end_stream, &host);
                edit.map_or(Verdict::Pass, Verdict::Edit)
            }
            State::Clear(stream) => match sender {
                Sender::Client => stream.client(&filter, &chunk, end_stream, &host),
                Sender::Server => stream.server(&filter, &chunk, &host).into(),
            },
        }
    }

    /// Obeys a verdict. If Envoy refuses a change, closes the connection, because bytes that had to be removed would be
    /// forwarded.
    fn apply(&self, sender: Sender, verdict: Verdict) -> Status {
        match verdict {
            Verdict::Pass => Status::Continue,
            Verdict::Hold => Status::Stop,
            Verdict::Edit(mut edit) => {
                let is_done = self.handle.edit_front(sender, edit.drain, &edit.prepend);
                // They can contain a password.
                wipe(&mut edit.prepend);
                if is_done { Status::Continue } else { self.close() }
            }
            Verdict::HoldRest(rest) => self.hold_rest(sender, &rest),
            Verdict::StartServerTls(edit) if self.handle.start_upstream_tls() => {
                self.apply(sender, Verdict::Edit(edit))
            }
            Verdict::StartServerTls(_) => {
                let line = "event=server_tls result=failed cause=\"Envoy cannot start TLS to this server\" fix=\"give the \
                            cluster the transport socket envoy.transport_sockets.starttls\"";
                Envoy::new(self.handle, None).log(Level::Warn, line);
                self.close()
            }
            Verdict::Reply(reply) => {
                let Reply { edit, bytes, closes } = *reply;
                // If an internal listener closes a connection, Envoy 1.40 resets the client's, and the client loses the reply.
                // So the stream ends here, and the next tick closes the connection.
                let ends = closes && self.part.get().is_some() && self.handle.is_tls();
                self.handle.inject(Sender::Server, &bytes, ends);
                let status = self.apply(sender, Verdict::Edit(edit));
                if closes && !ends { self.close() } else { status }
            }
            Verdict::HandOver(hand_over) => {
                let HandOver { edit, bytes } = *hand_over;
                let partner = self.part.get().and_then(Part::partner);
                let Some(partner) = partner else {
                    let line = "event=client_tls result=failed cause=\"the connection did not pass both listeners that \
                                tls.downstream: terminate needs\" fix=\"let the first listener, without TLS, connect to the \
                                second, with TLS, by an internal address and the PROXY protocol\"";
                    Envoy::new(self.handle, None).log(Level::Warn, line);
                    return self.close();
                };
                partner.take(&bytes);
                self.apply(sender, Verdict::Edit(edit))
            }
            Verdict::Resume(edit) => {
                self.handle.deliver_next_turn();
                self.apply(sender, Verdict::Edit(edit))
            }
            Verdict::Close => self.close(),
        }
    }

    fn hold_rest(&self, sender: Sender, rest: &HeldRest) -> Status {
        if rest.drain > 0 && !self.handle.edit_front(sender, rest.drain, &[]) {
            return self.close();
        }
        if !rest.send.is_empty() {
            self.handle.inject(sender, &rest.send, false);
        }
        if rest.is_due_next_turn {
            self.handle.deliver_next_turn();
        }
        Status::Stop
    }

    /// Closes the connection. Its bytes stay in Envoy's buffer.
    fn close(&self) -> Status {
        self.handle.close();
        Status::Stop
    }

    /// Gives up the connection after a panic in a hook about `len` bytes of `sender`: closes it, or lets it pass. Closes it
    /// if the decision panics too.
    fn give_up(&self, sender: Sender, len: usize) -> Status {
        let stream =
            self.state.try_borrow_mut().ok().and_then(|mut state| match std::mem::take(&mut *state) {
                State::Inspected(stream) => Some(stream),
                _ => None,
            });
        let result = catch(|| self.decide_after_panic(stream.as_deref())).unwrap_or(PanicResult::Closed);
        self.state.replace(State::Panicked(stream, result));
        match result {
            PanicResult::Passed => Status::Continue,
            PanicResult::Closed => {
                self.apply(sender, drop_all(len));
                self.close()
            }
        }
    }

    fn decide_after_panic(&self, stream: Option<&Stream>) -> PanicResult {
        let host = Envoy::new(self.handle, None);
        let whose = match stream {
            Some(stream) => Panicked::Inspected(stream),
            None => Panicked::Uninspected(connection_info(self.handle)),
        };
        lock(&self.filter).after_panic(whose, &host)
    }
}

impl Listed for Connection {
    fn tick(&self) {
        let host = Envoy::new(self.handle, None);
        let tick = || {
            inject("tick");
            let Ok(mut state) = self.state.try_borrow_mut() else { return };
            let stream = match &mut *state {
                State::Inspected(stream) => stream,
                State::Clear(stream) if stream.is_refused() => {
                    lock(&self.filter).check(host.close(), &host);
                    return;
                }
                _ => return,
            };
            let filter = lock(&self.filter);
            if let Some(due) = stream.due(&filter, host.now(), self.configuration.newest()) {
                stream.tick(&filter, due, &host);
            }
        };
        match catch(tick) {
            Some(()) => host.finish(),
            None => {
                self.give_up(Sender::Client, 0);
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        let is_for_client = match &mut *state {
            State::Clear(stream) => stream.handed_over(),
            State::Inspected(stream) => {
                stream.tls_requested();
                false
            }
            _ => false,
        };
        drop(state);
        if is_for_client {
            self.handle.inject(Sender::Server, bytes, false);
        }
    }
}

fn drop_all(len: usize) -> Verdict {
    Verdict::Edit(Edit { drain: len, prepend: Vec::new() })
}

/// Bytes of one hook, still in Envoy's buffer.
struct HostChunk {
    handle: ConnectionHandle,
    sender: Sender,
    len: usize,
}

impl Chunk for HostChunk {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        self.handle.read(self.sender, start, max).map(|bytes| wiped(bytes.into_owned()))
    }

    fn with_bytes<T>(&self, start: usize, max: usize, act: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.handle.read(self.sender, start, max).map(|bytes| act(&bytes))
    }
}
