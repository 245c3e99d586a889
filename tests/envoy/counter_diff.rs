//! Changes of the filter's metrics, series by series.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firstword_testing::envoy::Envoy;
use firstword_testing::prometheus::{Metrics, Sample};
use firstword_testing::shell::is_filter_line;

/// Maximum time until counts arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Number of ticks of all VMs together in which each VM flushes several times.
const TICKS: f64 = 16.0;

/// Series, each as `name{label=value,label=value}` without the prefix `firstword_`.
type Lines = BTreeMap<String, i64>;

/// Series about the filter itself. They change without traffic.
const SELF_METRICS: [&str; 5] = [
    "firstword_heartbeat_total",
    "firstword_vm_memory_bytes",
    "firstword_connection_state_bytes",
    "firstword_series",
    "firstword_build_info",
];

/// Gauges that are zero when no connection is open.
const LIVE_GAUGES: [&str; 5] = [
    "connections_active",
    "commands_in_flight",
    "commands_stalled",
    "prepared_statements_open",
    "transactions_open",
];

/// Difference between two scrapes, per series. Ignores [`SELF_METRICS`], and the buckets and sum of a histogram.
pub struct CounterDiff<'e> {
    envoy: &'e Envoy,
    /// Labels that nearly every series has. The line of a series that has all of them omits them.
    common_labels: Vec<(&'static str, String)>,
    before: Lines,
}

impl<'e> CounterDiff<'e> {
    /// The difference for listeners without a direction, and mainly for this destination.
    pub fn new(envoy: &'e Envoy, destination: &str) -> Self {
        Self::with_labels(envoy, &[("direction", "unspecified"), ("destination", destination)])
    }

    pub fn with_labels(envoy: &'e Envoy, common_labels: &[(&'static str, &str)]) -> Self {
        let common_labels = common_labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let mut diff = Self { envoy, common_labels, before: Lines::new() };
        diff.before = diff.read();
        diff
    }

    /// Waits until exactly these series have changed, by exactly these amounts. Later changes count for the next step.
    pub fn expect(&mut self, changes: &str) {
        let expected = parse(changes);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.read();
            let found = self.changes(&now);
            if found == expected {
                self.before = now;
                return;
            }
            if Instant::now() > deadline {
                let log = self.envoy.log();
                panic!("changes of series:\n{}\nexpected:\n{}\n{log}", show(&found), show(&expected));
            }
            sleep(POLL);
        }
    }

    /// Asserts that nothing more is counted in several ticks, that the [`LIVE_GAUGES`] are zero, and that Envoy's log has
    /// no complaint.
    pub fn finish(self) {
        self.finish_with_log_lines(&[]);
    }

    /// The same, except that the filter has logged exactly these lines. Each is given by a part of it.
    pub fn finish_with_log_lines(mut self, lines: &[&str]) {
        self.expect_nothing();
        for (line, value) in &self.before {
            let is_live = LIVE_GAUGES.iter().any(|gauge| line.starts_with(gauge));
            assert!(!is_live || *value == 0, "{line} {value} after all connections are closed");
        }
        let log = self.envoy.log();
        let logged: Vec<_> = log.lines().filter(|line| is_filter_line(line)).collect();
        let each_is_there = logged.len() == lines.len()
            && logged.iter().zip(lines).all(|(logged, line)| logged.contains(line));
        assert!(each_is_there, "logged: {logged:#?}\nexpected: {lines:#?}");
        let others: Vec<_> = log.lines().filter(|line| !is_filter_line(line)).collect();
        assert_clean(&others.join("\n"));
    }

    /// Waits for several ticks, and asserts that nothing is counted in them.
    pub fn expect_nothing(&mut self) {
        wait_for_flushes(self.envoy);
        self.expect("");
    }

    fn changes(&self, now: &Lines) -> Lines {
        let change = |(line, value): (&String, &i64)| {
            let change = value - self.before.get(line).copied().unwrap_or_default();
            (change != 0).then(|| (line.clone(), change))
        };
        now.iter().filter_map(change).collect()
    }

    fn read(&self) -> Lines {
        let metrics = self.envoy.prometheus();
        let counted = |sample: &&Sample| {
            let timing = sample.name.ends_with("_bucket") || sample.name.ends_with("_microseconds_sum");
            !SELF_METRICS.contains(&sample.name.as_str()) && !timing
        };
        ours(&metrics).filter(counted).map(|sample| (self.line(sample), whole(sample.value))).collect()
    }

    fn line(&self, sample: &Sample) -> String {
        let has = |(key, value): &(&'static str, String)| sample.labels.get(*key) == Some(value);
        let has_common = self.common_labels.iter().all(has);
        let shown = sample
            .labels
            .iter()
            .filter(|(key, _)| !has_common || self.common_labels.iter().all(|(common, _)| common != key));
        let labels: Vec<_> = shown.map(|(key, value)| format!("{key}={value}")).collect();
        let name = sample.name.trim_start_matches("firstword_");
        if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
    }
}

/// Waits until each VM has flushed several times, so that everything before the call is exported.
pub fn wait_for_flushes(envoy: &Envoy) {
    let deadline = Instant::now() + PATIENCE;
    let begin = envoy.ticks();
    while envoy.ticks() < begin + TICKS {
        assert!(Instant::now() < deadline, "the VMs do not tick:\n{}", envoy.log());
        sleep(POLL);
    }
}

/// Parses lines of a series and a whole number. The numbers of the same series are added.
fn parse(text: &str) -> Lines {
    let mut lines = Lines::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let value =
            line.rsplit_once(' ').and_then(|(series, value)| Some((series, value.parse::<i64>().ok()?)));
        let (series, value) = value.unwrap_or_else(|| panic!("not a series and a number: {line}"));
        *lines.entry(series.to_owned()).or_default() += value;
    }
    lines.retain(|_, value| *value != 0);
    lines
}

fn show(lines: &Lines) -> String {
    lines.iter().fold(String::new(), |mut text, (series, value)| {
        writeln!(text, "    {series} {value}").expect("a String takes everything");
        text
    })
}

/// Converts a count. Refuses a counter that wrapped, and a gauge below zero: both are beyond the exact range of a float.
fn whole(value: f64) -> i64 {
    assert!((0.0..1e15).contains(&value) && value.fract() == 0.0, "{value} is not a count");
    #[allow(clippy::cast_possible_truncation)]
    let whole = value as i64;
    whole
}

/// The filter's samples of a scrape. Envoy's own samples begin with `envoy_`.
pub fn ours(metrics: &Metrics) -> impl Iterator<Item = &Sample> {
    metrics.samples.iter().filter(|sample| !sample.name.starts_with("envoy_"))
}

/// Asserts that neither Envoy nor the filter has complained. Ignores the deprecation that `envoy/mysql.yaml` explains.
pub fn assert_clean(log: &str) {
    for line in log.lines() {
        let complains = ["[error]", "[critical]", "panicked", "in-VM backtrace"];
        let complains = complains.iter().any(|word| line.contains(word)) || is_filter_line(line);
        assert!(!complains, "{line}\n\n{log}");
        let deprecated = line.contains("Deprecated") || line.contains("deprecated");
        assert!(!deprecated || line.contains("PluginConfig.fail_open"), "{line}\n\n{log}");
    }
}
