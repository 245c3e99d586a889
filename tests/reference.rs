//! The reference pages are generated from the code. `FIRSTWORD_BLESS=1 cargo test --test reference -- --test-threads=1` writes
//! them.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

use firstword::config::{SETTINGS, Values};
use firstword::event::HazardKind;
use firstword::filter::LOG_EVENTS;
use firstword::metrics::Profile;
use firstword::metrics::catalogue::{Kind, Metric};
use firstword::mysql::wire::errno::SYMBOLS;
use firstword_testing::generated::{assert_section, table};
use firstword_testing::root;
use regex::Regex;
use serde_json::Value;

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn with_header<const N: usize>(header: [&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    table(&std::iter::once(row(header)).chain(rows).collect::<Vec<_>>())
}

fn metric(metric: Metric) -> Vec<String> {
    let definition = metric.definition();
    let kind = match definition.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let profile = match definition.profile {
        Profile::Minimal => "minimal",
        Profile::Standard => "standard",
        Profile::Full => "full",
    };
    let labels = definition.labels.iter().map(|label| format!("`{}`", label.key()));
    let in_full = definition.in_full.map(|label| format!("in full `{}`", label.key()));
    let labels: Vec<_> = labels.chain(in_full).collect();
    row([&format!("`{}`", definition.name), kind, &labels.join(", "), profile, definition.help])
}

#[test]
fn the_metrics_are_those_of_the_catalogue() {
    let header = ["metric", "kind", "labels", "profile", "what it counts"];
    let text = with_header(header, Metric::ALL.iter().map(|each| metric(*each)));
    assert_section("docs/metrics.md", "metrics", &text);
}

#[test]
fn the_error_numbers_are_those_with_a_symbol() {
    let rows = SYMBOLS.iter().map(|(number, symbol)| row([&number.to_string(), &format!("`{symbol}`")]));
    assert_section("docs/metrics.md", "errors", &with_header(["errno", "symbol"], rows));
}

#[test]
fn the_hazards_are_those_of_the_event() {
    let rows = HazardKind::ALL.iter().map(|kind| {
        let (cause, fix) = kind.advice();
        row([&format!("`{}`", kind.label()), cause, fix])
    });
    assert_section("docs/hazards.md", "hazards", &with_header(["kind", "cause", "what to do"], rows));
}

#[test]
fn the_keys_of_the_access_log_are_those_of_the_setting() {
    let setting = SETTINGS.iter().find(|setting| setting.path == "access_log").unwrap();
    let Values::Words(keys) = setting.values else { panic!("access_log is an array of words") };
    let rows = keys.iter().map(|(key, note)| {
        let (value, written) = note.split_once("; written ").unwrap_or_else(|| panic!("{key}: {note}"));
        row([&format!("`{key}`"), value, written])
    });
    assert_section("docs/access-log.md", "keys", &with_header(["key", "value", "written"], rows));
}

#[test]
fn the_lines_of_the_log_are_those_of_the_catalogue() {
    let rows = LOG_EVENTS
        .iter()
        .map(|event| row([&format!("`{}`", event.name), event.once_for_each, event.content]));
    assert_section("docs/access-log.md", "log", &with_header(["`event=`", "once for each", "content"], rows));
}

/// Texts of the sources of a folder and its subfolders, without the catalogue of lines.
fn sources(folder: &Path) -> String {
    let paths = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.file_name().and_then(|name| name.to_str()) {
        Some("catalogue.rs" | "tests.rs") => String::new(),
        _ if path.is_dir() => sources(&path),
        _ => read_to_string(path).unwrap(),
    };
    paths.map(text).collect()
}

#[test]
fn each_line_that_the_sources_log_is_in_the_catalogue() {
    let folders = ["src", "crates/proxy-wasm/src", "crates/dynamic-module/src"];
    let text: String = folders.iter().map(|folder| sources(&root().join(folder))).collect();
    let known: BTreeSet<_> = LOG_EVENTS.iter().map(|event| event.name).collect();
    let logged = Regex::new(r"\bevent=([a-z_]+)").unwrap();
    let logged: BTreeSet<_> = logged.captures_iter(&text).map(|found| found.extract::<1>().1[0]).collect();
    assert!(logged.len() > 10, "{logged:?}");
    let unknown: Vec<_> = logged.difference(&known).collect();
    assert!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
    // The name of a line about a command is a value of its own.
    let is_in_a_value = |name: &&&str| text.contains(&format!("\"{name}\""));
    let absent: Vec<_> = known.difference(&logged).filter(|name| !is_in_a_value(name)).collect();
    assert!(absent.is_empty(), "no source logs {absent:?}");
}

#[test]
fn the_alerts_are_those_of_the_rules() {
    let text = read_to_string(root().join("envoy/observability/alerts.yaml")).unwrap();
    let file: Value = serde_norway::from_str(&text).unwrap();
    let alerts =
        file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let rows = alerts.map(|alert| {
        let name = alert["alert"].as_str().unwrap();
        let link = format!("[{name}](#{})", name.to_lowercase());
        let severity = alert["labels"]["severity"].as_str().unwrap();
        let held = alert["for"].as_str().unwrap_or("at once");
        let what = alert["annotations"]["description"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has no description"));
        // What Prometheus fills in.
        let label = Regex::new(r"\{\{ *\$labels\.([a-z_]+) *\}\}").unwrap();
        let value = Regex::new(r"\{\{ *\$value[^}]*\}\}").unwrap();
        let what = value.replace_all(what.trim(), "N");
        row([&link, severity, held, &label.replace_all(&what, "`$1`")])
    });
    assert_section("docs/alerts.md", "alerts", &with_header(["alert", "severity", "after", "meaning"], rows));
}
