//! Captures in which the two directions pass in another legal order: a client that does not wait, a slow server, a proxy that
//! reads the one or the other side first. Each kind of event stays the same, because the bytes of each side do.
//!
//! `FIRSTWORD_SEED=7 cargo test --test replay interleavings` repeats a run.

use std::collections::BTreeMap;

use firstword::event::Sender;

use crate::packets::{Packet, packets};
use firstword_testing::capture::Chunks;
use firstword_testing::random::Random;
use firstword_testing::replay::{Captured, Replayed, captures, replay, stream, whole};

/// Number of orders of each capture.
const SAMPLES: usize = 200;

/// A condition on the order: a direction may pass up to its byte `end` only after `needs` bytes of the other direction.
#[derive(Clone, Copy, Debug)]
struct Gate {
    end: usize,
    needs: usize,
}

/// The gates of both directions.
fn gates(chunks: &Chunks) -> [Vec<Gate>; 2] {
    let mut gates: [Vec<Gate>; 2] = Default::default();
    let packets = packets(chunks);
    if packets.is_empty() {
        // Commands and responses cannot be matched, so the order stays as captured.
        let mut passed = [0; 2];
        for (sender, bytes) in chunks {
            let this = *sender as usize;
            passed[this] += bytes.len();
            gates[this].push(Gate { end: passed[this], needs: passed[1 - this] });
        }
        return gates;
    }
    let login_end = login_end(&packets);
    let command_ends = command_ends(&packets, login_end);
    for (index, packet) in packets.iter().enumerate() {
        let needs = match packet.sender {
            _ if index <= login_end => packet.other,
            Sender::Client if packet.sequence_id == 0 => bytes_before_command(&packets, login_end, index),
            Sender::Client => packet.other,
            Sender::Server => command_ends[index].unwrap_or(packet.other),
        };
        gates[packet.sender as usize].push(Gate { end: packet.end, needs });
    }
    gates
}

/// Index of the packet that ends the connection phase: the server's first OK or ERR.
fn login_end(packets: &[Packet]) -> usize {
    let is_end = |packet: &Packet| {
        packet.sender == Sender::Server
            && matches!(packet.payload.first(), Some(0x00 | 0xff))
            && packet.sequence_id > 0
    };
    packets.iter().position(is_end).unwrap_or(packets.len() - 1)
}

/// Number of bytes that the server must have sent before the client can send this command. They end with the connection phase,
/// or with the response that contains the statement id of the command.
fn bytes_before_command(packets: &[Packet], login_end: usize, index: usize) -> usize {
    let command = &packets[index].payload;
    let named = match command.first() {
        Some(0x17 | 0x18 | 0x19 | 0x1a | 0x1c | 0xfa) => command.get(1..5),
        _ => None,
    };
    let has_id = |packet: &&Packet| {
        let payload = &packet.payload;
        packet.sender == Sender::Server
            && matches!(payload.len(), 12 | 13)
            && payload.first() == Some(&0)
            && payload.get(1..5) == named
    };
    let before = &packets[login_end + 1..index];
    let prepare_ok = named.and_then(|_| before.iter().rposition(|packet| has_id(&packet)));
    let Some(prepare_ok) = prepare_ok else { return packets[login_end].end };
    // The definitions that follow belong to the response.
    let response = before[prepare_ok..].iter().filter(|packet| packet.sender == Sender::Server);
    let response = response.zip(1..).take_while(|(packet, id)| packet.sequence_id == *id);
    response.last().map_or(packets[login_end].end, |(packet, _)| packet.end)
}

/// The end of the command that each packet of the server responds to. `None` for other packets.
fn command_ends(packets: &[Packet], login_end: usize) -> Vec<Option<usize>> {
    let mut ends = vec![None; packets.len()];
    let in_command_phase = || packets.iter().enumerate().skip(login_end + 1);
    let has_response = |packet: &Packet| !matches!(packet.payload.first(), Some(0x01 | 0x18 | 0x19));
    let mut commands = in_command_phase()
        .map(|(_, packet)| packet)
        .filter(|packet| packet.sender == Sender::Client && packet.sequence_id == 0 && has_response(packet));
    let mut command: Option<&Packet> = None;
    let mut last_id = None;
    for (index, packet) in in_command_phase() {
        // The client continues a command. The next packets of the server respond to both parts.
        if packet.sender == Sender::Client {
            if packet.sequence_id > 0 {
                command = None;
            }
            continue;
        }
        // Sequence ids wrap in long responses. An unsolicited error has the id 0.
        let begins = packet.sequence_id == 1 && last_id != Some(0);
        last_id = (packet.sequence_id != 0 || last_id == Some(255)).then_some(packet.sequence_id);
        if begins {
            command = commands.next();
            let is_error = packet.payload.first() == Some(&0xff);
            assert!(command.is_some() || is_error, "a response without a command: {packet:?}");
        }
        if last_id.is_some() {
            ends[index] = command.map(|command| command.end);
        }
    }
    ends
}

/// Returns one legal order, in pieces of any length.
fn interleave<'a>(
    streams: &'a [Vec<u8>; 2],
    gates: &[Vec<Gate>; 2],
    random: &mut Random,
) -> Vec<(Sender, &'a [u8])> {
    let mut passed = [0; 2];
    let mut order = Vec::new();
    // With a small value one side gets far ahead of the other.
    let eagerness = random.below(7) + 1;
    loop {
        let limit = |this: usize| {
            let open = gates[this].iter().take_while(|gate| gate.needs <= passed[1 - this]);
            open.map(|gate| gate.end).max().unwrap_or(0)
        };
        let room = [limit(0).saturating_sub(passed[0]), limit(1).saturating_sub(passed[1])];
        let this = match room {
            [0, 0] => break,
            [_, 0] => 0,
            [0, _] => 1,
            _ => usize::from(random.below(8) < eagerness),
        };
        // Most pieces end with a packet, the others anywhere.
        let ends = gates[this].iter().map(|gate| gate.end).filter(|end| *end > passed[this]);
        let next = ends.take(1 + random.below(3)).last().expect("a gate further on");
        let piece = if random.below(3) == 0 {
            1 + random.below(room[this])
        } else {
            (next - passed[this]).min(room[this])
        };
        let sender = if this == Sender::Client as usize { Sender::Client } else { Sender::Server };
        order.push((sender, &streams[this][passed[this]..passed[this] + piece]));
        passed[this] += piece;
    }
    assert_eq!(passed, [streams[0].len(), streams[1].len()], "everything passes");
    order
}

/// Events of each kind in their order. The order of events of different kinds depends on the order of the directions.
fn by_kind(replayed: &Replayed) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &replayed.events {
        let text = format!("{event:?}");
        let kind = text.split([' ', '(']).next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_default().push(text);
    }
    kinds
}

#[test]
fn legal_orders_emit_the_same_events() {
    let mut random = Random::from_environment();
    let mut problems = Vec::new();
    for Captured { name, chunks, .. } in captures() {
        let captured = replay(whole(&chunks));
        let streams = [Sender::Client, Sender::Server].map(|sender| stream(&chunks, sender));
        let gates = gates(&chunks);
        for _ in 0..SAMPLES {
            let order = interleave(&streams, &gates, &mut random);
            let replayed = replay(order.iter().copied());
            let same = by_kind(&replayed) == by_kind(&captured)
                && (replayed.bytes, replayed.packets) == (captured.bytes, captured.packets);
            if !same {
                let (replayed, captured) = (replayed.text(), captured.text());
                problems.push(format!("{name}: {replayed}\nnot\n{captured}\nin the order {order:02x?}"));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}
