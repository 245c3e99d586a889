//! The state of a capture while it is read.

use std::time::Duration;

use firstword::clock::Timestamp;

use super::report::PacketLocation;

pub(super) struct Capture {
    /// Maximum number of commands that are listed for each connection.
    pub(super) max_commands: usize,
    /// Whether the report shows the names of accounts.
    pub(super) shows_user: bool,
    /// Number of packets that have been read, which is the number of the newest.
    pub(super) packets: u64,
    pub(super) began: Option<Timestamp>,
    /// The time of the newest packet.
    pub(super) now: Timestamp,
}

impl Capture {
    /// Microseconds since the first packet.
    pub(super) fn at_us(&self, at: Timestamp) -> u64 {
        micros(at.since(self.began.unwrap_or(at)))
    }

    pub(super) fn location(&self, packet: u64, at: Timestamp) -> PacketLocation {
        PacketLocation { packet, at_us: self.at_us(at) }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
