//! The packets of a capture, cut by this test's own hand: not the core's framing.

use firstword::event::Sender;

use firstword_testing::capture::Chunks;
use firstword_testing::client::{COMPRESS, SSL, ZSTD};

/// A packet, header left out. No capture holds one of more than one fragment.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) sender: Sender,
    pub(crate) sequence_id: u8,
    pub(crate) payload: Vec<u8>,
    /// Where it ends in all that its sender sent.
    pub(crate) end: usize,
    /// How much the other side had sent when it had passed.
    pub(crate) other: usize,
}

/// The packets of both directions, in the order in which their last bytes passed; none where they cannot be read.
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
        if turns_unreadable(&packets) {
            return Vec::new();
        }
    }
    packets
}

/// Both sides agreed on TLS or compression.
fn turns_unreadable(packets: &[Packet]) -> bool {
    let Some(client) = agreed(packets) else { return false };
    client & (SSL | COMPRESS | ZSTD) != 0
}

/// The capabilities both sides have, once both have said so.
pub(crate) fn agreed(packets: &[Packet]) -> Option<u32> {
    let greeting = packets.iter().find(|packet| packet.sender == Sender::Server)?;
    let response = packets.iter().find(|packet| packet.sender == Sender::Client)?;
    let name = greeting.payload.iter().position(|byte| *byte == 0)?;
    // Behind the version's NUL: thread id, scramble, filler, lower half, character set, status, upper half.
    let half = |at: usize| greeting.payload.get(name + at..name + at + 2);
    let (lower, upper) = (half(14)?, half(19).unwrap_or(&[0, 0]));
    let offered = u32::from_le_bytes([lower[0], lower[1], upper[0], upper[1]]);
    let asked = response.payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
    Some(offered & asked)
}
