//! The commands of a capture that took longest.

use super::report::{Answer, PacketLocation, SlowCommand};

/// A command of a connection whose number is not known yet.
pub(super) fn of(
    command: &'static str,
    verb: Option<&'static str>,
    location: PacketLocation,
    answer: &Answer,
) -> SlowCommand {
    SlowCommand {
        connection: 0,
        command,
        verb,
        location,
        first_byte_us: answer.first_byte_us,
        took_us: answer.took_us,
        rows: answer.rows,
        errno: answer.errno,
    }
}

/// Adds a command to the slowest ones, the slowest first, and keeps at most `max` of them.
pub(super) fn add(slowest: &mut Vec<SlowCommand>, command: SlowCommand, max: usize) {
    let at = slowest.partition_point(|other| other.took_us >= command.took_us);
    if at < max {
        slowest.insert(at, command);
        slowest.truncate(max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_kept_in_order() {
        let answer = |took_us| Answer {
            first_byte_us: 0,
            took_us,
            rows: 0,
            affected_rows: 0,
            warnings: 0,
            result_sets: 0,
            errno: None,
        };
        let mut slowest = Vec::new();
        for (packet, took_us) in [(1, 5), (2, 9), (3, 5), (4, 1), (5, 7)] {
            let location = PacketLocation { packet, at_us: 0 };
            add(&mut slowest, of("query", None, location, &answer(took_us)), 3);
        }
        let kept: Vec<_> = slowest.iter().map(|one| (one.location.packet, one.took_us)).collect();
        assert_eq!(kept, [(2, 9), (5, 7), (1, 5)]);
        add(&mut slowest, of("query", None, PacketLocation::default(), &answer(99)), 0);
        assert_eq!(slowest.len(), 3);
    }
}
