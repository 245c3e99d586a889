//! The packets of a capture. This parser is independent of the framer under test.

use firstword::event::Sender;

use firstword_testing::capture::Chunks;
use firstword_testing::client::{COMPRESS, SSL, ZSTD};

/// A packet without its header. No capture holds a packet of more than one fragment.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) sender: Sender,
    pub(crate) sequence_id: u8,
    pub(crate) payload: Vec<u8>,
    /// Offset of its end in the stream of its sender.
    pub(crate) end: usize,
    /// Number of bytes of the other side that had passed when its last byte did.
    pub(crate) other: usize,
}

/// The packets of both directions, in the order in which their last bytes passed. Empty if TLS or compression hides them.
pub(crate) fn packets(chunks: &Chunks) -> Vec<Packet> {
    let mut packets: Vec<Packet> = Vec::new();
    let mut unread: [Vec<u8>; 2] = Default::default();
    let mut ends = [0; 2];
    let mut passed = [0; 2];
    for (sender, bytes) in chunks {
        let this = *sender as usize;
        unread[this].extend_from_slice(bytes);
        passed[this] += bytes.len();
        while let [l0, l1, l2, sequence_id, rest @ ..] = unread[this].as_slice() {
            let length = u32::from_le_bytes([*l0, *l1, *l2, 0]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            ends[this] += 4 + length;
            let (end, other) = (ends[this], passed[1 - this]);
            packets.push(Packet {
                sender: *sender,
                sequence_id: *sequence_id,
                payload: payload.to_vec(),
                end,
                other,
            });
            unread[this].drain(..4 + length);
        }
        if is_opaque(&packets) {
            return Vec::new();
        }
    }
    packets
}

/// True if both sides agreed on TLS or compression.
fn is_opaque(packets: &[Packet]) -> bool {
    let Some(agreed) = agreed_capabilities(packets) else { return false };
    agreed & (SSL | COMPRESS | ZSTD) != 0
}

/// The capabilities that both sides sent. `None` until both have sent them.
pub(crate) fn agreed_capabilities(packets: &[Packet]) -> Option<u32> {
    let greeting = packets.iter().find(|packet| packet.sender == Sender::Server)?;
    let response = packets.iter().find(|packet| packet.sender == Sender::Client)?;
    let name = greeting.payload.iter().position(|byte| *byte == 0)?;
    // After the NUL of the version: thread id, scramble, filler, lower half, character set, status, upper half.
    let half = |at: usize| greeting.payload.get(name + at..name + at + 2);
    let (lower, upper) = (half(14)?, half(19).unwrap_or(&[0, 0]));
    let offered = u32::from_le_bytes([lower[0], lower[1], upper[0], upper[1]]);
    let requested = response.payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
    Some(offered & requested)
}
