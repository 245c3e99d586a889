//! Room for series: which label sets of the metrics with many of them have series of their own in one
//! scope. What has none is counted as `other`.
//!
//! Some label sets always have series, so that nothing else, be it known or made up by somebody hostile,
//! can push them out. Beyond these, a metric has room for a few that come first. No metric takes room
//! from another one. `full` has no such limits: there `metrics.max_series` is the only one, of which a
//! third is kept for what `standard` always has.

use super::Profile;
use super::catalogue::{Metric, NONE};
use crate::event::{HeaderResult, ServerFirst};
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::proxy_protocol::Format;

/// What a metric has room for in one scope, `other` not counted.
struct Room {
    metric: Metric,
    /// What always has series, the most important first.
    reserved: &'static [[u16; 2]],
    /// How many label sets there are in `minimal`: as many of `reserved`.
    minimal: usize,
    /// How many there are in `standard`: all of `reserved`, and then those that come first.
    standard: usize,
}

const fn command(command: Command) -> [u16; 2] {
    [command.0 as u16, 0]
}

const V1: u16 = Format::V1 as u16;
const V2: u16 = Format::V2 as u16;
const NATIVE: u16 = AuthPlugin::NativePassword as u16;
const CACHING_SHA2: u16 = AuthPlugin::CachingSha2Password as u16;

/// `server_first_detected_total{protocol="mysql"}`.
const MYSQL: [u16; 2] = [ServerFirst::Mysql as u16, 0];

const ROOMS: [Room; 10] = [
    Room { metric: Metric::ServerFirst, reserved: &[MYSQL], minimal: 1, standard: 8 },
    // A destination's servers are of few releases.
    Room { metric: Metric::Greetings, reserved: &[], minimal: 0, standard: 5 },
    Room {
        metric: Metric::PreHandshakeErrors,
        reserved: &[[1040, 0], [1129, 0], [1130, 0]],
        minimal: 2,
        standard: 4,
    },
    Room {
        metric: Metric::HandshakeErrors,
        reserved: &[[1045, NATIVE], [1045, CACHING_SHA2], [1049, NATIVE], [1049, CACHING_SHA2]],
        minimal: 0,
        standard: 7,
    },
    Room {
        metric: Metric::Commands,
        reserved: &[
            command(Command::QUERY),
            command(Command::STMT_EXECUTE),
            command(Command::STMT_PREPARE),
            command(Command::PING),
            command(Command::QUIT),
            command(Command::STMT_CLOSE),
            command(Command::INIT_DB),
            command(Command::CHANGE_USER),
            command(Command::RESET_CONNECTION),
            command(Command::STMT_RESET),
            command(Command::STMT_FETCH),
            command(Command::STMT_SEND_LONG_DATA),
            command(Command::STMT_BULK_EXECUTE),
            command(Command::SET_OPTION),
            command(Command::BINLOG_DUMP),
            command(Command::BINLOG_DUMP_GTID),
        ],
        minimal: 5,
        standard: 18,
    },
    Room {
        metric: Metric::CommandDuration,
        reserved: &[command(Command::QUERY), command(Command::STMT_EXECUTE), command(Command::STMT_PREPARE)],
        minimal: 0,
        standard: 3,
    },
    Room {
        metric: Metric::Errors,
        reserved: &[
            // What an operator is called for.
            [1205, 0],
            [1213, 0],
            [1290, 0],
            [1836, 0],
            [1792, 0],
            [1317, 0],
            [3024, 0],
            [1969, 0],
            [1047, 0],
            [1053, 0],
            [1927, 0],
            [1153, 0],
            [1021, 0],
            [1114, 0],
            // What a developer is called for.
            [1062, 0],
            [1064, 0],
            [1146, 0],
            [1054, 0],
            [1142, 0],
            [1452, 0],
        ],
        minimal: 3,
        standard: 22,
    },
    Room {
        metric: Metric::ServerNotices,
        reserved: &[[4031, 0], [1927, 0], [1053, 0]],
        minimal: 0,
        standard: 4,
    },
    Room {
        metric: Metric::ProxyProtocolReceived,
        reserved: &[
            [V1, HeaderResult::Stripped as u16],
            [V2, HeaderResult::Stripped as u16],
            [V1, HeaderResult::Untrusted as u16],
            [V2, HeaderResult::Untrusted as u16],
            [V1, HeaderResult::Malformed as u16],
            [V2, HeaderResult::Malformed as u16],
            [NONE, HeaderResult::Missing as u16],
            [NONE, HeaderResult::Timeout as u16],
        ],
        minimal: 8,
        standard: 8,
    },
    Room { metric: Metric::ProxyProtocolSent, reserved: &[[V1, 0], [V2, 0]], minimal: 2, standard: 2 },
];

fn room(metric: Metric) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.metric == metric)
}

impl Room {
    fn size(&self, profile: Profile) -> usize {
        match profile {
            Profile::Minimal => self.minimal,
            Profile::Standard => self.standard,
            Profile::Full => usize::MAX,
        }
    }

    fn reserved(&self, profile: Profile) -> &'static [[u16; 2]] {
        self.reserved.get(..self.size(profile).min(self.reserved.len())).unwrap_or_default()
    }
}

/// How many label sets of `metric` a scope has room for in `profile`, `other` not counted. None: for all
/// it can have.
#[must_use]
pub fn size(metric: Metric, profile: Profile) -> Option<usize> {
    room(metric).map(|room| room.size(profile)).filter(|size| *size != usize::MAX)
}

/// The label sets of `metric` that always have series of their own in `profile`, besides those of metrics
/// that have room for all.
#[must_use]
pub fn reserved(metric: Metric, profile: Profile) -> &'static [[u16; 2]] {
    room(metric).map_or(&[], |room| room.reserved(profile))
}

/// This label set has series whatever else there is, within `metrics.max_series`.
pub(super) fn is_reserved(metric: Metric, labels: [u16; 2], profile: Profile) -> bool {
    room(metric).is_none_or(|room| room.reserved(profile).contains(&labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::Kind;
    use crate::metrics::series::histogram_series;
    use crate::mysql::wire::errno;
    use std::collections::BTreeSet;

    /// The most series that one destination can have, those of the VM included.
    fn most(profile: Profile) -> usize {
        let exported = Metric::ALL.iter().filter(|metric| metric.definition().profile <= profile);
        let series = |metric: &Metric| {
            let definition = metric.definition();
            let sets = size(*metric, profile).map(|size| size + 1).or(definition.label_sets());
            let sets = sets.unwrap_or_else(|| panic!("no limit to the series of {metric:?}"));
            if definition.kind == Kind::Histogram { sets * histogram_series(profile) } else { sets }
        };
        exported.map(series).sum()
    }

    #[test]
    fn all_that_a_destination_can_have_is_within_the_profile() {
        for profile in [Profile::Minimal, Profile::Standard] {
            let most = most(profile);
            assert!(profile.max_series().is_some_and(|max| most <= max), "{profile:?}: {most}");
        }
    }

    #[test]
    fn what_is_reserved_has_room_and_is_known() {
        for Room { metric, reserved, minimal, standard } in ROOMS {
            assert!(minimal <= reserved.len() && reserved.len() <= standard, "{metric:?}");
            let distinct: BTreeSet<_> = reserved.iter().collect();
            assert_eq!(distinct.len(), reserved.len(), "{metric:?}");
            let with_errno =
                [Metric::PreHandshakeErrors, Metric::HandshakeErrors, Metric::Errors, Metric::ServerNotices];
            if with_errno.contains(&metric) {
                assert!(reserved.iter().all(|[errno, _]| errno::code(*errno) == *errno), "{metric:?}");
            }
        }
    }
}
