//! Text that others wrote into a document cannot reach a terminal as it is, wherever in the document it stands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test reports")]

use assert_cmd::Command;
use firstword::escape::is_text;
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Moves the cursor, colours, turns the direction of text, breaks lines, and cannot be seen.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}\u{85}\u{200b}\u{e0041}\u{e0100}\u{3164}\u{a0}\n\rok: forged";

fn run(arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

/// Every way in which the commands print what is in a document.
fn assert_harmless(input: &Value, what: &str) {
    let yaml = serde_norway::to_string(input).unwrap();
    for arguments in [
        &["check-config", "-"][..],
        &["check-config", "-o", "json", "-"],
        &["doctor", "-"],
        &["doctor", "-o", "json", "-"],
    ] {
        for text in [input.to_string(), yaml.clone()] {
            let (code, said) = run(arguments, &text);
            assert!((0..4).contains(&code), "{arguments:?} {what}: {code} {said}");
            let harmless = said.chars().all(|char| char == '\n' || is_text(char));
            assert!(harmless, "{arguments:?} {what}: {said:?}");
            assert!(!said.lines().any(|line| line.starts_with("ok: forged")), "{arguments:?} {what}: {said}");
        }
    }
}

/// The places of all values in a document, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        _ => {}
    }
}

/// The document with something hostile at one place: behind a text, behind the keys of an object, or in place of a number.
fn poisoned(document: &Value, place: &str) -> Value {
    let mut changed = document.clone();
    let value = changed.pointer_mut(place).unwrap();
    *value = match value.take() {
        Value::String(text) => json!(text + HOSTILE),
        Value::Object(entries) => {
            let key = |(key, value): (String, Value)| [(key.clone(), value.clone()), (key + HOSTILE, value)];
            entries.into_iter().flat_map(key).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().chain([json!(HOSTILE)]).collect(),
        _ => json!(HOSTILE),
    };
    changed
}

#[test]
fn nothing_in_a_document_reaches_a_terminal() {
    let root = firstword_testing::root();
    let mut count = 0;
    for file in [
        "envoy/mysql.yaml",
        "envoy/proxy-receive.yaml",
        "istio/base/wasmplugin.yaml",
        "istio/envoyfilter/outbound-tcp.yaml",
        "istio/envoyfilter/extension.yaml",
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let documents = serde_norway::Deserializer::from_str(&text);
        for document in documents.map(|document| Value::deserialize(document).unwrap()) {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            count += found.len();
            for place in &found {
                assert_harmless(&poisoned(&document, place), &format!("{file} {place}"));
            }
        }
    }
    assert!(count > 100, "{count}");
}

/// Each problem of a configuration of the filter's own shows the key or the value that it is about.
#[test]
fn a_configuration_shows_its_problems_without_harm() {
    let whole: Value = serde_json::from_str(include_str!("../../../tests/config/whole.json")).unwrap();
    let mut found = Vec::new();
    places(&whole, "", &mut found);
    for place in &found {
        let (code, said) = run(&["check-config", "-"], &poisoned(&whole, place).to_string());
        assert_eq!(code, 1, "{place}: {said}");
        assert!(said.chars().all(|char| char == '\n' || is_text(char)), "{place}: {said:?}");
    }
}

/// A resource that Istio's own reader would refuse is still shown without harm.
#[test]
fn the_type_of_a_plugin_is_escaped() {
    let plugin =
        |kind: &str| json!({"kind": "WasmPlugin", "metadata": {"name": "firstword"}, "spec": {"type": kind}});
    let (code, said) = run(&["check-config", "-"], &plugin("X\u{9b}31m\u{7f}\u{202e}").to_string());
    assert_eq!(code, 1);
    assert!(said.contains("spec.type: expected \"NETWORK\", found \"X%C2%9B31m%7F%E2%80%AE\"\n"), "{said}");
    let (_, said) = run(&["check-config", "-"], &plugin("订单").to_string());
    assert!(said.contains("found \"订单\"\n"), "names stay readable: {said}");
}

#[test]
fn an_input_that_cannot_be_read_is_named_without_harm() {
    for command in ["check-config", "doctor"] {
        let (code, said) = run(&[command, "no/\u{9b}31m\u{202e}"], "");
        assert_eq!(code, 2);
        assert!(said.contains("no/%C2%9B31m%E2%80%AE: cannot read it"), "{said}");
        // What another program printed, in place of a configuration.
        let (code, said) = run(&[command, "-"], "a: *\u{9b}31m\u{202e}");
        assert_eq!(code, 2);
        assert!(said.chars().all(|char| char == '\n' || is_text(char)), "{said:?}");
    }
}
