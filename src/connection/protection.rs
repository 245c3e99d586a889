//! The end of a connection on which `block_local_infile` can no longer be enforced.
//!
//! Inspection ends where the packets contradict the protocol. A rogue server can bring that about, and would then get the
//! files that it asks for. So such a connection ends as one does on which a request was blocked: nothing passes from the
//! packet on that could not be followed, in either direction, and the next tick closes both sides.

use super::{Chunk, Connection, State, Verdict};
use crate::connection::stages::block_local_infile::failure;
use crate::event::{Event, OpaqueReason, Phase, ProtectionLost, Protocol, Sender};

/// What the client must not get of the server's chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Offset of the first byte that it must not get.
    pub(super) from: usize,
    /// What it gets in the place of the rest: an error, if it waits for a response.
    pub(super) instead: Vec<u8>,
}

impl Connection {
    /// Inspection is about to end for `reason`, because of bytes of `sender`.
    pub(super) fn protect(&mut self, sender: Sender, reason: OpaqueReason, events: &mut Vec<Event>) {
        let is_expected = self.recognised == Some(Protocol::Mysql) || self.expected == Protocol::Mysql;
        let reason = match reason {
            OpaqueReason::Desync => ProtectionLost::Desync,
            OpaqueReason::Memory => ProtectionLost::Memory,
            // A client may send a PROXY header in front of its session.
            OpaqueReason::NotMysql if sender == Sender::Server && is_expected => ProtectionLost::NotMysql,
            _ => return,
        };
        if !self.block_local_infile || self.is_cut {
            return;
        }
        self.is_cut = true;
        events.push(Event::ProtectionLost(reason));
        if sender == Sender::Server {
            self.lost = Some(match &self.state {
                State::Mysql(mysql) => {
                    let (from, sequence_id) = mysql.newest_server_packet();
                    let is_command = mysql.session.phase() == Phase::Command;
                    let capabilities = mysql.session.capabilities();
                    let instead = if is_command { failure(sequence_id, capabilities) } else { Vec::new() };
                    Lost { from, instead }
                }
                State::Detecting(_) | State::Opaque { .. } => Lost { from: 0, instead: Vec::new() },
            });
        }
    }

    /// What passes of the server's chunk in which the protection was lost; `None` if it was not.
    pub(super) fn replace_lost(&mut self, chunk: &impl Chunk) -> Option<Verdict> {
        let lost = self.lost.take()?;
        Some(self.held.replace(chunk, lost.from, &lost.instead))
    }
}
