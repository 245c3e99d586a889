//! Reads a capture into a report.

use std::io::Read;

use firstword::clock::Timestamp;

use super::capture::Capture;
use super::flows::Flows;
use super::report::{self, Report};
use super::{pcap, segment, wall_clock};

/// What the report on a capture contains.
pub(super) struct Settings<'a> {
    /// Ports to report, see [`Flows`].
    pub(super) ports: &'a [u16],
    /// Maximum number of commands that are listed for each connection.
    pub(super) max_commands: usize,
    /// Maximum number of the slowest commands.
    pub(super) max_slowest: usize,
    /// Whether the report shows the names of accounts.
    pub(super) shows_user: bool,
}

/// Reads a capture to its end, or to a problem, which the report then has.
pub(super) fn read(input: impl Read + Send, settings: &Settings, report: &mut Report) {
    let Settings { ports, max_commands, max_slowest, shows_user } = *settings;
    let mut flows = Flows::new(ports);
    let (packets, began, now) = (0, None, Timestamp::default());
    let mut capture = Capture { max_commands, max_slowest, shows_user, packets, began, now };
    let read = pcap::read(input, |packet| {
        capture.packets = packet.number;
        capture.began.get_or_insert(packet.at);
        capture.now = packet.at.max(capture.now);
        match segment::segment(&packet) {
            Ok(segment) => flows.segment(segment, &capture, report),
            Err(left_out) => report::add(&mut report.left_out, left_out.reason(), 1),
        }
    });
    flows.finish(&capture, report);
    report.packets = capture.packets;
    report.began = capture.began.map(wall_clock::rfc3339);
    report.ended = capture.began.map(|_| wall_clock::rfc3339(capture.now));
    report.problem = read.err();
}
