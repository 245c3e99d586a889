//! Budgets of series: the label sets of a metric that have series of their own in one scope. All others count as `other`.
//!
//! Some label sets always have series, so that a hostile peer cannot use up the budget with other label sets. After
//! these, the first few label sets get a series. No metric uses the budget of another. `full` has no budgets: there only
//! `metrics.max_series` limits the series, and a third of it is kept for the label sets that `standard` always has.

use super::Profile;
use super::catalogue::{LabelCode, Labels, Metric, label, labels};
use crate::event::{HeaderResult, ServerFirst};
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::proxy_protocol::Format;

/// The budget of one metric in one scope, without the series of `other`.
struct SeriesBudget {
    metric: Metric,
    /// Label sets that always have series, the most important first.
    reserved: &'static [Labels],
    /// Number of label sets in `minimal`: the first of `reserved`.
    minimal: usize,
    /// Number of label sets in `standard`: all of `reserved`, then the first others.
    standard: usize,
}

const fn command(command: Command) -> Labels {
    label(command.0 as u16)
}

const V1: u16 = Format::V1 as u16;
const V2: u16 = Format::V2 as u16;
const NATIVE: u16 = AuthPlugin::NativePassword as u16;
const CACHING_SHA2: u16 = AuthPlugin::CachingSha2Password as u16;

/// `server_first_detected_total{protocol="mysql"}`.
const MYSQL: Labels = label(ServerFirst::Mysql as u16);

const BUDGETS: [SeriesBudget; 11] = [
    SeriesBudget { metric: Metric::ServerFirst, reserved: &[MYSQL], minimal: 1, standard: 8 },
    // The servers of a destination have few releases.
    SeriesBudget { metric: Metric::Greetings, reserved: &[], minimal: 0, standard: 5 },
    SeriesBudget {
        metric: Metric::PreHandshakeErrors,
        reserved: &[label(1040), label(1129), label(1130)],
        minimal: 2,
        standard: 4,
    },
    SeriesBudget {
        metric: Metric::HandshakeErrors,
        reserved: &[
            labels(1045, NATIVE),
            labels(1045, CACHING_SHA2),
            labels(1049, NATIVE),
            labels(1049, CACHING_SHA2),
        ],
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
            label(1205),
            label(1213),
            label(1290),
            label(1836),
            label(1792),
            label(1317),
            label(3024),
            label(1969),
            label(1047),
            label(1053),
            label(1927),
            label(1153),
            label(1021),
            label(1114),
            // Errors for developers.
            label(1062),
            label(1064),
            label(1146),
            label(1054),
            label(1142),
            label(1452),
        ],
        minimal: 3,
        standard: 22,
    },
    SeriesBudget {
        metric: Metric::ServerNotices,
        reserved: &[label(4031), label(1927), label(1053)],
        minimal: 0,
        standard: 4,
    },
    SeriesBudget {
        metric: Metric::ProxyProtocolReceived,
        reserved: &[
            labels(V1, HeaderResult::Stripped as u16),
            labels(V2, HeaderResult::Stripped as u16),
            labels(V1, HeaderResult::Untrusted as u16),
            labels(V2, HeaderResult::Untrusted as u16),
            labels(V1, HeaderResult::Malformed as u16),
            labels(V2, HeaderResult::Malformed as u16),
            labels(LabelCode::NONE.0, HeaderResult::Missing as u16),
            labels(LabelCode::NONE.0, HeaderResult::Timeout as u16),
        ],
        minimal: 8,
        standard: 8,
    },
    // Five results on the server's side, four on the client's.
    SeriesBudget { metric: Metric::TlsSessions, reserved: &[], minimal: 0, standard: 9 },
    SeriesBudget {
        metric: Metric::ProxyProtocolSent,
        reserved: &[label(V1), label(V2)],
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

    fn reserved(&self, profile: Profile) -> &'static [Labels] {
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
pub fn reserved(metric: Metric, profile: Profile) -> &'static [Labels] {
    budget(metric).map_or(&[], |budget| budget.reserved(profile))
}

/// Whether this label set always has series, within `metrics.max_series`.
pub(super) fn is_reserved(metric: Metric, labels: Labels, profile: Profile) -> bool {
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
                assert!(reserved.iter().all(|[errno, _]| errno::code(errno.0) == errno.0), "{metric:?}");
            }
        }
    }
}
