//! What a client gets in the place of a request for a file that its statement does not name: an error, as the answer to
//! its command.
//!
//! A request is replaced whole, with its header, so its bytes are taken out from the first that may be of one until it is
//! complete; the protocol promises the rest of a packet that has begun. Once one is replaced nothing passes any more, in
//! either direction: the server waits for the file, or for its end, and would take the client's next command for it.
//! Nothing can be sent to the server but what the client sent, so it is the end of the connection that tells it, on the
//! next tick; at once, it would overtake the error.

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::response::ERR;

/// `ER_CLIENT_LOCAL_FILES_DISABLED`.
const ERRNO: u16 = 3948;
const SQL_STATE: &[u8] = b"#42000";
const MESSAGE: &[u8] =
    b"The server asked for a file that the statement does not name (blocked by block_local_infile)";

/// `ER_MALFORMED_PACKET`.
const MALFORMED: u16 = 1835;
const MALFORMED_STATE: &[u8] = b"#HY000";
const MALFORMED_MESSAGE: &[u8] =
    b"The server's response does not follow the protocol (connection closed by block_local_infile)";

/// What a client gets in the place of a request for a file.
pub(in crate::connection) fn refusal(sequence_id: u8, capabilities: Capabilities) -> Vec<u8> {
    error(sequence_id, capabilities, ERRNO, SQL_STATE, MESSAGE)
}

/// What a client gets in the place of a response that cannot be followed.
pub(in crate::connection) fn failure(sequence_id: u8, capabilities: Capabilities) -> Vec<u8> {
    error(sequence_id, capabilities, MALFORMED, MALFORMED_STATE, MALFORMED_MESSAGE)
}

/// An error as a packet (MySQL manual, "ERR_Packet").
fn error(sequence_id: u8, capabilities: Capabilities, errno: u16, state: &[u8], message: &[u8]) -> Vec<u8> {
    let state = if capabilities.contains(Capabilities::PROTOCOL_41) { state } else { &[] };
    let [low, high] = errno.to_le_bytes();
    let payload = [&[ERR, low, high], state, message].concat();
    // Far shorter than what takes a second byte of the length.
    let len = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    [&[len, 0, 0, sequence_id], payload.as_slice()].concat()
}

#[cfg(test)]
mod tests;
