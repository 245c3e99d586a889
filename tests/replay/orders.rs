//! The two directions pass in other orders than they were captured in: a client that does not wait, a server that is slow,
//! a proxy that reads the one or the other first. What each side said stays the same, so each kind of event does.
//!
//! `FIRSTWORD_SEED=7 cargo test --test replay orders` repeats a run.

use std::collections::BTreeMap;

use firstword::event::Sender;

use crate::packets::{Packet, packets};
use firstword_testing::capture::Chunks;
use firstword_testing::random::Random;
use firstword_testing::replay::{Captured, Replayed, captures, replay, whole};

/// How many orders of each capture.
const SAMPLES: usize = 200;

/// Up to `end` a direction may pass only when the other one has passed `needs`.
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
        // Nobody knows what answers what: as it was captured.
        let mut passed = [0; 2];
        for (sender, bytes) in chunks {
            let this = *sender as usize;
            passed[this] += bytes.len();
            gates[this].push(Gate { end: passed[this], needs: passed[1 - this] });
        }
        return gates;
    }
    let decided = decided(&packets);
    let answered = answered(&packets, decided);
    for (index, packet) in packets.iter().enumerate() {
        let needs = match packet.sender {
            _ if index <= decided => packet.other,
            Sender::Client if packet.sequence_id == 0 => least(&packets, decided, index),
            Sender::Client => packet.other,
            Sender::Server => answered[index].unwrap_or(packet.other),
        };
        gates[packet.sender as usize].push(Gate { end: packet.end, needs });
    }
    gates
}

/// The packet that ends the connection phase: the server's first OK or ERR.
fn decided(packets: &[Packet]) -> usize {
    let decides = |packet: &Packet| {
        packet.sender == Sender::Server
            && matches!(packet.payload.first(), Some(0x00 | 0xff))
            && packet.sequence_id > 0
    };
    packets.iter().position(decides).unwrap_or(packets.len() - 1)
}

/// What the server must have sent before its client could send this command: the end of the connection phase, or the id of
/// the statement that the command names.
fn least(packets: &[Packet], decided: usize, index: usize) -> usize {
    let command = &packets[index].payload;
    let named = match command.first() {
        Some(0x17 | 0x18 | 0x19 | 0x1a | 0x1c | 0xfa) => command.get(1..5),
        _ => None,
    };
    let tells = |packet: &&Packet| {
        let payload = &packet.payload;
        packet.sender == Sender::Server
            && matches!(payload.len(), 12 | 13)
            && payload.first() == Some(&0)
            && payload.get(1..5) == named
    };
    let before = &packets[decided + 1..index];
    let told = named.and_then(|_| before.iter().rposition(|packet| tells(&packet)));
    let Some(told) = told else { return packets[decided].end };
    // And the definitions behind it.
    let answer = before[told..].iter().filter(|packet| packet.sender == Sender::Server);
    let more = answer.zip(1..).take_while(|(packet, id)| packet.sequence_id == *id);
    more.last().map_or(packets[decided].end, |(packet, _)| packet.end)
}

/// For each packet of the server that answers a command: where that command ends.
fn answered(packets: &[Packet], decided: usize) -> Vec<Option<usize>> {
    let mut needs = vec![None; packets.len()];
    let in_command_phase = || packets.iter().enumerate().skip(decided + 1);
    let has_answer = |packet: &Packet| !matches!(packet.payload.first(), Some(0x01 | 0x18 | 0x19));
    let mut commands = in_command_phase()
        .map(|(_, packet)| packet)
        .filter(|packet| packet.sender == Sender::Client && packet.sequence_id == 0 && has_answer(packet));
    let mut command: Option<&Packet> = None;
    let mut last_id = None;
    for (index, packet) in in_command_phase() {
        // The client goes on within a command: what comes next answers that too.
        if packet.sender == Sender::Client {
            if packet.sequence_id > 0 {
                command = None;
            }
            continue;
        }
        // Sequence ids wrap around in long answers; an error that answers nothing has 0.
        let begins = packet.sequence_id == 1 && last_id != Some(0);
        last_id = (packet.sequence_id != 0 || last_id == Some(255)).then_some(packet.sequence_id);
        if begins {
            command = commands.next();
            let of_own_accord = packet.payload.first() == Some(&0xff);
            assert!(command.is_some() || of_own_accord, "an answer to nothing: {packet:?}");
        }
        if last_id.is_some() {
            needs[index] = command.map(|command| command.end);
        }
    }
    needs
}

/// All that each direction sent.
fn streams(chunks: &Chunks) -> [Vec<u8>; 2] {
    let mut streams: [Vec<u8>; 2] = Default::default();
    for (sender, bytes) in chunks {
        streams[*sender as usize].extend_from_slice(bytes);
    }
    streams
}

/// One legal order, in pieces of any length.
fn order<'a>(
    streams: &'a [Vec<u8>; 2],
    gates: &[Vec<Gate>; 2],
    random: &mut Random,
) -> Vec<(Sender, &'a [u8])> {
    let mut passed = [0; 2];
    let mut order = Vec::new();
    // A side that waits now and then lets the other one get far ahead.
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
        // Mostly to the end of a packet, else anywhere.
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

/// Events of each kind in their order; the order among kinds is that of the directions.
fn by_kind(told: &Replayed) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &told.events {
        let text = format!("{event:?}");
        let kind = text.split([' ', '(']).next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_default().push(text);
    }
    kinds
}

#[test]
fn legal_orders_tell_the_same() {
    let mut random = Random::from_environment();
    let mut problems = Vec::new();
    for Captured { name, chunks, .. } in captures() {
        let captured = replay(whole(&chunks));
        let (streams, gates) = (streams(&chunks), gates(&chunks));
        for _ in 0..SAMPLES {
            let order = order(&streams, &gates, &mut random);
            let told = replay(order.iter().copied());
            let same = by_kind(&told) == by_kind(&captured)
                && (told.bytes, told.packets) == (captured.bytes, captured.packets);
            if !same {
                let (told, captured) = (told.text(), captured.text());
                problems.push(format!("{name}: {told}\nnot\n{captured}\nin the order {order:02x?}"));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}
