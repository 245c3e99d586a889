//! Names of all metrics with the names of their labels, for hosts that must define both before the first count.

use std::collections::BTreeSet;

use super::catalogue::{Kind, Metric};
use super::encoding::PREFIX;
use super::{Profile, ScopeLabel};

/// Endings of the counters of a histogram, and whether they have the label `le`.
pub(super) const HISTOGRAM: [(&str, bool); 3] =
    [("_seconds_bucket", true), ("_seconds_count", false), ("_microseconds_sum", false)];

/// A metric with one set of labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template {
    /// Name with the prefix `firstword_`.
    pub name: String,
    /// True if it is a gauge. Everything else is a counter.
    pub is_gauge: bool,
    /// Names of the labels, sorted. A metric of connections has at least one, see [`NO_LABEL`].
    pub labels: Vec<&'static str>,
}

/// Label of a metric of connections that has no other label. Its value is empty, which is the same as no label to Prometheus.
/// Without a label, a host would export the metric as soon as it is defined.
pub const NO_LABEL: &str = "direction";

/// Returns each combination that a configuration can export: all profiles, and all choices of `metrics.labels`.
#[must_use]
pub fn all() -> BTreeSet<Template> {
    let mut templates = BTreeSet::new();
    for definition in Metric::ALL.iter().map(|metric| metric.definition()) {
        for profile in [Profile::Standard, Profile::Full] {
            let own: Vec<_> = definition.labels(profile).map(|label| label.key()).collect();
            for scope in if definition.scoped { subsets() } else { vec![Vec::new()] } {
                let endings =
                    if definition.kind == Kind::Histogram { &HISTOGRAM[..] } else { &[("", false)] };
                for (ending, has_bound) in endings {
                    let le = has_bound.then_some("le");
                    let mut labels: Vec<_> = own.iter().copied().chain(scope.clone()).chain(le).collect();
                    labels.sort_unstable();
                    if definition.scoped && labels.is_empty() {
                        labels.push(NO_LABEL);
                    }
                    let name = format!("{PREFIX}{}{ending}", definition.name);
                    templates.insert(Template { name, is_gauge: definition.kind == Kind::Gauge, labels });
                }
            }
        }
    }
    templates
}

/// Returns all subsets of the scope labels.
fn subsets() -> Vec<Vec<&'static str>> {
    let mut subsets = vec![Vec::new()];
    for label in ScopeLabel::ALL {
        let with: Vec<Vec<_>> =
            subsets.iter().map(|subset| [subset.as_slice(), &[label.key()]].concat()).collect();
        subsets.extend(with);
    }
    subsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_of_labels_has_a_template() {
        let all = all();
        let has = |name: &str, is_gauge, labels: &[&'static str]| {
            all.contains(&Template { name: name.into(), is_gauge, labels: labels.to_vec() })
        };
        assert!(has("firstword_series", true, &[]));
        assert!(has("firstword_commands_total", false, &["command"]));
        assert!(has("firstword_commands_total", false, &["command", "destination", "direction", "port"]));
        assert!(!has("firstword_rows_total", false, &[]));
        assert!(has("firstword_rows_total", false, &[NO_LABEL]));
        let bucket = "firstword_command_duration_seconds_bucket";
        assert!(has(bucket, false, &["command", "le", "port"]));
        assert!(has(bucket, false, &["command", "le", "port", "verb"]));
        assert!(has("firstword_command_duration_microseconds_sum", false, &["command", "destination"]));
        assert_eq!(subsets().len(), 8);
    }
}
