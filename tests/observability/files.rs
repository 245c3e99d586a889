//! The shipped files by themselves: they are valid, use existing metrics, and each alert is in the runbook.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use firstword::metrics::catalogue::{Kind, Metric};
use serde_json::Value;

use crate::server::{shipped, tool, yaml};
use firstword_testing::root;

fn promtool(arguments: &[&str]) {
    let output = Command::new(tool("promtool")).args(arguments).current_dir(root()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}\n{}", String::from_utf8_lossy(&text));
}

#[test]
fn prometheus_accepts_the_files() {
    promtool(&["check", "config", "envoy/observability/prometheus.yaml"]);
    promtool(&["check", "config", "--syntax-only", "envoy/observability/untagged.yaml"]);
    promtool(&["check", "rules", "envoy/observability/rules.yaml", "envoy/observability/alerts.yaml"]);
}

#[test]
fn each_alert_fires_on_its_condition() {
    promtool(&["test", "rules", "tests/observability/alerts.test.yaml"]);
    let test = fs::read_to_string(root().join("tests/observability/alerts.test.yaml")).unwrap();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(test.contains(name), "{name} has no test");
    }
}

/// Rules of a file.
pub fn rules(name: &str) -> Vec<Value> {
    let file = yaml(&shipped(name));
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

pub fn alerts() -> Vec<Value> {
    rules("alerts.yaml")
}

/// Expressions of the dashboard, each with the title of its panel.
pub fn panels() -> Vec<(String, String)> {
    let text = fs::read_to_string(shipped("grafana/firstword.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    });
    targets.collect()
}

/// Names of a metric in Prometheus.
fn exported(metric: Metric) -> Vec<String> {
    let definition = metric.definition();
    let name = definition.name;
    match definition.kind {
        Kind::Histogram => ["seconds_bucket", "seconds_count", "microseconds_sum"]
            .map(|ending| format!("firstword_{name}_{ending}"))
            .to_vec(),
        Kind::Counter | Kind::Gauge => vec![format!("firstword_{name}")],
    }
}

fn firstword_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.contains("firstword_")).map(str::to_owned).collect()
}

#[test]
fn rules_alerts_and_panels_use_existing_metrics() {
    let recorded = rules("rules.yaml").into_iter().map(|rule| rule["record"].as_str().unwrap().to_owned());
    let known: BTreeSet<_> =
        Metric::ALL.iter().flat_map(|metric| exported(*metric)).chain(recorded).collect();
    let mut used = BTreeSet::new();
    for rule in rules("rules.yaml").iter().chain(&alerts()) {
        used.extend(firstword_names(rule["expr"].as_str().unwrap()));
    }
    for (_, expression) in panels() {
        used.extend(firstword_names(&expression));
    }
    assert!(used.len() > 30, "{used:?}");
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn each_alert_is_in_the_runbook() {
    let readme = fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let headings: BTreeSet<_> =
        readme.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
    let page = "https://github.com/firstword/firstword/blob/main/docs/alerts.md#";
    for alert in alerts() {
        let url = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let heading = url.strip_prefix(page).unwrap_or_else(|| panic!("{alert}"));
        assert!(headings.contains(heading), "{url}");
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("page" | "ticket")), "{alert}");
    }
}

/// Keys of all labels.
fn keys() -> BTreeSet<String> {
    let own = Metric::ALL.iter().flat_map(|metric| metric.definition().labels).map(|label| label.key());
    own.chain(["direction", "destination", "port", "le"]).map(str::to_owned).collect()
}

#[test]
fn relabelling_extracts_each_label_from_names_without_tags() {
    let prometheus = yaml(&shipped("untagged.yaml"));
    let relabelings = prometheus["scrape_configs"][0]["metric_relabel_configs"].as_array().unwrap().clone();
    let targets: BTreeSet<_> = relabelings
        .iter()
        .map(|rule| rule["target_label"].as_str().unwrap().to_owned())
        .filter(|target| target != "__name__")
        .collect();
    let missing: Vec<_> = keys().difference(&targets).cloned().collect();
    // Only the native module counts TLS that it starts, and its labels are in no name.
    assert_eq!(missing, ["side"]);
    // The operator has the same settings with other names.
    let monitor = fs::read_to_string(root().join("envoy/observability/podmonitor.yaml")).unwrap();
    let monitor: Value = serde_norway::from_str(
        &monitor.replace("sourceLabels", "source_labels").replace("targetLabel", "target_label"),
    )
    .unwrap();
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"].as_array(), Some(&relabelings));
}
