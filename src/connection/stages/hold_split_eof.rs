//! Holds the end of a COM_STMT_PREPARE response, from the last column definition on, until the final EOF has arrived.
//!
//! A client that has read the last definition may continue before the EOF arrives: see [`crate::mysql::peer::bug_106252`].
//! Envoy cannot hold bytes of the server. So the stage removes the bytes of an incomplete end and puts them back before the
//! server's next bytes. The protocol guarantees next bytes, because the EOF is still missing. If the server ends its stream
//! instead, the stage puts the held bytes back with that end. A reset loses them, because the host reports it too late.

use crate::connection::chunk::Chunk;
use crate::connection::inspector::landmarks::Landmarks;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::event::output::Output;
use crate::event::{ClosedBy, Event};
use crate::rules::HoldSplitEof;

/// Held responses of one connection.
#[derive(Debug)]
pub(in crate::connection) struct Stage {
    clients: HoldSplitEof,
    /// True while an end is held.
    is_holding: bool,
}

impl Stage {
    /// `None` if no response is held.
    pub(super) fn new(clients: HoldSplitEof) -> Option<Self> {
        (clients != HoldSplitEof::Off).then_some(Self { clients, is_holding: false })
    }

    /// Takes a chunk of the server.
    pub(in crate::connection) fn server<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        marks: &Landmarks,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        let is_affected = self.clients == HoldSplitEof::Always || marks.is_affected_client;
        let tail = marks.prepare_tail.filter(|_| is_affected && !end_stream);
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

    /// Takes the end of the connection. `withheld`: bytes of the server are still withheld.
    pub(in crate::connection) fn close(&self, by: ClosedBy, withheld: bool, out: &mut Output) {
        if withheld && self.is_holding && by != ClosedBy::Client {
            out.events.push(Event::PrepareEofLost);
        }
    }
}
