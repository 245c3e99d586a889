//! Results of inspection that stages need. Offsets are those of the inspected chunk.

use crate::event::{OpaqueReason, Sender};
use crate::mysql::wire::capability::Capabilities;

/// Places in a chunk of the server where stages may change bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landmarks {
    /// Start of the end of a COM_STMT_PREPARE response, which begins with the last column definition. `None` if the response
    /// is complete or no such response is in progress. 0 if the end began in an earlier chunk.
    pub prepare_tail: Option<usize>,
    /// Start of an incomplete packet that can become a file request, or hide one from the client. `None` if there is no such
    /// packet. 0 if it began in an earlier chunk.
    pub open_packet: Option<usize>,
    /// File request that the client's statement does not allow. It is the last packet that was inspected. `None` if there is
    /// no such request.
    pub file_request: Option<PacketStart>,
    /// True if the client hangs when the final EOF of a COM_STMT_PREPARE response arrives late.
    pub is_affected_client: bool,
}

/// Start of a packet of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStart {
    /// Offset of its header; 0 if it began in an earlier chunk.
    pub at: usize,
    /// Sequence id of the packet.
    pub sequence_id: u8,
    /// Capabilities that client and server share.
    pub capabilities: Capabilities,
}

/// End of inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectionEnd {
    /// Reason for the end.
    pub reason: OpaqueReason,
    /// Peer whose bytes ended it.
    pub sender: Sender,
    /// True if the connection is, or is expected to be, MySQL.
    pub is_mysql: bool,
    /// Last packet of the server. `None` if no packet was inspected.
    pub last_packet: Option<PacketStart>,
    /// True if the client waits for the response to a command.
    pub in_command_phase: bool,
}

impl InspectionEnd {
    /// True if a peer broke the protocol, so that the rest cannot be followed.
    #[cfg(not(target_family = "wasm"))]
    pub(in crate::connection) fn is_broken(&self) -> bool {
        matches!(self.reason, OpaqueReason::Desync | OpaqueReason::NotMysql)
    }
}
