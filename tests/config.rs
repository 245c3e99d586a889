//! Configurations with mistakes, and the exact text of each problem.

use firstword::config::Config;
use firstword::escape::is_text;
use proptest::prelude::*;
use proptest::sample::Index;

/// The problems of a configuration, one on each line. Empty if there are none.
fn problems(json: &[u8]) -> String {
    match Config::parse(json) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

/// A configuration with every key.
const WHOLE: &str = include_str!("config/whole.json");

#[test]
fn every_mistake_has_its_problem() {
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in include_str!("config/problems.txt").lines() {
        match (line.strip_prefix("  "), cases.last_mut()) {
            (Some(problem), Some((_, problems))) => problems.push(problem),
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => cases.push((line, Vec::new())),
        }
    }
    assert!(cases.len() > 50, "{} cases", cases.len());
    for (json, expected) in cases {
        assert_eq!(problems(json.as_bytes()).lines().collect::<Vec<_>>(), expected, "{json}");
    }
}

#[test]
fn a_configuration_with_every_key_is_accepted() {
    assert_eq!(problems(WHOLE.as_bytes()), "");
}

#[test]
fn numbers_of_a_protobuf_struct_have_the_same_meaning() {
    let floats = WHOLE
        .replace(": [3306,", ": [3306.0,")
        .replace("[25]", "[2.5e1]")
        .replace(": 1000,", ": 1000.0,")
        .replace(": 60}", ": 60.0}");
    assert_ne!(floats, WHOLE);
    assert_eq!(Config::parse(floats.as_bytes()).unwrap(), Config::parse(WHOLE.as_bytes()).unwrap());
}

#[test]
fn the_bytes_of_a_protobuf_struct_are_refused_with_the_fix() {
    // Envoy passes {"mode": "off"} and {"log": {"max_per_minute": 1}} as these bytes.
    for bytes in [
        &b"\x0a\x0d\x0a\x04mode\x12\x05\x1a\x03off"[..],
        &b"\x0a\x28\x0a\x03log\x12\x21\x2a\x1f\x0a\x1d\x0a\x0emax_per_minute\x12\x0b\x11\0\0\0\0\0\0\xf0\x3f"
            [..],
    ] {
        assert_eq!(
            problems(bytes),
            "$: expected a JSON object, found the raw bytes of a protobuf message: \
             in Envoy put the JSON in a google.protobuf.StringValue, not in a Struct"
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_position() {
    assert_eq!(
        problems(b"{\"mode\": \"\xff\"}"),
        "$: expected JSON, found a syntax error: invalid unicode code point at line 1 column 11"
    );
}

#[test]
fn invisible_characters_are_escaped() {
    let cases = [
        ("\u{3164}", "%E3%85%A4"),
        ("\u{2800}", "%E2%A0%80"),
        ("\u{9b}", r"\u{9b}"),
        ("\u{202e}", r"\u{202e}"),
        ("\u{e0041}", r"\u{e0041}"),
        ("订单", "订单"),
    ];
    for (text, shown) in cases {
        let found = problems(format!("{{\"{text}\": 1, \"mode\": \"{text}\"}}").as_bytes());
        let keys = r#""mode", "rules", "defaults", "metrics", "access_log", "log", "limits""#;
        let expected = [
            format!("$[\"{shown}\"]: unknown key, expected one of {keys}"),
            format!(r#"$.mode: expected "active", "observe" or "off", found "{shown}""#),
        ];
        assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    }
}

/// Rules that differ only in their last port, so that each comparison reads all ports.
fn rules(count: usize, ports: usize) -> String {
    let ports: Vec<_> = (3..).step_by(3).take(ports).map(|port: u16| port.to_string()).collect();
    let rule = |last: u16| format!(r#"{{"match": {{"ports": [{}, {last}]}}}}"#, ports.join(","));
    format!(r#"{{"rules": [{}]}}"#, (40_000..).take(count).map(rule).collect::<Vec<_>>().join(","))
}

#[test]
fn a_configuration_above_a_limit_is_refused() {
    assert_eq!(problems(rules(1000, 100).as_bytes()), "");
    assert_eq!(problems(rules(1001, 1).as_bytes()), "$.rules: expected at most 1000 rules, found 1001");
    assert_eq!(problems(rules(20_000, 1).as_bytes()), "$.rules: expected at most 1000 rules, found 20000");
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert_eq!(problems(padded(1 << 20).as_bytes()), "");
    assert_eq!(
        problems(padded((1 << 20) + 1).as_bytes()),
        "$: expected at most 1048576 bytes, found 1048577"
    );
}

#[test]
fn problems_above_the_limit_are_counted() {
    let ports = vec!["0"; 3000].join(",");
    let found = problems(format!(r#"{{"rules": [{{"match": {{"ports": [{ports}]}}}}]}}"#).as_bytes());
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines.len(), 1001);
    assert_eq!(
        lines[999..],
        [
            r#"$.rules[0].match.ports[999]: expected a port from 1 to 65535 or a range like "10000-10099", found 0"#,
            "$: 2000 more problems, which are not listed",
        ]
    );
}

/// Checks that `parse` accepts the configuration or returns problems with a path, one on each line. It must not panic.
fn parses_or_explains(json: &[u8]) -> Result<(), TestCaseError> {
    let Err(errors) = Config::parse(json) else { return Ok(()) };
    prop_assert!(errors.iter().count() > 0);
    for error in &errors {
        prop_assert!(error.at.starts_with('$'), "{error}");
        prop_assert!(error.to_string().chars().all(is_text), "{error:?}");
        prop_assert!(error.to_string().len() < 1000, "{error}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes(json: Vec<u8>) {
        parses_or_explains(&json)?;
    }

    #[test]
    fn a_changed_byte(index: Index, byte: u8) {
        let mut json = WHOLE.as_bytes().to_vec();
        *index.get_mut(&mut json) = byte;
        parses_or_explains(&json)?;
    }

    /// Replaces one token by another. Most results are still JSON.
    #[test]
    fn a_replaced_token(from: Index, to: Index) {
        let json = WHOLE;
        let is_token = |char: char| char.is_ascii_alphanumeric() || "_\"./-".contains(char);
        let mut tokens: Vec<&str> = json.split_inclusive(|char| !is_token(char)).collect();
        let token = *from.get(&tokens);
        *to.get_mut(&mut tokens) = token;
        parses_or_explains(tokens.concat().as_bytes())?;
    }

    #[test]
    fn a_truncated_configuration(length: Index) {
        let json = WHOLE;
        parses_or_explains(&json.as_bytes()[..length.index(json.len())])?;
    }

    #[test]
    fn random_values_of_random_keys(key in "[a-z_]{0,12}|mode|rules|log", value in any::<i64>(), text in ".*", float: f64) {
        let text = serde_json::to_string(&text).unwrap();
        for json in [
            format!("{{{key:?}: {value}, {text}: {float:?}}}"),
            format!("{{\"rules\": [{{\"name\": {text}, \"match\": {{\"ports\": [{value}, {text}], \"addresses\": [{text}]}}}}]}}"),
        ] {
            parses_or_explains(json.as_bytes())?;
        }
    }
}
