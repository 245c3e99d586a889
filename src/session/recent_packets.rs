//! The last packets of a connection, for the one line that reports a desync: what they were, never what
//! they held.

use std::fmt;

use crate::event::{Phase, Sender};

/// How many packets are remembered.
const REMEMBERED: usize = 8;

/// A packet's outside.
#[derive(Clone, Copy, Debug)]
struct Step {
    sender: Sender,
    length: u32,
    sequence_id: u8,
    phase: Phase,
}

/// The last packets, oldest first; shown as `S:74:0:greeting`: sender, length, sequence id, phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    steps: [Option<Step>; REMEMBERED],
    next: usize,
}

impl Trail {
    /// Remembers a packet in place of the oldest.
    pub fn push(&mut self, sender: Sender, length: u32, sequence_id: u8, phase: Phase) {
        if let Some(step) = self.steps.get_mut(self.next) {
            *step = Some(Step { sender, length, sequence_id, phase });
        }
        self.next = self.next.wrapping_add(1) % REMEMBERED;
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (newer, older) = self.steps.split_at_checked(self.next).unwrap_or_default();
        for (index, step) in older.iter().chain(newer).flatten().enumerate() {
            let Step { sender, length, sequence_id, phase } = step;
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
    fn the_last_eight_packets_in_order() {
        let mut trail = Trail::default();
        trail.push(Sender::Server, 74, 0, Phase::Greeting);
        assert_eq!(trail.to_string(), "S:74:0:greeting");
        for length in 1..=9 {
            trail.push(Sender::Client, length, 0, Phase::Command);
        }
        let text = trail.to_string();
        assert!(
            text.starts_with("C:2:0:command C:3:0:command ") && text.ends_with(" C:9:0:command"),
            "{text}"
        );
    }
}
