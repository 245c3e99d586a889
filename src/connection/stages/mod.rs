//! Stages: each changes, holds or drops bytes for one feature. A stage that is not needed is absent, and its absence costs
//! one comparison.

pub(super) mod block_local_infile;
pub(super) mod clear_capabilities;
pub(super) mod hold_split_eof;
pub(super) mod proxy_header;

use std::mem::size_of;

use crate::clock::Timestamp;
use crate::connection::chunk::TickVerdict;
use crate::connection::rewrite::Flow;
use crate::connection::stages::proxy_header::{guard, receive, send};
use crate::event::output::Output;
use crate::rules::Rules;

/// Stages of one connection.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) proxy_receive: Option<Box<receive::Stage>>,
    pub(super) proxy_guard: Option<Box<guard::Stage>>,
    pub(super) proxy_send: Option<Box<send::Stage>>,
    pub(super) clear_capabilities: Option<Box<clear_capabilities::Stage>>,
    pub(super) block_local_infile: Option<Box<block_local_infile::Stage>>,
    pub(super) hold_split_eof: Option<Box<hold_split_eof::Stage>>,
    /// Heap memory in bytes. It is stored because every callback needs it, and it changes only when a stage is removed.
    memory: usize,
}

/// Runs a stage if it is present.
pub(super) fn run<S>(stage: &mut Option<Box<S>>, call: impl FnOnce(&mut S) -> Flow) -> Flow {
    stage.as_mut().map_or(Flow::Continue, |stage| call(stage))
}

impl Stages {
    /// Creates the stages that `rules` require.
    pub(super) fn new(rules: &Rules, opened: Timestamp) -> Self {
        let headers = rules.proxy_header;
        let server_first = rules.expected.is_server_first();
        let mut stages = Self {
            proxy_receive: headers
                .map(|headers| receive::Stage::new(headers.receive, server_first, opened))
                .map(Box::new),
            proxy_guard: headers.map(|_| Box::default()),
            proxy_send: headers.and_then(|headers| headers.send).map(send::Stage::new).map(Box::new),
            clear_capabilities: clear_capabilities::Stage::new(rules.clear_capabilities).map(Box::new),
            block_local_infile: rules.block_local_infile.then(Box::default),
            hold_split_eof: hold_split_eof::Stage::new(rules.hold_split_eof).map(Box::new),
            memory: 0,
        };
        stages.memory = stages.count_memory();
        stages
    }

    /// Frees the stages that have finished.
    pub(super) fn drop_finished(&mut self) {
        let is_over = self.proxy_guard.as_ref().is_some_and(|stage| stage.is_over())
            || self.proxy_send.as_ref().is_some_and(|stage| stage.has_sent())
            || self.proxy_receive.as_ref().is_some_and(|stage| stage.is_over())
            || self.clear_capabilities.as_ref().is_some_and(|stage| stage.is_over());
        if !is_over {
            return;
        }
        self.proxy_guard.take_if(|stage| stage.is_over());
        self.proxy_send.take_if(|stage| stage.has_sent());
        let needs_receive = self.proxy_send.is_some();
        self.proxy_receive.take_if(|stage| stage.is_over() && !needs_receive);
        self.clear_capabilities.take_if(|stage| stage.is_over());
        self.memory = self.count_memory();
    }

    /// True if the host must not connect to the server before a chunk of the client gets a verdict other than hold.
    pub(super) fn holds_connection(&self) -> bool {
        self.proxy_receive.as_ref().is_some_and(|stage| stage.holds_connection())
    }

    /// True if a stage reads the landmarks of the server's chunks.
    pub(super) fn need_landmarks(&self) -> bool {
        self.block_local_infile.is_some() || self.hold_split_eof.is_some()
    }

    /// True if [`Stages::tick`] closes the connection.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.proxy_receive.as_ref().is_some_and(|stage| stage.is_overdue(now)) || self.is_blocked()
    }

    /// Closes the connection if its PROXY header has not arrived in time, or if it forwards nothing any more.
    pub(super) fn tick(&mut self, now: Timestamp, out: &mut Output) -> TickVerdict {
        if let Some(stage) = self.proxy_receive.as_mut().filter(|stage| stage.is_overdue(now)) {
            stage.time_out(out);
            return TickVerdict::Close;
        }
        if self.is_blocked() { TickVerdict::Close } else { TickVerdict::Continue }
    }

    /// True once the connection forwards nothing any more.
    pub(super) fn is_blocked(&self) -> bool {
        self.block_local_infile.as_ref().is_some_and(|stage| stage.gate() == Flow::Drop)
    }

    /// Heap memory in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Sums the memory of all stages. The maximum of the guard counts from the start, because a guard cannot give memory
    /// back before the connection ends.
    fn count_memory(&self) -> usize {
        fn of<S>(stage: &Option<Box<S>>) -> usize {
            stage.as_ref().map_or(0, |_| size_of::<S>())
        }
        let guard = self.proxy_guard.as_ref().map_or(0, |_| guard::MAX_MEMORY);
        let Self {
            proxy_receive,
            proxy_guard,
            proxy_send,
            clear_capabilities,
            block_local_infile,
            hold_split_eof,
            memory: _,
        } = self;
        [
            of(proxy_receive),
            of(proxy_guard),
            guard,
            of(proxy_send),
            of(clear_capabilities),
            of(block_local_infile),
            of(hold_split_eof),
        ]
        .iter()
        .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Removes every stage, except one that has already refused the connection, because such a connection must forward
    /// nothing until it is closed. Returns the number of held bytes of the client. `None` if neither bytes nor the connection
    /// to the server are held.
    pub(super) fn disable(&mut self) -> Option<usize> {
        // Without `..`, so that the compiler reports a stage that is missing here.
        let Self {
            proxy_receive,
            proxy_guard,
            proxy_send,
            clear_capabilities,
            block_local_infile,
            hold_split_eof,
            memory: _,
        } = self;
        block_local_infile.take_if(|stage| stage.gate() == Flow::Continue);
        (*clear_capabilities, *hold_split_eof) = (None, None);
        proxy_guard.take_if(|stage| !stage.has_refused());
        let receive = proxy_receive.take_if(|stage| !stage.has_refused());
        *proxy_send = None;
        self.memory = self.count_memory();
        receive.filter(|stage| stage.held() > 0 || stage.holds_connection()).map(|stage| stage.held())
    }
}
