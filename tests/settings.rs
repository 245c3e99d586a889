//! The table of settings says what the reader of configurations does. The documents and the JSON Schemas are made from it.
//! `FIRSTWORD_BLESS=1 cargo test --test settings` writes them.

// A test reports through a panic.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use firstword::config::{Absent, Config, SETTINGS, Setting, Values, Word, json_schema};
use firstword_testing::generated::{assert_file, assert_section, table};
use serde_json::{Value, json};

fn words(words: &[Word]) -> String {
    let word = |(word, note): &Word| {
        if note.is_empty() { format!("`{word}`") } else { format!("`{word}` ({note})") }
    };
    words.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn values(setting: &Setting) -> String {
    match setting.values {
        Values::Word(of) => words(of),
        // docs/access-log.md has the table of these.
        Values::Words(_) if setting.path == "access_log" => "an array of these keys".to_owned(),
        Values::Words(of) => format!("an array of {}", words(of)),
        Values::Boolean => "`true`, `false`".to_owned(),
        Values::Integer(min, max) => format!("{min} to {max}"),
        Values::Duration(min, max) => format!("a duration from `\"{min}\"` to `\"{max}\"`"),
        Values::Size(min, max) => format!("a size from `\"{min}\"` to `\"{max}\"`, with the unit KiB or MiB"),
        Values::Name => "1 to 64 characters of `[a-z0-9_+./-]`".to_owned(),
        Values::Ports => "ports and ranges, `[3306, \"10000-10099\"]`".to_owned(),
        Values::Networks => "networks in CIDR notation, addresses, `*`, `localhost`".to_owned(),
    }
}

fn default(setting: &Setting) -> String {
    match setting.default {
        Absent::Value(json) => format!("`{json}`"),
        Absent::OfDefaults => "that of `defaults`".to_owned(),
        Absent::Any => "any".to_owned(),
        Absent::Nothing => "none".to_owned(),
    }
}

fn markdown() -> String {
    let header = ["setting", "values", "default", "meaning"].map(str::to_owned).to_vec();
    let row = |setting: &Setting| {
        vec![format!("`{}`", setting.path), values(setting), default(setting), setting.meaning.to_owned()]
    };
    table(&[vec![header], SETTINGS.iter().map(row).collect()].concat())
}

#[test]
fn the_document_has_the_table() {
    assert_section("docs/configuration.md", "settings", &markdown());
}

#[test]
fn the_schemas_are_files() {
    for (name, schema) in
        [("configuration", json_schema::configuration()), ("kubernetes", json_schema::kubernetes())]
    {
        assert_file(&format!("docs/schemas/{name}.json"), |_| format!("{schema:#}\n"));
    }
}

/// Other settings that the object around the setting at `path` needs.
fn siblings(path: &str) -> &'static str {
    match path {
        "rules[].proxy_protocol.receive.mode" => "\"trusted_networks\":[\"10.0.0.0/8\"],",
        "rules[].proxy_protocol.receive.trusted_networks" => "\"mode\":\"required\",",
        _ if path.contains(".receive.") => "\"mode\":\"required\",\"trusted_networks\":[\"10.0.0.0/8\"],",
        _ if path.contains(".send.") && !path.ends_with(".mode") => "\"mode\":\"with_first_client_bytes\",",
        _ => "",
    }
}

/// What the object around the part of a rule with the setting at `path` needs: the key of the part, and the other parts.
fn other_parts(path: &str) -> (&'static str, &'static str) {
    match path {
        "rules[].proxy_protocol.send.when" => ("send", "\"receive\":{\"mode\":\"optional\"},"),
        "rules[].mysql.clear_capabilities" => ("mysql", "\"match\":{\"addresses\":[\"10.0.0.0/8\"]},"),
        "rules[].tls.downstream" | "rules[].tls.upstream" => {
            ("tls", "\"match\":{\"addresses\":[\"10.0.0.0/8\"]},\"protocol\":\"mysql\",")
        }
        _ => ("", ""),
    }
}

/// A configuration in which only the setting at `path` and those that it needs have a value; without a value, only these.
fn configuration(path: &str, value: Option<&str>) -> String {
    let (before, key) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings = siblings(path);
    let mut object = match value {
        Some(value) => format!("{{{siblings}\"{key}\":{value}}}"),
        None => format!("{{{}}}", siblings.trim_end_matches(',')),
    };
    let (part, others) = other_parts(path);
    for key in before.split('.').rev().filter(|key| !key.is_empty()) {
        let others = if key == part { others } else { "" };
        object = match key.strip_suffix("[]") {
            Some(key) => format!("{{\"{key}\":[{object}]}}"),
            None => format!("{{{others}\"{key}\":{object}}}"),
        };
    }
    object
}

/// Valid and invalid values of a setting, as JSON.
fn examples(setting: &Setting) -> (Vec<String>, Vec<String>) {
    let quoted = |text: &str| format!("\"{text}\"");
    let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match setting.values {
        Values::Word(words) => {
            (words.iter().map(|(word, _)| quoted(word)).collect(), of(&["\"x\"", "1", "null"]))
        }
        Values::Words(words) => {
            let all: Vec<_> = words.iter().map(|(word, _)| quoted(word)).collect();
            let valid = vec!["[]".to_owned(), format!("[{}]", all.join(","))];
            (valid, vec![format!("[{0},{0}]", all[0]), "[\"x\"]".to_owned(), all[0].clone()])
        }
        Values::Boolean => (of(&["true", "false"]), of(&["1", "\"true\"", "null"])),
        Values::Integer(min, max) => {
            let beyond = [u64::from(min).saturating_sub(1), u64::from(max).saturating_add(1)];
            let mut invalid: Vec<_> = beyond.iter().map(ToString::to_string).collect();
            invalid.push("\"1\"".to_owned());
            (vec![min.to_string(), max.to_string()], invalid)
        }
        Values::Duration(min, max) | Values::Size(min, max) => {
            (vec![quoted(min), quoted(max)], of(&["1", "\"1\"", "\"-1s\"", "\"1 MiB\"", "null"]))
        }
        Values::Name => (of(&["\"a-b_c.d/e+1\""]), of(&["\"\"", "\"A\"", "\"a b\"", "1"])),
        Values::Ports => (
            of(&["[3306]", "[1, 65535, \"10000-10099\"]", "[3306.0]"]),
            of(&["[]", "[0]", "[65536]", "3306", "[\"3306\"]", "[\"x\"]"]),
        ),
        Values::Networks => {
            (of(&["[\"10.0.0.0/8\", \"::1\"]"]), of(&["[]", "\"10.0.0.0/8\"", "[1]", "[\"\"]"]))
        }
    }
}

fn is_accepted(json: &str) -> bool {
    Config::parse(json.as_bytes()).is_ok()
}

#[test]
fn reader_and_schema_accept_the_values_of_the_table_and_no_others() {
    let schema = jsonschema::validator_for(&json_schema::configuration()).unwrap();
    let is_valid = |json: &str| schema.is_valid(&serde_json::from_str(json).unwrap());
    for setting in SETTINGS {
        let (valid, invalid) = examples(setting);
        for value in valid {
            let json = configuration(setting.path, Some(&value));
            assert!(is_accepted(&json), "{json}: {:?}", Config::parse(json.as_bytes()).err());
            assert!(is_valid(&json), "{json}");
        }
        for value in invalid {
            let json = configuration(setting.path, Some(&value));
            assert!(!is_accepted(&json), "the reader accepts {json}");
            assert!(!is_valid(&json), "the schema accepts {json}");
        }
    }
}

/// The reader lists all words of a setting, and both ends of a range.
#[test]
fn the_reader_expects_the_words_and_the_range_of_the_table() {
    for setting in SETTINGS {
        let (value, parts): (_, Vec<String>) = match setting.values {
            Values::Word(words) => ("\"?\"", words.iter().map(|(word, _)| format!("{word:?}")).collect()),
            Values::Words(words) => ("[\"?\"]", words.iter().map(|(word, _)| format!("{word:?}")).collect()),
            Values::Duration(min, max) => ("\"?\"", vec![format!("from {min:?} to {max:?}")]),
            Values::Size(min, max) => ("\"?\"", vec![format!("from {min:?} to {max:?}")]),
            Values::Integer(min, max) => ("\"?\"", vec![format!("from {min} to {max}")]),
            Values::Boolean | Values::Name | Values::Ports | Values::Networks => continue,
        };
        let problems =
            Config::parse(configuration(setting.path, Some(value)).as_bytes()).unwrap_err().to_string();
        let problem = problems.lines().find(|line| line.contains("found \"?\"")).unwrap();
        for part in &parts {
            assert!(problem.contains(part), "{}: {part} is not in {problem}", setting.path);
        }
        let quotes = problem.split_once("expected").unwrap().1.matches('"').count();
        let others =
            if matches!(setting.values, Values::Word(_) | Values::Words(_)) { parts.len() } else { 2 };
        let expected = if matches!(setting.values, Values::Integer(..)) { 2 } else { 2 * others + 2 };
        assert_eq!(quotes, expected, "{}: {problem}", setting.path);
    }
}

#[test]
fn a_default_is_the_value_that_applies_without_the_setting() {
    let mut count = 0;
    for setting in SETTINGS {
        let Absent::Value(default) = setting.default else { continue };
        let of = |value| Config::parse(configuration(setting.path, value).as_bytes());
        // A mode of its own is needed for the settings around it.
        if setting.path.ends_with(".mode") {
            continue;
        }
        assert_eq!(of(Some(default)).unwrap(), of(None).unwrap(), "{}", setting.path);
        count += 1;
    }
    assert!(count > 15, "{count}");
}

#[test]
fn every_object_refuses_unknown_keys() {
    let schema = jsonschema::validator_for(&json_schema::configuration()).unwrap();
    let whole: Value = serde_json::from_str(include_str!("config/whole.json")).unwrap();
    assert!(schema.is_valid(&whole));
    let mut count = 0;
    for setting in SETTINGS {
        let pointer = format!("/{}", setting.path.replace("[]", "/0").replace('.', "/"));
        let object = pointer.rsplit_once('/').unwrap().0;
        let mut changed = whole.clone();
        changed.pointer_mut(object).unwrap()["x"] = json!(1);
        assert!(!schema.is_valid(&changed), "{object}");
        assert!(!is_accepted(&changed.to_string()), "{object}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

/// An editor must never mark what the filter accepts.
#[test]
fn the_schema_accepts_every_configuration_that_the_reader_accepts() {
    let schema = jsonschema::validator_for(&json_schema::configuration()).unwrap();
    let cases = include_str!("config/problems.txt").lines().filter(|line| line.starts_with('{'));
    let mut accepted = 0;
    for case in cases.filter(|case| is_accepted(case)) {
        assert!(schema.is_valid(&serde_json::from_str(case).unwrap()), "{case}");
        accepted += 1;
    }
    assert!(accepted > 5, "{accepted}");
}

#[test]
fn the_schema_of_manifests_reaches_the_configuration_alone() {
    let schema = jsonschema::validator_for(&json_schema::kubernetes()).unwrap();
    let wrong = json!({"mode": "on"});
    let right = json!({"mode": "off"});
    for (path, kind) in
        [("/spec/pluginConfig", "WasmPlugin"), ("/spec/wasm/pluginConfig", "TrafficExtension")]
    {
        let manifest = |configuration: &Value| {
            let mut manifest = json!({"kind": kind, "spec": {"wasm": {}, "other": 1}});
            let (object, key) = path.rsplit_once('/').unwrap();
            manifest.pointer_mut(object).unwrap()[key] = configuration.clone();
            manifest
        };
        assert!(schema.is_valid(&manifest(&right)), "{kind}");
        assert!(!schema.is_valid(&manifest(&wrong)), "{kind}");
    }
    assert!(schema.is_valid(&json!({"kind": "Service", "spec": {"pluginConfig": wrong}})));
}
