//! Reads JSON into a [`Config`], which is valid by construction, or reports all problems at once.
//!
//! This module reads and checks the whole schema. It never accepts a setting and then ignores it.

mod coverage;
mod duration;
mod error;
mod field;
pub mod json_schema;
mod keys;
mod limits;
mod matching;
mod node;
mod policy;
mod proxy_protocol;
mod rule;
mod settings;
mod text;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use error::{ConfigError, ConfigErrors};
pub use limits::Limits;
pub use node::MAX_BYTES;
pub use policy::{Inspect, Policy, ProtocolRule};
pub use proxy_protocol::{ProxyProtocol, Receive, Send};
pub use rule::Rule;
pub use settings::{Absent, SETTINGS, Setting, Values, Word};

use crate::event::Direction;
use crate::metrics::{Profile, ScopeLabel};
use error::Problems;
use field::{Field, Object};

/// A whole configuration. The default, which is the same as an empty configuration, changes nothing on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The limit of all rules.
    pub mode: Mode,
    /// The export of metrics.
    pub metrics: MetricsConfig,
    /// The log.
    pub log: LogConfig,
    /// Maximum memory of the filter.
    pub limits: Limits,
    /// The keys that the access log may use, each once.
    pub access_log: Vec<&'static str>,
    rules: Vec<Rule>,
    /// Settings of connections that no rule matches.
    defaults: Policy,
}

/// The limit of all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Rules apply in full.
    #[default]
    Active,
    /// The filter inspects and counts, but no rule changes bytes.
    Observe,
    /// The filter forwards everything without inspection.
    Off,
}

/// `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The set of exported metrics.
    pub profile: Profile,
    /// Labels of every per-connection metric, each once, in the order of the configuration; may be empty.
    pub labels: Vec<ScopeLabel>,
    /// The time between two exports, 100 ms to 60 s.
    pub flush_interval: Duration,
    /// Maximum number of label sets that one VM (Envoy worker) exports, 1 to 100000. Further ones count as `other`.
    pub max_series: u32,
    /// Time without a complete response after which a command counts as stalled, 1 ms to an hour.
    pub stall: Duration,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            profile: Profile::Standard,
            labels: vec![ScopeLabel::Direction, ScopeLabel::Destination],
            flush_interval: Duration::from_millis(1000),
            max_series: 1000,
            stall: Duration::from_secs(10),
        }
    }
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: log::LevelFilter,
    /// Maximum number of lines that one VM (Envoy worker) logs in a minute, 1 to 60000.
    pub max_per_minute: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: log::LevelFilter::Warn, max_per_minute: 60 }
    }
}

const MODES: [(&str, Mode); 3] = [("active", Mode::Active), ("observe", Mode::Observe), ("off", Mode::Off)];

const PROFILES: [(&str, Profile); 3] =
    [("minimal", Profile::Minimal), ("standard", Profile::Standard), ("full", Profile::Full)];

const LEVELS: [(&str, log::LevelFilter); 6] = [
    ("off", log::LevelFilter::Off),
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
    ("trace", log::LevelFilter::Trace),
];

const ACCESS_LOG_KEYS: [&str; 11] = [
    "protocol",
    "user",
    "schema",
    "server_version",
    "client",
    "thread_id",
    "commands",
    "errors",
    "last_errno",
    "source",
    "opaque_reason",
];

impl Config {
    /// Reads a configuration: one JSON object in UTF-8, of at most 1 MiB. White space alone is the default configuration.
    ///
    /// # Errors
    /// All problems, each with its JSON path, the expected value and the value found. For text that is not JSON: one problem
    /// with line and column.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigErrors> {
        let Some(node) = node::read(json)? else { return Ok(Self::default()) };
        let mut problems = Problems::default();
        let root = Field { at: "$".to_owned(), node: &node };
        let config = root.object(&keys::ROOT, &mut problems).map(|root| Self::read(&root, &mut problems));
        problems.or(config.unwrap_or_default())
    }

    fn read(root: &Object<'_>, problems: &mut Problems) -> Self {
        let mode = root.get("mode").and_then(|field| field.word(&MODES, problems));
        let access_log = read_access_log(root, problems);
        let defaults = rule::read_defaults(root, &access_log, problems);
        let rules = rule::read_rules(root, &defaults, &access_log, problems);
        let metrics = MetricsConfig::read(root, problems);
        let log = LogConfig::read(root, problems);
        let limits = Limits::read(root, problems);
        Self { mode: mode.unwrap_or_default(), metrics, log, limits, access_log, rules, defaults }
    }

    /// The settings of a connection to this destination: those of the first rule that matches, otherwise the defaults.
    ///
    /// `None` is a value that the host does not know. A rule with a condition on it does not match.
    #[must_use]
    pub fn policy(&self, port: Option<u16>, address: Option<IpAddr>, direction: Direction) -> &Policy {
        self.rules
            .iter()
            .find(|rule| rule.matching.matches(port, address, direction))
            .map_or(&self.defaults, |rule| &rule.policy)
    }

    /// The rules, in order. Their paths are `$.rules[0]`, `$.rules[1]` and so on.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The destination ports that rules name, in the order of the rules. They may overlap.
    pub fn named_ports(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        self.rules.iter().flat_map(|rule| rule.matching.ports().iter().cloned())
    }
}

/// Whether a JSON object with these keys is probably a configuration, perhaps with misspelt keys.
#[must_use]
pub fn resemble_a_configuration(keys: &[&str]) -> bool {
    keys::resemble_a_configuration(keys)
}

impl MetricsConfig {
    fn read(root: &Object<'_>, problems: &mut Problems) -> Self {
        let mut config = Self::default();
        let Some(metrics) = root.object("metrics", &keys::METRICS, problems) else { return config };
        if let Some(profile) = metrics.get("profile").and_then(|field| field.word(&PROFILES, problems)) {
            config.profile = profile;
        }
        if let Some(labels) = metrics
            .get("labels")
            .and_then(|field| field.some_of(&ScopeLabel::ALL.map(ScopeLabel::key), problems))
        {
            let label = |found| ScopeLabel::ALL.into_iter().find(|label| label.key() == found);
            config.labels = labels.into_iter().filter_map(label).collect();
        }
        if let Some(interval) =
            metrics.get("flush_interval").and_then(|field| field.duration(100, 60_000, problems))
        {
            config.flush_interval = interval;
        }
        if let Some(series) = metrics.get("max_series").and_then(|field| field.integer(1, 100_000, problems))
        {
            config.max_series = series;
        }
        if let Some(stall) =
            metrics.get("stall").and_then(|field| field.duration(1, duration::HOUR, problems))
        {
            config.stall = stall;
        }
        config
    }
}

fn read_access_log(root: &Object<'_>, problems: &mut Problems) -> Vec<&'static str> {
    let Some(field) = root.get("access_log") else { return Vec::new() };
    field.some_of(&ACCESS_LOG_KEYS, problems).unwrap_or_default()
}

impl LogConfig {
    fn read(root: &Object<'_>, problems: &mut Problems) -> Self {
        let mut config = Self::default();
        let Some(log) = root.object("log", &keys::LOG, problems) else { return config };
        if let Some(level) = log.get("level").and_then(|field| field.word(&LEVELS, problems)) {
            config.level = level;
        }
        if let Some(lines) = log.get("max_per_minute").and_then(|field| field.integer(1, 60_000, problems)) {
            config.max_per_minute = lines;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{ClearCapabilities, HoldSplitEof};

    #[test]
    fn an_empty_configuration_is_the_default() {
        for empty in [
            "",
            " \n\t",
            "{}",
            r#"{"rules": [], "defaults": {}, "metrics": {}, "access_log": [], "log": {}}"#,
        ] {
            assert_eq!(Config::parse(empty.as_bytes()).unwrap(), Config::default());
        }
        let config = Config::default();
        assert_eq!(config.mode, Mode::Active);
        assert_eq!(config.metrics.profile, Profile::Standard);
        assert_eq!(config.metrics.labels, [ScopeLabel::Direction, ScopeLabel::Destination]);
        assert_eq!(config.metrics.flush_interval, Duration::from_secs(1));
        assert_eq!(config.metrics.max_series, 1000);
        assert_eq!(config.metrics.stall, Duration::from_secs(10));
        assert_eq!(config.log, LogConfig { level: log::LevelFilter::Warn, max_per_minute: 60 });
        assert_eq!(config.named_ports().count(), 0);
        let expected = Policy {
            name: None,
            protocol: ProtocolRule::Detect,
            greeting_timeout: Duration::from_secs(5),
            slow_command: None,
            proxy_protocol: ProxyProtocol { receive: None, send: None },
            hold_split_eof: HoldSplitEof::Off,
            inspect: Inspect::Full,
            clear_capabilities: ClearCapabilities { compress: false, zstd: false, ssl: false },
            block_local_infile: false,
            originate_tls: false,
            terminate_tls: false,
        };
        assert_eq!(config.policy(Some(3306), None, Direction::Outbound), &expected);
        assert_eq!((&expected.name, expected.slow_command), (&None, None));
    }

    #[test]
    fn every_global_setting_is_read() {
        let config = Config::parse(
            br#"{"mode": "observe",
                 "metrics": {"profile": "full", "labels": ["port", "direction"], "flush_interval": "250ms", "max_series": 5,
                             "stall": "20s"},
                 "access_log": ["user", "commands"],
                 "log": {"level": "off", "max_per_minute": 1}}"#,
        )
        .unwrap();
        assert_eq!(config.access_log, ["user", "commands"]);
        assert_eq!(config.mode, Mode::Observe);
        assert_eq!(config.metrics.profile, Profile::Full);
        assert_eq!(config.metrics.labels, [ScopeLabel::Port, ScopeLabel::Direction]);
        assert_eq!(config.metrics.flush_interval, Duration::from_millis(250));
        assert_eq!(config.metrics.max_series, 5);
        assert_eq!(config.metrics.stall, Duration::from_secs(20));
        assert_eq!(config.log, LogConfig { level: log::LevelFilter::Off, max_per_minute: 1 });
    }

    #[test]
    fn a_rule_overrides_slow_command_of_the_defaults() {
        let config = Config::parse(
            br#"{"defaults": {"mysql": {"slow_command": "200ms"}}, "rules": [
                 {"match": {"ports": [1]}, "mysql": {"slow_command": "7ms"}},
                 {"match": {"ports": [2]}, "mysql": {"slow_command": "0s"}},
                 {"match": {"ports": [3]}}]}"#,
        )
        .unwrap();
        let slow = |port| config.policy(Some(port), None, Direction::Outbound).slow_command;
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!([1, 2, 3, 4].map(slow), [millis(7), None, millis(200), millis(200)]);
    }

    #[test]
    fn the_first_matching_rule_decides_and_defaults_complete_it() {
        let config = Config::parse(
            br#"{"defaults": {"protocol": "opaque"}, "rules": [
                 {"name": "orders", "match": {"ports": [3306.0, "10000-10099"], "addresses": ["10.1.0.0/16"]}, "protocol": "mysql"},
                 {"name": "inbound", "match": {"ports": [3306], "direction": "inbound"}},
                 {"match": {"ports": [3306, 25]}, "protocol": "server_first"},
                 {"match": {"addresses": ["10.2.0.0/16"]}, "protocol": "detect"}]}"#,
        )
        .unwrap();
        let found = |port: Option<u16>, address: &str, direction| {
            let policy = config.policy(port, address.parse().ok(), direction);
            (policy.name.as_deref().unwrap_or(""), policy.protocol)
        };
        use Direction::{Inbound, Outbound, Unspecified};
        assert_eq!(found(Some(3306), "10.1.2.3", Outbound), ("orders", ProtocolRule::Mysql));
        assert_eq!(found(Some(10_099), "::ffff:10.1.2.3", Inbound), ("orders", ProtocolRule::Mysql));
        assert_eq!(found(Some(3306), "10.2.2.3", Inbound), ("inbound", ProtocolRule::Opaque));
        assert_eq!(found(Some(3306), "unknown", Inbound), ("inbound", ProtocolRule::Opaque));
        assert_eq!(found(Some(3306), "10.2.2.3", Unspecified), ("", ProtocolRule::ServerFirst));
        assert_eq!(found(Some(10_100), "10.1.2.3", Outbound), ("", ProtocolRule::Opaque));
        assert_eq!(found(None, "10.2.2.3", Outbound), ("", ProtocolRule::Detect));
        assert_eq!(found(None, "unknown", Outbound), ("", ProtocolRule::Opaque));
        let named: Vec<_> = config.named_ports().collect();
        assert_eq!(named, [3306..=3306, 10_000..=10_099, 3306..=3306, 3306..=3306, 25..=25]);
    }

    #[test]
    fn sizes_have_a_unit_and_a_range() {
        for (text, expected) in [
            (r#""16MiB""#, 16 << 20),
            (r#""1MiB""#, 1 << 20),
            (r#""2048KiB""#, 2 << 20),
            (r#""512MiB""#, 512 << 20),
        ] {
            let json = format!(r#"{{"limits": {{"connection_state": {text}}}}}"#);
            assert_eq!(Config::parse(json.as_bytes()).unwrap().limits.connection_state, expected);
        }
        for wrong in [
            r#""1023KiB""#,
            r#""513MiB""#,
            r#""16""#,
            "16",
            r#""+16MiB""#,
            r#""16 MiB""#,
            r#""16mb""#,
            r#""MiB""#,
        ] {
            let json = format!(r#"{{"limits": {{"connection_state": {wrong}}}}}"#);
            let problems = Config::parse(json.as_bytes()).unwrap_err().to_string();
            let expected = r#"$.limits.connection_state: expected a size from "1MiB" to "512MiB""#;
            assert!(problems.contains(expected), "{wrong}: {problems}");
        }
        assert_eq!(Config::default().limits.connection_state, 16 << 20);
    }
}
