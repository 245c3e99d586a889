//! Sends a PROXY header to the server, before the client's first bytes.

use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::proxy_header::receive::Believed;
use crate::event::Event;
use crate::event::output::Output;
use crate::proxy_protocol::encode;
use crate::rules::SendRules;

/// Header that the server gets.
#[derive(Debug)]
pub(in crate::connection) struct Stage {
    rules: SendRules,
    has_sent: bool,
}

impl Stage {
    pub(in crate::connection) fn new(rules: SendRules) -> Self {
        Self { rules, has_sent: false }
    }

    /// True once there is nothing left to send.
    pub(in crate::connection) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Takes a chunk of the client. `believed`: the header that the client sent, if it is believed.
    pub(in crate::connection) fn client<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        believed: Option<Believed>,
        out: &mut Output,
    ) -> Flow {
        if self.rules.only_unless_received && believed.is_some() {
            self.has_sent = true;
        }
        if self.has_sent || rewrite.rest().is_empty() {
            return Flow::Continue;
        }
        self.has_sent = true;
        let endpoints = believed.and_then(|believed| believed.endpoints).or(self.rules.endpoints);
        rewrite.prepend(encode(self.rules.format, endpoints));
        out.events.push(Event::ProxyHeaderSent(self.rules.format));
        Flow::Continue
    }
}
