//! Sends a PROXY header to the server, before the client's first bytes.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::{Seen, Stage};
use crate::event::Event;
use crate::event::output::Output;
use crate::proxy_protocol::encode;
use crate::rules::{Rules, SendRules};

/// Header that the server gets.
#[derive(Debug)]
pub(in crate::connection) struct HeaderSender {
    rules: SendRules,
    /// True once there is nothing left to send.
    has_sent: bool,
}

impl Stage for HeaderSender {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        let rules = rules.proxy_header?.send?;
        Some(Self { rules, has_sent: false })
    }

    fn client_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, out: &mut Output) -> Flow {
        if self.rules.only_unless_received && seen.believed.is_some() {
            self.has_sent = true;
        }
        if self.has_sent || rewrite.rest().is_empty() {
            return Flow::Continue;
        }
        self.has_sent = true;
        let endpoints = seen.believed.and_then(|believed| believed.endpoints).or(self.rules.endpoints);
        rewrite.prepend(encode(self.rules.format, endpoints));
        out.events.push(Event::ProxyHeaderSent(self.rules.format));
        Flow::Continue
    }

    fn is_over(&self) -> bool {
        self.has_sent
    }
}
