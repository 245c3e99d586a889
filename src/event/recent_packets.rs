//! The last packets of a connection, for the log line that reports a desync: sizes and numbers, never content.

use std::fmt;

use crate::event::{Phase, Sender};

/// Number of packets that are remembered.
const MAX_PACKETS: usize = 8;

/// A packet without its content.
#[derive(Clone, Copy, Debug)]
struct PacketSummary {
    sender: Sender,
    length: u32,
    sequence_id: u8,
    phase: Phase,
}

/// The last packets, oldest first. `Display` writes each as `S:74:0:greeting`: sender, length, sequence id, phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecentPackets {
    packets: [Option<PacketSummary>; MAX_PACKETS],
    next: usize,
}

impl RecentPackets {
    /// Remembers a packet, and forgets the oldest one.
    pub fn push(&mut self, sender: Sender, length: u32, sequence_id: u8, phase: Phase) {
        if let Some(packet) = self.packets.get_mut(self.next) {
            *packet = Some(PacketSummary { sender, length, sequence_id, phase });
        }
        self.next = self.next.wrapping_add(1) % MAX_PACKETS;
    }
}

impl fmt::Display for RecentPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (newer, older) = self.packets.split_at_checked(self.next).unwrap_or_default();
        for (index, packet) in older.iter().chain(newer).flatten().enumerate() {
            let PacketSummary { sender, length, sequence_id, phase } = packet;
            let sender = if *sender == Sender::Client { 'C' } else { 'S' };
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{sender}:{length}:{sequence_id}:{}", phase.label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_packets_are_shown_in_order() {
        let mut recent_packets = RecentPackets::default();
        recent_packets.push(Sender::Server, 74, 0, Phase::Greeting);
        assert_eq!(recent_packets.to_string(), "S:74:0:greeting");
        for length in 1..=9 {
            recent_packets.push(Sender::Client, length, 0, Phase::Command);
        }
        let text = recent_packets.to_string();
        assert!(
            text.starts_with("C:2:0:command C:3:0:command ") && text.ends_with(" C:9:0:command"),
            "{text}"
        );
    }
}
