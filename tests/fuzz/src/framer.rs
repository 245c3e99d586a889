//! Fuzz target: random bytes as packets of one direction. The packets do not depend on the cuts, and equal those of a model
//! that has all bytes at once.
//!
//! ```text
//! prefix length | length of the pieces | bytes
//! ```

#![no_main]

mod packets;
mod seeds;

use firstword::event::Sender;
use firstword::mysql::wire::packet::{Framed, Framer};
use libfuzzer_sys::fuzz_target;

/// A packet whose prefix has arrived.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    length: u32,
    sequence_id: u8,
    prefix: Vec<u8>,
    is_complete: bool,
}

/// Frames `bytes` in pieces of this length. Returns the packets and the number of headers.
fn frame(bytes: &[u8], prefix_len: usize, piece: usize) -> (Vec<Seen>, u64) {
    let mut framer = Framer::new(prefix_len);
    let mut seen: Vec<Seen> = Vec::new();
    for mut input in bytes.chunks(piece) {
        loop {
            // Bytes that need not be read are skipped, as the inspector does.
            let skipped = framer.skippable().min(input.len());
            framer.skip(skipped);
            input = &input[skipped..];
            match framer.next(&mut input) {
                None => break,
                Some(Framed::Head(packet)) => seen.push(Seen {
                    length: packet.length,
                    sequence_id: packet.sequence_id,
                    prefix: packet.prefix.to_vec(),
                    is_complete: packet.complete,
                }),
                Some(Framed::End { sequence_id }) => {
                    let last = seen.last_mut().expect("a head before its end");
                    assert!(!last.is_complete && sequence_id == last.sequence_id);
                    last.is_complete = true;
                }
                Some(Framed::Broken) => panic!("no input is as long as a fragment that is continued"),
            }
        }
        assert!(input.is_empty(), "the framer takes all of a piece");
        assert!(framer.memory() <= prefix_len.max(256));
    }
    (seen, framer.take_count())
}

/// The packets, read from all bytes at once.
fn model(mut bytes: &[u8], prefix_len: usize) -> (Vec<Seen>, u64) {
    let (mut seen, mut headers) = (Vec::new(), 0);
    while let Some(([l0, l1, l2, sequence_id], rest)) = bytes.split_first_chunk() {
        headers += 1;
        let length = u32::from_le_bytes([*l0, *l1, *l2, 0]);
        let want = prefix_len.min(length as usize);
        let Some(prefix) = rest.get(..want) else { break };
        let is_complete = rest.len() >= length as usize;
        seen.push(Seen { length, sequence_id: *sequence_id, prefix: prefix.to_vec(), is_complete });
        bytes = rest.get(length as usize..).unwrap_or_default();
    }
    (seen, headers)
}

/// Each direction of each capture.
fn examples() -> Vec<Vec<u8>> {
    let of = |chunks: &packets::Chunks, sender: Sender| {
        let parts = chunks.iter().filter(|(from, _)| *from == sender).flat_map(|(_, bytes)| bytes.iter());
        [64, 7].into_iter().chain(parts.copied().take(4096)).collect()
    };
    packets::captures()
        .iter()
        .flat_map(|chunks| [Sender::Client, Sender::Server].map(|side| of(chunks, side)))
        .collect()
}

fuzz_target!(init: seeds::write(examples()), |input: &[u8]| {
    let Some(([prefix_len, piece], bytes)) = input.split_first_chunk() else { return };
    let prefix_len = usize::from(*prefix_len);
    let expected = model(bytes, prefix_len);
    assert_eq!(frame(bytes, prefix_len, usize::MAX), expected);
    assert_eq!(frame(bytes, prefix_len, usize::from(*piece) + 1), expected);
});
