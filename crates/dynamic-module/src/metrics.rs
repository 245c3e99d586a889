//! Metrics of the filter as series with labels in Envoy. Only the main thread uses them.

use std::collections::BTreeMap;

use firstword::filter::host::HostError;
use firstword::metrics::catalogue::Kind;
use firstword::metrics::templates::{self, Template};
use firstword::metrics::{Decoded, Sink, decode};

use crate::abi::{ExtensionHandle, MetricId};
use crate::types::Change;

/// Maximum number of series in this process. Envoy never removes one, and a new configuration can need others.
const MAX_SERIES: usize = 100_000;

/// Metrics of the bootstrap extension.
pub(crate) struct Metrics {
    handle: ExtensionHandle,
    /// Envoy's metrics, which all must be defined at its start.
    templates: BTreeMap<Template, MetricId>,
    series: Vec<Series>,
    /// Place of a series in `series`, by its encoded name. The filters of all workers use the same series.
    places: BTreeMap<String, u32>,
    /// First call that Envoy refused since the last [`Metrics::take_refused`].
    refused: Option<HostError>,
}

struct Series {
    metric: MetricId,
    is_gauge: bool,
    /// Values of the labels, in the order of the template.
    values: Vec<String>,
}

impl Metrics {
    /// Defines all metrics.
    pub(crate) fn define(handle: ExtensionHandle) -> Self {
        let define = |template: Template| {
            let id = handle.define(template.is_gauge, &template.name, &template.labels)?;
            Some((template, id))
        };
        let templates = templates::all().into_iter().filter_map(define).collect();
        Self { handle, templates, series: Vec::new(), places: BTreeMap::new(), refused: None }
    }

    /// Returns the first call that Envoy has refused since the last time.
    pub(crate) fn take_refused(&mut self) -> Option<HostError> {
        self.refused.take()
    }

    fn find(&self, kind: Kind, encoded: &str) -> Option<Series> {
        let Decoded { mut labels, name } = decode(encoded);
        labels.sort_unstable();
        let is_gauge = kind == Kind::Gauge;
        let template = |labels: &[(&str, &str)]| {
            let first = Template { name: name.to_owned(), is_gauge: false, labels: Vec::new() };
            let mut same_name = self.templates.range(first..).take_while(|(found, _)| found.name == name);
            let has_labels = |found: &Template| found.labels.iter().eq(labels.iter().map(|(key, _)| key));
            let fits = |found: &Template| found.is_gauge == is_gauge && has_labels(found);
            same_name.find(|(found, _)| fits(found)).map(|(_, metric)| *metric)
        };
        let metric = template(&labels).or_else(|| {
            labels.push((templates::NO_LABEL, ""));
            template(&labels)
        })?;
        let values = labels.iter().map(|(_, value)| (*value).to_owned()).collect();
        Some(Series { metric, is_gauge, values })
    }

    fn refuse(&mut self, call: &'static str, status: &str) {
        self.refused.get_or_insert_with(|| HostError { call, status: status.to_owned() });
    }

    fn change(&mut self, id: u32, change: impl FnOnce(bool) -> Change) -> bool {
        let Some(series) = usize::try_from(id).ok().and_then(|place| self.series.get(place)) else {
            return false;
        };
        let result = self.handle.change(series.metric, &series.values, change(series.is_gauge));
        if result != 0 {
            self.refuse("change_metric", &result.to_string());
        }
        result == 0
    }
}

impl Sink for Metrics {
    fn define(&mut self, kind: Kind, name: &str) -> Option<u32> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.series.len() >= MAX_SERIES {
            self.refuse("define_metric", "TOO_MANY_SERIES");
            return None;
        }
        let Some(series) = self.find(kind, name) else {
            self.refuse("define_metric", "NO_TEMPLATE");
            return None;
        };
        let place = u32::try_from(self.series.len()).ok()?;
        self.series.push(series);
        self.places.insert(name.to_owned(), place);
        // Envoy shows a series when it is first changed, and a zero is a value.
        let zero = |is_gauge| if is_gauge { Change::Raise(0) } else { Change::Count(0) };
        self.change(place, zero).then_some(place)
    }

    fn add(&mut self, id: u32, delta: i64) -> bool {
        let amount = delta.unsigned_abs();
        self.change(id, |is_gauge| match (is_gauge, delta < 0) {
            (false, _) => Change::Count(amount),
            (true, false) => Change::Raise(amount),
            (true, true) => Change::Lower(amount),
        })
    }

    fn set(&mut self, id: u32, value: u64) -> bool {
        self.change(id, |_| Change::Set(value))
    }
}
