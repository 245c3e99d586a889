//! Blocks requests of the server for files that the client's statement does not name.
//!
//! The client gets an error as the response to its command. A request is replaced as a whole, with its header. So all bytes
//! that can belong to a request are withheld until the packet is complete: the protocol guarantees the rest of a packet.
//! After that, nothing is forwarded in either direction, because the server waits for the file and would read the client's
//! next command as its content. The next tick closes the connection. An immediate close would overtake the error.
//!
//! Inspection ends when packets violate the protocol. A rogue server can cause that, and would then get the files that it
//! requests. So such a connection ends in the same way.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::inspector::landmarks::{InspectionEnd, PacketStart};
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::{Seen, Stage};
use crate::event::output::Output;
use crate::event::{Event, OpaqueReason, ProtectionLost, Sender};
use crate::mysql::wire::response::error_packet;
use crate::rules::Rules;

/// `ER_CLIENT_LOCAL_FILES_DISABLED`.
const ERRNO: u16 = 3948;
const SQL_STATE: &[u8] = b"42000";
const MESSAGE: &[u8] =
    b"The server asked for a file that the statement does not name (blocked by block_local_infile)";

/// `ER_MALFORMED_PACKET`.
const MALFORMED: u16 = 1835;
const MALFORMED_STATE: &[u8] = b"HY000";
const MALFORMED_MESSAGE: &[u8] =
    b"The server's response does not follow the protocol (connection closed by block_local_infile)";

/// Protection of one connection.
#[derive(Debug)]
pub(in crate::connection) struct FileRequestBlocker {
    /// True once the connection forwards nothing any more.
    blocked: bool,
}

impl FileRequestBlocker {
    fn gate(&self) -> Flow {
        if self.blocked { Flow::Drop } else { Flow::Continue }
    }
}

impl Stage for FileRequestBlocker {
    const USES_LANDMARKS: bool = true;

    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        rules.block_local_infile.then_some(Self { blocked: false })
    }

    fn client_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: bool, _: &mut Output) -> Flow {
        self.gate()
    }

    fn server_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, _: &mut Output) -> Flow {
        self.gate()
    }

    fn server_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, seen: &Seen, _: &mut Output) -> Flow {
        if let Some(request) = seen.marks.file_request {
            self.blocked = true;
            rewrite.replace_from(request.at, &refusal(request));
        } else if let Some(from) = seen.marks.open_packet.filter(|_| !seen.end_stream) {
            rewrite.withhold_from(from);
        }
        Flow::Continue
    }

    fn end_of_inspection<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end: &InspectionEnd,
        out: &mut Output,
    ) -> Flow {
        let Some(reason) = protection_lost(end).filter(|_| !self.blocked) else { return Flow::Continue };
        self.blocked = true;
        out.events.push(Event::ProtectionLost(reason));
        if end.sender == Sender::Client {
            return Flow::Drop;
        }
        match end.last_packet {
            Some(packet) if end.in_command_phase => rewrite.replace_from(packet.at, &failure(packet)),
            Some(packet) => rewrite.replace_from(packet.at, &[]),
            None => rewrite.replace_from(0, &[]),
        }
        Flow::Continue
    }

    fn is_final(&self) -> bool {
        self.blocked
    }
}

/// Reason for which the end of inspection leaves a connection unprotected. `None` if the connection needs no protection.
fn protection_lost(end: &InspectionEnd) -> Option<ProtectionLost> {
    match end.reason {
        OpaqueReason::Desync => Some(ProtectionLost::Desync),
        OpaqueReason::Memory => Some(ProtectionLost::Memory),
        // A client may send a PROXY header before its session.
        OpaqueReason::NotMysql if end.sender == Sender::Server && end.is_mysql => {
            Some(ProtectionLost::NotMysql)
        }
        _ => None,
    }
}

/// Response that replaces a request for a file.
fn refusal(request: PacketStart) -> Vec<u8> {
    error(request, ERRNO, SQL_STATE, MESSAGE)
}

/// Response that replaces a packet that violates the protocol.
fn failure(packet: PacketStart) -> Vec<u8> {
    error(packet, MALFORMED, MALFORMED_STATE, MALFORMED_MESSAGE)
}

fn error(instead_of: PacketStart, errno: u16, state: &[u8], message: &[u8]) -> Vec<u8> {
    error_packet(instead_of.sequence_id, instead_of.capabilities, errno, state, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::wire::capability::Capabilities;

    #[test]
    fn the_error_has_an_sql_state_only_for_clients_with_protocol_41() {
        let capabilities = Capabilities::PROTOCOL_41;
        let with = refusal(PacketStart { at: 0, sequence_id: 7, capabilities });
        assert!(with.starts_with(b"\x65\0\0\x07\xff\x6c\x0f#42000The server"), "{}", with.escape_ascii());
        let without = refusal(PacketStart { at: 0, sequence_id: 1, capabilities: Capabilities::default() });
        assert!(without.starts_with(b"\x5f\0\0\x01\xff\x6c\x0fThe server"), "{}", without.escape_ascii());
        assert_eq!([with.len(), without.len()], [4 + 0x65, 4 + 0x5f]);
    }
}
