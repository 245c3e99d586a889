//! Where ends of answers to COM_STMT_PREPARE are held, every other byte leaves in the callback that brings it.
//!
//! Which bytes those ends are is worked out here from whole captures, by counting packets.

use std::collections::VecDeque;
use std::ops::Range;

use firstword::event::{Event, Sender};
use firstword::mysql::wire::capability::Capabilities;
use firstword::mysql::wire::handshake::{HandshakeResponse, HandshakeV10};
use firstword::rules::HoldSplitEof;

use firstword_testing::capture::Chunks;
use firstword_testing::replay::{Captured, Changes, captures, parts, replay_changed, whole};

const COM_STMT_PREPARE: u8 = 0x16;
/// COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE.
const UNANSWERED: [u8; 3] = [0x01, 0x18, 0x19];

/// The packets of one direction: where each begins in the stream, its sequence id and its payload.
fn packets(chunks: &Chunks, of: Sender) -> Vec<(usize, u8, Vec<u8>)> {
    let stream: Vec<u8> =
        chunks.iter().filter(|(sender, _)| *sender == of).flat_map(|(_, bytes)| bytes.to_vec()).collect();
    let (mut packets, mut at) = (Vec::new(), 0);
    while let Some(header) = stream.get(at..at + 4) {
        let len = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        let Some(payload) = stream.get(at + 4..at + 4 + len) else { break };
        packets.push((at, header[3], payload.to_vec()));
        at += 4 + len;
    }
    packets
}

/// Both sides can do what says how answers look; none where there is TLS, compression or no login.
fn classic(client: &[(usize, u8, Vec<u8>)], server: &[(usize, u8, Vec<u8>)]) -> bool {
    let (Some((_, 0, greeting)), Some((_, 1, response))) = (server.first(), client.first()) else {
        return false;
    };
    let Ok(greeting) = HandshakeV10::parse(greeting) else { return false };
    let Ok(response) = HandshakeResponse::parse(response, greeting.capabilities) else { return false };
    let unseen = Capabilities::SSL | Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION;
    let both = greeting.capabilities & response.capabilities;
    !both.intersects(unseen | Capabilities::DEPRECATE_EOF) && both.contains(Capabilities::PROTOCOL_41)
}

/// The ranges of the server's stream from a last column definition to the end of the EOF behind it.
fn ends(chunks: &Chunks) -> Vec<Range<usize>> {
    let (client, server) = (packets(chunks, Sender::Client), packets(chunks, Sender::Server));
    if !classic(&client, &server) {
        return Vec::new();
    }
    let commands = client.iter().filter(|(_, sequence_id, _)| *sequence_id == 0);
    let commands = commands.map(|(_, _, payload)| payload.first().copied().unwrap_or_default());
    let mut commands: VecDeque<u8> = commands.filter(|command| !UNANSWERED.contains(command)).collect();
    let logged_in = server.iter().skip(1).position(|(_, _, payload)| payload.first() == Some(&0));
    let mut ends = Vec::new();
    let mut before = u8::MAX;
    let rest = &server[logged_in.map_or(server.len(), |at| at + 2)..];
    for (index, (_, sequence_id, payload)) in rest.iter().enumerate() {
        // Sequence ids wrap in long answers.
        let begins = *sequence_id == 1 && before != 0;
        before = *sequence_id;
        if !begins || commands.pop_front() != Some(COM_STMT_PREPARE) || payload[0] != 0 {
            continue;
        }
        let [columns, params] =
            [5, 7].map(|at| usize::from(u16::from_le_bytes([payload[at], payload[at + 1]])));
        let eof = |at: usize| rest[at].2.len() == 5 && rest[at].2[0] == 0xfe;
        // Without metadata only the EOFs are there.
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

/// Where the bytes of the server that have left must end when `seen` of them have come.
fn expected(ends: &[Range<usize>], seen: usize) -> usize {
    ends.iter().find(|end| end.start < seen && seen < end.end).map_or(seen, |end| end.start)
}

/// Passes a capture, cut so, and gives how many answers were held.
fn check<'a>(
    name: &str,
    ends: &[Range<usize>],
    chunks: impl IntoIterator<Item = (Sender, &'a [u8])>,
) -> usize {
    let (mut come, mut left) = (Vec::new(), Vec::new());
    let changes = Changes { hold_split_eof: HoldSplitEof::Always, ..Changes::default() };
    let events = replay_changed(changes, chunks, |bytes, now| {
        come.extend_from_slice(bytes);
        left.extend_from_slice(now);
        assert_eq!(left.len(), expected(ends, come.len()), "{name}: of {} bytes", come.len());
        assert!(come.starts_with(&left), "{name}");
    });
    events.iter().filter(|event| **event == Event::PrepareEofHeld).count()
}

#[test]
fn all_other_bytes_leave_at_once() {
    let mut found = 0;
    for Captured { name, chunks, .. } in captures() {
        // Whose count of definitions overflows has one taken for the last that is not; it goes on with what follows it.
        if name == "by-hand-overflown-counts" {
            continue;
        }
        let ends = ends(&chunks);
        check(&name, &ends, whole(&chunks));
        let by_bytes = parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect());
        assert_eq!(check(&name, &ends, by_bytes), ends.len(), "{name}");
        found += ends.len();
        let of_server = chunks.iter().enumerate().filter(|(_, (sender, _))| *sender == Sender::Server);
        for (index, (_, bytes)) in of_server.filter(|_| !ends.is_empty()) {
            for cut in 1..bytes.len() {
                let cut_here = |at, len| {
                    let cut = if at == index { cut } else { len };
                    vec![0..cut, cut..len]
                };
                check(&name, &ends, parts(&chunks, cut_here));
            }
        }
    }
    assert!(found >= 10, "answers to COM_STMT_PREPARE with EOFs: {found}");
}
