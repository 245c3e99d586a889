//! Budgets of series: the label sets of a metric that have series of their own in one scope. All others count as `other`.
//!
//! Some label sets always have series, so that a hostile peer cannot use up the budget with other label sets. After
//! these, the first few label sets get a series. No metric uses the budget of another. `full` has no budgets: there only
//! `metrics.max_series` limits the series, and a third of it is kept for the label sets that `standard` always has.

use super::Profile;
use super::catalogue::{Metric, NONE};
use crate::event::{HeaderResult, ServerFirst};
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::proxy_protocol::Format;

/// The budget of one metric in one scope, without the series of `other`.
struct SeriesBudget {
    metric: Metric,
    /// Label sets that always have series, the most important first.
    reserved: &'static [[u16; 2]],
    /// Number of label sets in `minimal`: the first of `reserved`.
    minimal: usize,
    /// Number of label sets in `standard`: all of `reserved`, then the first others.
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

const BUDGETS: [SeriesBudget; 10] = [
    SeriesBudget { metric: Metric::ServerFirst, reserved: &[MYSQL], minimal: 1, standard: 8 },
    // The servers of a destination have few releases.
    SeriesBudget { metric: Metric::Greetings, reserved: &[], minimal: 0, standard: 5 },
    SeriesBudget {
        metric: Metric::PreHandshakeErrors,
        reserved: &[[1040, 0], [1129, 0], [1130, 0]],
        minimal: 2,
        standard: 4,
    },
    SeriesBudget {
        metric: Metric::HandshakeErrors,
        reserved: &[[1045, NATIVE], [1045, CACHING_SHA2], [1049, NATIVE], [1049, CACHING_SHA2]],
        minimal: 0,
        standard: 7,
    },
    SeriesBudget {
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
    SeriesBudget {
        metric: Metric::CommandDuration,
        reserved: &[command(Command::QUERY), command(Command::STMT_EXECUTE), command(Command::STMT_PREPARE)],
        minimal: 0,
        standard: 3,
    },
    SeriesBudget {
        metric: Metric::Errors,
        reserved: &[
            // Errors for operators.
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
            // Errors for developers.
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
    SeriesBudget {
        metric: Metric::ServerNotices,
        reserved: &[[4031, 0], [1927, 0], [1053, 0]],
        minimal: 0,
        standard: 4,
    },
    SeriesBudget {
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
    SeriesBudget {
        metric: Metric::ProxyProtocolSent,
        reserved: &[[V1, 0], [V2, 0]],
        minimal: 2,
        standard: 2,
    },
];

fn budget(metric: Metric) -> Option<&'static SeriesBudget> {
    BUDGETS.iter().find(|budget| budget.metric == metric)
}

impl SeriesBudget {
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

/// Maximum number of label sets of `metric` in one scope, without `other`; `None` if all have series.
#[must_use]
pub fn size(metric: Metric, profile: Profile) -> Option<usize> {
    budget(metric).map(|budget| budget.size(profile)).filter(|size| *size != usize::MAX)
}

/// The label sets of `metric` that always have series of their own in `profile`. Empty for metrics without a budget,
/// because all their label sets have series.
#[must_use]
pub fn reserved(metric: Metric, profile: Profile) -> &'static [[u16; 2]] {
    budget(metric).map_or(&[], |budget| budget.reserved(profile))
}

/// Whether this label set always has series, within `metrics.max_series`.
pub(super) fn is_reserved(metric: Metric, labels: [u16; 2], profile: Profile) -> bool {
    budget(metric).is_none_or(|budget| budget.reserved(profile).contains(&labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::Kind;
    use crate::metrics::series::histogram_series;
    use crate::mysql::wire::errno;
    use std::collections::BTreeSet;

    /// Maximum number of series of one destination, with those of the VM.
    fn max_series(profile: Profile) -> usize {
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
    fn all_series_of_a_destination_are_within_the_profile() {
        for profile in [Profile::Minimal, Profile::Standard] {
            let most = max_series(profile);
            assert!(profile.max_series().is_some_and(|max| most <= max), "{profile:?}: {most}");
        }
    }

    #[test]
    fn reserved_label_sets_fit_their_budget_and_have_known_codes() {
        for SeriesBudget { metric, reserved, minimal, standard } in BUDGETS {
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
