//! What stages need to know about a chunk that the inspector has seen. Offsets are those of the inspected chunk.

use crate::event::{OpaqueReason, Sender};
use crate::mysql::wire::capability::Capabilities;

/// Places in a chunk of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landmarks {
    /// Start of the end of a COM_STMT_PREPARE response, from its last column definition on; `None` if it is complete or
    /// no such response is in progress. 0 if it began in an earlier chunk.
    pub prepare_tail: Option<usize>,
    /// Start of an incomplete packet that can become a file request, or hide one from the client. 0 if it began in an
    /// earlier chunk.
    pub open_packet: Option<usize>,
    /// A file request that the client's statement does not allow. It is the last packet that was inspected.
    pub file_request: Option<PacketStart>,
    /// True if the client hangs when the final EOF of a COM_STMT_PREPARE response arrives late.
    pub is_affected_client: bool,
}

/// Start of a packet of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStart {
    /// Offset of its header; 0 if it began in an earlier chunk.
    pub at: usize,
    /// Its sequence id.
    pub sequence_id: u8,
    /// Capabilities that client and server share.
    pub capabilities: Capabilities,
}

/// The end of inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why it ended.
    pub reason: OpaqueReason,
    /// The peer whose bytes ended it.
    pub sender: Sender,
    /// True if the connection is, or is expected to be, MySQL.
    pub is_mysql: bool,
    /// The server's last packet; `None` if none was inspected.
    pub last_packet: Option<PacketStart>,
    /// True if the client waits for the response to a command.
    pub in_command_phase: bool,
}
