//! Holds the end of a COM_STMT_PREPARE response, from the last column definition on, until the final EOF has arrived.
//!
//! A client that has read the last definition may continue before the EOF arrives: see [`crate::mysql::peer::bug_106252`].
//! Envoy cannot hold bytes of the server. So the stage removes the bytes of an incomplete end and puts them back before the
//! server's next bytes. The protocol guarantees next bytes, because the EOF is still missing. If the server ends its stream
//! instead, the stage puts the held bytes back with that end. A reset loses them, because the host reports it too late.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::{Seen, Stage};
use crate::event::output::Output;
use crate::event::{ClosedBy, Event};
use crate::rules::{HoldSplitEof, Rules};

/// Held responses of one connection.
#[derive(Debug)]
pub(in crate::connection) struct PrepareHolder {
    clients: HoldSplitEof,
    /// True while an end is held.
    is_holding: bool,
}

impl Stage for PrepareHolder {
    const USES_LANDMARKS: bool = true;

    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        let clients = rules.hold_split_eof;
        (clients != HoldSplitEof::Off).then_some(Self { clients, is_holding: false })
    }

    fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, out: &mut Output) -> Flow {
        let is_affected = self.clients == HoldSplitEof::Always || seen.marks.is_affected_client;
        let tail = seen.marks.prepare_tail.filter(|_| is_affected && !seen.end_stream);
        let before = std::mem::take(&mut self.is_holding);
        if let Some(from) = tail {
            self.is_holding = rewrite.withhold_from(from);
            // An end that begins in this chunk belongs to another response.
            if self.is_holding && !(before && from == 0) {
                out.events.push(Event::PrepareEofHeld);
            }
        }
        Flow::Continue
    }

    fn close(&self, by: ClosedBy, withheld: bool, out: &mut Output) {
        if withheld && self.is_holding && by != ClosedBy::Client {
            out.events.push(Event::PrepareEofLost);
        }
    }
}
