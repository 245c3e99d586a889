//! A host without a proxy: it records the calls of the filter, and returns what the test sets.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::event::ClosedBy;
use firstword::filter::host::{Host, HostError};
use firstword::metrics::Sink;
use firstword::metrics::catalogue::Kind;
use log::Level;

/// The proxy, and one connection of it.
pub struct FakeHost {
    pub time: Cell<Duration>,
    pub peer: Option<SocketAddr>,
    pub cluster: Option<&'static str>,
    pub upstream: Option<&'static str>,
    pub closed_by: ClosedBy,
    /// Names of the calls that fail with the status `REFUSED`.
    pub refused: RefCell<BTreeSet<&'static str>>,
    lines: RefCell<Vec<(Level, String)>>,
    state: RefCell<BTreeMap<String, String>>,
    calls: RefCell<Vec<&'static str>>,
}

impl Default for FakeHost {
    /// Returns a host with the cluster `orders` and a clock that stays at 1000 s until a test advances it.
    fn default() -> Self {
        Self {
            time: Cell::new(Duration::from_secs(1000)),
            peer: None,
            cluster: Some("orders"),
            upstream: None,
            closed_by: ClosedBy::Client,
            refused: RefCell::default(),
            lines: RefCell::default(),
            state: RefCell::default(),
            calls: RefCell::default(),
        }
    }
}

impl FakeHost {
    pub fn advance(&self, by: Duration) {
        self.time.set(self.time.get() + by);
    }

    /// Returns the lines since the last call.
    pub fn take_log(&self) -> Vec<(Level, String)> {
        self.lines.take()
    }

    /// Returns the names of the host calls since the last time, in order. Calls for lines and for the clock are left out.
    pub fn take_calls(&self) -> Vec<&'static str> {
        self.calls.take()
    }

    /// The filter state of a key, given without its prefix `firstword.`.
    pub fn state(&self, key: &str) -> Option<String> {
        self.state.borrow().get(&format!("firstword.{key}")).cloned()
    }

    fn call(&self, call: &'static str) -> Result<(), HostError> {
        self.calls.borrow_mut().push(call);
        let is_refused = self.refused.borrow().contains(call);
        if is_refused { Err(HostError { call, status: "REFUSED".into() }) } else { Ok(()) }
    }
}

impl Host for FakeHost {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.time.get().as_nanos()).unwrap())
    }

    fn log(&self, level: Level, line: &str) {
        self.lines.borrow_mut().push((level, line.to_owned()));
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.call("peer").ok().and(self.peer)
    }

    fn cluster(&self) -> Option<Vec<u8>> {
        self.call("cluster").ok().and(self.cluster).map(Into::into)
    }

    fn upstream_address(&self) -> Option<Vec<u8>> {
        self.call("upstream_address").ok().and(self.upstream).map(Into::into)
    }

    fn closed_by(&self) -> ClosedBy {
        self.call("closed_by").map_or(ClosedBy::Proxy, |()| self.closed_by)
    }

    fn set_filter_state(&self, key: &str, value: &str) -> Result<(), HostError> {
        self.call("set_filter_state")?;
        self.state.borrow_mut().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn resume(&self) -> Result<(), HostError> {
        self.call("resume")
    }

    fn close(&self) -> Result<(), HostError> {
        self.call("close")
    }
}

/// The metrics of a proxy.
#[derive(Debug, Default)]
pub struct FakeMetrics {
    ids: BTreeMap<String, u32>,
    values: BTreeMap<u32, i64>,
    /// True if it refuses all calls.
    pub is_refusing: bool,
}

impl FakeMetrics {
    /// The metrics with this prefix whose value is not zero, as `name{label=value} value` without `firstword_` and without
    /// the buckets of histograms.
    pub fn counted(&self, prefix: &str) -> Vec<String> {
        let line = |(name, id): (&String, &u32)| {
            let (labels, name) = name.strip_prefix(prefix)?.rsplit_once("firstword_")?;
            let labels = labels.trim_end_matches(";.;").replace("=.=", "=").replace(";.;", ",");
            let value = self.values[id];
            let is_counted = value != 0 && !name.ends_with("_bucket");
            is_counted.then(|| format!("{name}{{{labels}}} {value}").replace("{}", ""))
        };
        let mut lines: Vec<_> = self.ids.iter().filter_map(line).collect();
        lines.sort();
        lines
    }

    /// The sum of a metric over all connections whose labels contain all of `labels`, each as `key=value`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> i64 {
        let name = format!("firstword_{name}");
        let matches = |metric: &str| {
            let (own, metric) = metric.rsplit_once(";.;").unwrap_or(("", metric));
            let own = own.replace("=.=", "=");
            metric == name && labels.iter().all(|label| own.split(";.;").any(|part| part == *label))
        };
        self.ids.iter().filter(|(metric, _)| matches(metric)).map(|(_, id)| self.values[id]).sum()
    }
}

impl Sink for FakeMetrics {
    fn define(&mut self, _: Kind, name: &str) -> Option<u32> {
        if self.is_refusing {
            return None;
        }
        let next = u32::try_from(self.ids.len()).unwrap();
        let id = *self.ids.entry(name.to_owned()).or_insert(next);
        self.values.entry(id).or_default();
        Some(id)
    }

    fn add(&mut self, id: u32, delta: i64) -> bool {
        if !self.is_refusing {
            *self.values.get_mut(&id).unwrap() += delta;
        }
        !self.is_refusing
    }

    fn set(&mut self, id: u32, value: u64) -> bool {
        if !self.is_refusing {
            self.values.insert(id, i64::try_from(value).unwrap());
        }
        !self.is_refusing
    }
}
