//! `hold_split_eof` holds the ends of COM_STMT_PREPARE responses. Every other byte leaves in the callback that brings it.
//!
//! The test finds these ends in whole captures, by counting packets.

use std::collections::VecDeque;
use std::ops::Range;

use firstword::event::{Event, Sender};
use firstword::mysql::wire::capability::Capabilities;
use firstword::mysql::wire::handshake::{HandshakeResponse, HandshakeV10};
use firstword::rules::HoldSplitEof;

use firstword_testing::capture::Chunks;
use firstword_testing::replay::{
    Captured, Changes, byte_by_byte, captures, cut_once, replay_changed, stream, whole,
};

const COM_STMT_PREPARE: u8 = 0x16;
/// Commands without a response: COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE.
const WITHOUT_RESPONSE: [u8; 3] = [0x01, 0x18, 0x19];

/// The packets of one direction: the offset in the stream, the sequence id and the payload of each.
fn packets(chunks: &Chunks, sender: Sender) -> Vec<(usize, u8, Vec<u8>)> {
    let stream = stream(chunks, sender);
    let (mut packets, mut at) = (Vec::new(), 0);
    while let Some(header) = stream.get(at..at + 4) {
        let len = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        let Some(payload) = stream.get(at + 4..at + 4 + len) else { break };
        packets.push((at, header[3], payload.to_vec()));
        at += 4 + len;
    }
    packets
}

/// True if responses have the classic layout, with EOF packets, and no TLS or compression hides them.
fn is_classic(client: &[(usize, u8, Vec<u8>)], server: &[(usize, u8, Vec<u8>)]) -> bool {
    let (Some((_, 0, greeting)), Some((_, 1, response))) = (server.first(), client.first()) else {
        return false;
    };
    let Ok(greeting) = HandshakeV10::parse(greeting) else { return false };
    let Ok(response) = HandshakeResponse::parse(response, greeting.capabilities) else { return false };
    let opaque = Capabilities::SSL | Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
    let both = greeting.capabilities & response.capabilities;
    !both.intersects(opaque | Capabilities::DEPRECATE_EOF) && both.contains(Capabilities::PROTOCOL_41)
}

/// The ranges of the server's stream from a last column definition to the end of the EOF after it.
fn ends(chunks: &Chunks) -> Vec<Range<usize>> {
    let (client, server) = (packets(chunks, Sender::Client), packets(chunks, Sender::Server));
    if !is_classic(&client, &server) {
        return Vec::new();
    }
    let commands = client.iter().filter(|(_, sequence_id, _)| *sequence_id == 0);
    let commands = commands.map(|(_, _, payload)| payload.first().copied().unwrap_or_default());
    let mut commands: VecDeque<u8> = commands.filter(|command| !WITHOUT_RESPONSE.contains(command)).collect();
    let logged_in = server.iter().skip(1).position(|(_, _, payload)| payload.first() == Some(&0));
    let mut ends = Vec::new();
    let mut before = u8::MAX;
    let rest = &server[logged_in.map_or(server.len(), |at| at + 2)..];
    for (index, (_, sequence_id, payload)) in rest.iter().enumerate() {
        // Sequence ids wrap in long responses.
        let begins = *sequence_id == 1 && before != 0;
        before = *sequence_id;
        if !begins || commands.pop_front() != Some(COM_STMT_PREPARE) || payload[0] != 0 {
            continue;
        }
        let [columns, params] =
            [5, 7].map(|at| usize::from(u16::from_le_bytes([payload[at], payload[at + 1]])));
        let eof = |at: usize| rest[at].2.len() == 5 && rest[at].2[0] == 0xfe;
        // Without metadata the response has only the EOFs.
        let skipped = if params == 0 {
            0
        } else if eof(index + 1) {
            1
        } else {
            params + 1
        };
        let last = index + skipped + columns;
        if columns == 0 || eof(index + skipped + 1) || last + 1 >= rest.len() || !eof(last + 1) {
            continue;
        }
        ends.push(rest[last].0..rest[last + 1].0 + 9);
    }
    ends
}

/// Number of the server's bytes that must have left when `arrived` bytes have arrived.
fn expected(ends: &[Range<usize>], arrived: usize) -> usize {
    ends.iter().find(|end| end.start < arrived && arrived < end.end).map_or(arrived, |end| end.start)
}

/// Replays these chunks of a capture, and returns the number of responses that were held.
fn check<'a>(
    name: &str,
    ends: &[Range<usize>],
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> usize {
    let (mut arrived, mut left) = (Vec::new(), Vec::new());
    let changes = Changes { hold_split_eof: HoldSplitEof::Always, ..Changes::default() };
    let events = replay_changed(changes, chunks, |bytes, now| {
        arrived.extend_from_slice(bytes);
        left.extend_from_slice(now);
        assert_eq!(left.len(), expected(ends, arrived.len()), "{name}: of {} bytes", arrived.len());
        assert!(arrived.starts_with(&left), "{name}");
    });
    events.iter().filter(|event| **event == Event::PrepareEofHeld).count()
}

#[test]
fn only_ends_of_prepare_responses_are_held() {
    let mut found = 0;
    for Captured { name, chunks, .. } in captures() {
        // The overflown count makes the filter hold a definition that is not the last one, until the next packet.
        if name == "by-hand-overflown-counts" {
            continue;
        }
        let ends = ends(&chunks);
        check(&name, &ends, whole(&chunks));
        assert_eq!(check(&name, &ends, byte_by_byte(&chunks)), ends.len(), "{name}");
        found += ends.len();
        let of_server = chunks.iter().enumerate().filter(|(_, (sender, _))| *sender == Sender::Server);
        for (index, (_, bytes)) in of_server.filter(|_| !ends.is_empty()) {
            for cut in 1..bytes.len() {
                check(&name, &ends, cut_once(&chunks, index, cut));
            }
        }
    }
    assert!(found >= 10, "COM_STMT_PREPARE responses with EOFs: {found}");
}
