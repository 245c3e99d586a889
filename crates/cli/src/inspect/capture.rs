//! The state of a capture while it is read.

use std::time::Duration;

use firstword::clock::Timestamp;

use super::report::PacketLocation;
use super::wall_clock;

pub(super) struct Capture {
    /// Maximum number of commands that are listed for each connection.
    pub(super) max_commands: usize,
    /// Maximum number of the slowest commands.
    pub(super) max_slowest: usize,
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

    /// The time of day of a packet.
    pub(super) fn time_of(&self, location: PacketLocation) -> String {
        let began = self.began.unwrap_or_default().nanos();
        wall_clock::rfc3339(Timestamp::from_nanos(began.saturating_add(location.at_us.saturating_mul(1000))))
    }

    pub(super) fn location(&self, packet: u64, at: Timestamp) -> PacketLocation {
        PacketLocation { packet, at_us: self.at_us(at) }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
