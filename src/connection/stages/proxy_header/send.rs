//! Sends a PROXY header to the server, before the client's first bytes.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::proxy_header::Believed;
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
        if !rewrite.rest().is_empty() {
            if let Some(header) = self.take_header(seen.believed, out) {
                rewrite.prepend(header);
            }
        }
        Flow::Continue
    }

    fn is_over(&self) -> bool {
        self.has_sent
    }
}

impl HeaderSender {
    /// Returns the header, because the first bytes for the server follow. `None` if the server gets none, or has got it.
    pub(in crate::connection) fn take_header(
        &mut self,
        believed: Option<Believed>,
        out: &mut Output,
    ) -> Option<Vec<u8>> {
        let is_needless = self.rules.only_unless_received && believed.is_some();
        if std::mem::replace(&mut self.has_sent, true) || is_needless {
            return None;
        }
        let endpoints = believed.and_then(|believed| believed.endpoints).or(self.rules.endpoints);
        out.events.push(Event::ProxyHeaderSent(self.rules.format));
        Some(encode(self.rules.format, endpoints))
    }
}
