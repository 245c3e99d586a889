//! The start of one connection whose client's TLS ends in another listener: its first part in the core, and its events.
//!
//! The stream of the second listener counts the connection. This one counts only why the client's TLS did not start.

use super::Filter;
use super::host::{ConnectionInfo, Host};
use super::policy::ConnectionPolicy;
use super::recorder::Recorder;
use crate::connection::chunk::{Chunk, ClientVerdict, ServerVerdict};
use crate::connection::clear_start::ClearStart;
use crate::event::Event;
use crate::event::details::Details;

/// Connection of a client that has not started TLS.
pub struct ClearStream {
    start: ClearStart,
    recorder: Recorder,
}

impl ClearStream {
    /// Opens the stream of a connection that begins now, without TLS. `None` if no rule ends TLS of such connections.
    #[must_use]
    pub fn open(filter: &Filter, info: ConnectionInfo) -> Option<Self> {
        let policy = ConnectionPolicy::new(&filter.config, info);
        policy.rule.terminate_tls.then(|| Self {
            start: ClearStart::default(),
            recorder: Recorder {
                labels: policy.labels(),
                peer: None,
                to: policy.destination(),
                rule: policy.rule.name.clone(),
                scope: None,
                state: None,
            },
        })
    }

    /// Takes bytes of the client. `chunk` begins with the bytes that were held before. `end_stream`: no bytes follow.
    pub fn client(
        &mut self,
        filter: &Filter,
        chunk: &impl Chunk,
        end_stream: bool,
        host: &dyn Host,
    ) -> ClientVerdict {
        self.run(filter, host, |start, events| start.client(chunk, end_stream, events))
    }

    /// Takes bytes of the second listener.
    pub fn server(&mut self, filter: &Filter, chunk: &impl Chunk, host: &dyn Host) -> ServerVerdict {
        self.run(filter, host, |start, events| start.server(chunk, events))
    }

    /// Takes the server's bytes from the partner. Returns true if the host must send them to the client.
    pub fn handed_over(&mut self) -> bool {
        self.start.handed_over()
    }

    /// True if the host must close the connection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.start.is_refused()
    }

    fn run<T>(
        &mut self,
        filter: &Filter,
        host: &dyn Host,
        call: impl FnOnce(&mut ClearStart, &mut Vec<Event>) -> T,
    ) -> T {
        let mut events = Vec::new();
        let result = call(&mut self.start, &mut events);
        self.recorder.record(filter, &events, &mut Details::default(), host);
        result
    }
}
