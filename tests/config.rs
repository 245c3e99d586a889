//! Configuration as an operator writes it: each mistake, and exactly what is said about it.

use firstword::config::Config;
use firstword::escape::is_text;
use proptest::prelude::*;
use proptest::sample::Index;

/// What is said about a configuration, a line each; empty if it is right.
fn problems(json: &[u8]) -> String {
    match Config::parse(json) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

/// The whole schema.
const WHOLE: &str = include_str!("config/whole.json");

#[test]
fn every_mistake_is_named() {
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
fn everything_at_once_is_right() {
    assert_eq!(problems(WHOLE.as_bytes()), "");
}

#[test]
fn numbers_that_went_through_a_struct_are_the_same() {
    let floats = WHOLE
        .replace(": [3306,", ": [3306.0,")
        .replace("[25]", "[2.5e1]")
        .replace(": 1000,", ": 1000.0,")
        .replace(": 60}", ": 60.0}");
    assert_ne!(floats, WHOLE);
    assert_eq!(Config::parse(floats.as_bytes()).unwrap(), Config::parse(WHOLE.as_bytes()).unwrap());
}

#[test]
fn a_struct_is_recognised_by_its_bytes() {
    // {"mode": "off"} and {"log": {"max_per_minute": 1}} as Envoy hands them over.
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
fn text_that_is_not_utf8_is_refused_with_its_place() {
    assert_eq!(
        problems(b"{\"mode\": \"\xff\"}"),
        "$: expected JSON, found a syntax error: invalid unicode code point at line 1 column 11"
    );
}

#[test]
fn what_cannot_be_seen_is_shown() {
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

/// Rules that differ in their last port only, so that each comparison goes to the end.
fn rules(count: usize, ports: usize) -> String {
    let ports: Vec<_> = (3..).step_by(3).take(ports).map(|port: u16| port.to_string()).collect();
    let rule = |last: u16| format!(r#"{{"match": {{"ports": [{}, {last}]}}}}"#, ports.join(","));
    format!(r#"{{"rules": [{}]}}"#, (40_000..).take(count).map(rule).collect::<Vec<_>>().join(","))
}

#[test]
fn what_is_too_much_is_refused_before_it_costs() {
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
fn problems_without_end_are_counted() {
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

/// Either it is right, or every problem is one line with a path; `parse` itself must not panic.
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
    fn a_byte_changed(index: Index, byte: u8) {
        let mut json = WHOLE.as_bytes().to_vec();
        *index.get_mut(&mut json) = byte;
        parses_or_explains(&json)?;
    }

    /// One token in the place of another: still JSON more often than not.
    #[test]
    fn a_token_moved(from: Index, to: Index) {
        let json = WHOLE;
        let is_token = |char: char| char.is_ascii_alphanumeric() || "_\"./-".contains(char);
        let mut tokens: Vec<&str> = json.split_inclusive(|char| !is_token(char)).collect();
        let token = *from.get(&tokens);
        *to.get_mut(&mut tokens) = token;
        parses_or_explains(tokens.concat().as_bytes())?;
    }

    #[test]
    fn cut_anywhere(length: Index) {
        let json = WHOLE;
        parses_or_explains(&json.as_bytes()[..length.index(json.len())])?;
    }

    #[test]
    fn any_value_anywhere(key in "[a-z_]{0,12}|mode|rules|log", value in any::<i64>(), text in ".*", float: f64) {
        let text = serde_json::to_string(&text).unwrap();
        for json in [
            format!("{{{key:?}: {value}, {text}: {float:?}}}"),
            format!("{{\"rules\": [{{\"name\": {text}, \"match\": {{\"ports\": [{value}, {text}], \"addresses\": [{text}]}}}}]}}"),
        ] {
            parses_or_explains(json.as_bytes())?;
        }
    }
}
