//! What the filter has counted, series by series.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firstword_testing::envoy::Envoy;
use firstword_testing::prometheus::{Metrics, Sample};

/// How long counts may take to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// So many ticks of all VMs together are several flushes of each.
const SEVERAL_TICKS: f64 = 16.0;

/// Series, each as `name{label=value,label=value}` without the prefix `firstword_`.
type Lines = BTreeMap<String, i64>;

/// These speak of the filter and not of traffic, and change by themselves.
const BY_ITSELF: [&str; 5] = [
    "firstword_heartbeat_total",
    "firstword_vm_memory_bytes",
    "firstword_connection_state_bytes",
    "firstword_series",
    "firstword_build_info",
];

/// Gauges of what connections hold as long as they live.
const LIVE: [&str; 5] = [
    "connections_active",
    "commands_in_flight",
    "commands_stalled",
    "prepared_statements_open",
    "transactions_open",
];

/// Tells by how much each series has changed. Left out are [`BY_ITSELF`], and of a histogram all but the count.
pub struct Ledger<'e> {
    envoy: &'e Envoy,
    /// What labels nearly every series has. They are left out of the lines of those that have them all.
    usual: Vec<(&'static str, String)>,
    before: Lines,
}

impl<'e> Ledger<'e> {
    /// Of listeners without a direction, most of it for this destination.
    pub fn new(envoy: &'e Envoy, destination: &str) -> Self {
        Self::with_labels(envoy, &[("direction", "unspecified"), ("destination", destination)])
    }

    pub fn with_labels(envoy: &'e Envoy, usual: &[(&'static str, &str)]) -> Self {
        let usual = usual.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let mut ledger = Self { envoy, usual, before: Lines::new() };
        ledger.before = ledger.read();
        ledger
    }

    /// Waits until each of these series has changed by so much, and no other has. What changes afterwards is the next
    /// step's.
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

    /// Several ticks later nothing else has been counted, nothing is left in a gauge of what connections hold, and Envoy's
    /// log is clean.
    pub fn finish(self) {
        self.finish_having_logged(&[]);
    }

    /// The same, but for these lines of the filter's, each a part of one.
    pub fn finish_having_logged(mut self, lines: &[&str]) {
        self.rest();
        for (line, value) in &self.before {
            let is_live = LIVE.iter().any(|gauge| line.starts_with(gauge));
            assert!(!is_live || *value == 0, "{line} {value}, and all connections are closed");
        }
        let log = self.envoy.log();
        let logged: Vec<_> = log.lines().filter(|line| line.contains("wasm log")).collect();
        let each_is_there = logged.len() == lines.len()
            && logged.iter().zip(lines).all(|(logged, line)| logged.contains(line));
        assert!(each_is_there, "logged: {logged:#?}\nexpected: {lines:#?}");
        let others: Vec<_> = log.lines().filter(|line| !line.contains("wasm log")).collect();
        assert_clean(&others.join("\n"));
    }

    /// Waits for several ticks, in which nothing is counted.
    pub fn rest(&mut self) {
        several_ticks(self.envoy);
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
            !BY_ITSELF.contains(&sample.name.as_str()) && !timing
        };
        ours(&metrics).filter(counted).map(|sample| (self.line(sample), whole(sample.value))).collect()
    }

    fn line(&self, sample: &Sample) -> String {
        let has = |(key, value): &(&'static str, String)| sample.labels.get(*key) == Some(value);
        let is_usual = self.usual.iter().all(has);
        let shown = sample
            .labels
            .iter()
            .filter(|(key, _)| !is_usual || self.usual.iter().all(|(usual, _)| usual != key));
        let labels: Vec<_> = shown.map(|(key, value)| format!("{key}={value}")).collect();
        let name = sample.name.trim_start_matches("firstword_");
        if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
    }
}

/// Waits until each VM has flushed several times: whatever had happened before is exported.
pub fn several_ticks(envoy: &Envoy) {
    let beats = || envoy.metric("firstword_heartbeat_total", &[]).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let begin = beats();
    while beats() < begin + SEVERAL_TICKS {
        assert!(Instant::now() < deadline, "the heart has stopped:\n{}", envoy.log());
        sleep(POLL);
    }
}

/// Reads lines of a series and a whole number. Several of the same series add up.
fn parse(text: &str) -> Lines {
    let mut lines = Lines::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let value =
            line.rsplit_once(' ').and_then(|(series, value)| Some((series, value.parse::<i64>().ok()?)));
        let (series, value) = value.unwrap_or_else(|| panic!("no series and number: {line}"));
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

/// A counter that wrapped, or a gauge below zero, is far beyond what a float holds exactly.
fn whole(value: f64) -> i64 {
    assert!((0.0..1e15).contains(&value) && value.fract() == 0.0, "{value} is no count");
    #[allow(clippy::cast_possible_truncation)]
    let whole = value as i64;
    whole
}

/// The filter's samples of a scrape. Envoy's own begin with `envoy_`.
pub fn ours(metrics: &Metrics) -> impl Iterator<Item = &Sample> {
    metrics.samples.iter().filter(|sample| !sample.name.starts_with("envoy_"))
}

/// Neither Envoy nor the filter has complained, but for what `envoy/mysql.yaml` says about `fail_open`.
pub fn assert_clean(log: &str) {
    for line in log.lines() {
        let complains = ["[error]", "[critical]", "panicked", "wasm log", "in-VM backtrace"];
        assert!(!complains.iter().any(|word| line.contains(word)), "{line}\n\n{log}");
        let deprecated = line.contains("Deprecated") || line.contains("deprecated");
        assert!(!deprecated || line.contains("PluginConfig.fail_open"), "{line}\n\n{log}");
    }
}
