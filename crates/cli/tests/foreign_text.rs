//! Text from a document is escaped before it reaches a terminal, wherever it is in the document.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test reports")]

use assert_cmd::Command;
use firstword::escape::is_text;
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Moves the cursor, sets colours, changes the direction of text, breaks lines, and holds invisible characters.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}\u{85}\u{200b}\u{e0041}\u{e0100}\u{3164}\u{a0}\n\rok: forged";

fn run(arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

/// Asserts that no command prints text of the document unescaped.
fn assert_harmless(input: &Value, what: &str) {
    let yaml = serde_norway::to_string(input).unwrap();
    for arguments in [
        &["check-config", "-"][..],
        &["check-config", "-o", "json", "-"],
        &["doctor", "-"],
        &["doctor", "-o", "json", "-"],
    ] {
        for text in [input.to_string(), yaml.clone()] {
            let (code, printed) = run(arguments, &text);
            assert!((0..4).contains(&code), "{arguments:?} {what}: {code} {printed}");
            let harmless = printed.chars().all(|char| char == '\n' || is_text(char));
            assert!(harmless, "{arguments:?} {what}: {printed:?}");
            assert!(
                !printed.lines().any(|line| line.starts_with("ok: forged")),
                "{arguments:?} {what}: {printed}"
            );
        }
    }
}

/// Adds JSON pointers to all values of a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        _ => {}
    }
}

/// The document with hostile text at one pointer: after a text, after the keys of an object, or instead of a number.
fn poisoned(document: &Value, pointer: &str) -> Value {
    let mut changed = document.clone();
    let value = changed.pointer_mut(pointer).unwrap();
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
fn text_of_a_document_is_escaped() {
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
            pointers(&document, "", &mut found);
            count += found.len();
            for pointer in &found {
                assert_harmless(&poisoned(&document, pointer), &format!("{file} {pointer}"));
            }
        }
    }
    assert!(count > 100, "{count}");
}

/// Each problem of a configuration shows its key or value.
#[test]
fn text_of_a_configuration_is_escaped_in_its_problems() {
    let whole: Value = serde_json::from_str(include_str!("../../../tests/config/whole.json")).unwrap();
    let mut found = Vec::new();
    pointers(&whole, "", &mut found);
    for pointer in &found {
        let (code, printed) = run(&["check-config", "-"], &poisoned(&whole, pointer).to_string());
        assert_eq!(code, 1, "{pointer}: {printed}");
        assert!(printed.chars().all(|char| char == '\n' || is_text(char)), "{pointer}: {printed:?}");
    }
}

/// Istio's own reader would refuse the resource.
#[test]
fn the_type_of_a_plugin_is_escaped() {
    let plugin =
        |kind: &str| json!({"kind": "WasmPlugin", "metadata": {"name": "firstword"}, "spec": {"type": kind}});
    let (code, printed) = run(&["check-config", "-"], &plugin("X\u{9b}31m\u{7f}\u{202e}").to_string());
    assert_eq!(code, 1);
    assert!(
        printed.contains("spec.type: expected \"NETWORK\", found \"X%C2%9B31m%7F%E2%80%AE\"\n"),
        "{printed}"
    );
    let (_, printed) = run(&["check-config", "-"], &plugin("订单").to_string());
    assert!(printed.contains("found \"订单\"\n"), "names stay readable: {printed}");
}

#[test]
fn the_name_of_an_unreadable_input_is_escaped() {
    for command in ["check-config", "doctor"] {
        let (code, printed) = run(&[command, "no/\u{9b}31m\u{202e}"], "");
        assert_eq!(code, 2);
        for part in ["no/%C2%9B31m%E2%80%AE: ", ": cannot read it: "] {
            assert!(printed.contains(part), "{printed}");
        }
        // The output of another program instead of a configuration.
        let (code, printed) = run(&[command, "-"], "a: *\u{9b}31m\u{202e}");
        assert_eq!(code, 2);
        assert!(printed.chars().all(|char| char == '\n' || is_text(char)), "{printed:?}");
    }
}
