//! Which files are configurations, which contain one, and which belong to another tool.

use super::*;

#[test]
fn a_configuration_alone_in_a_file_is_checked() {
    for right in ["{}", r#"{"rules": [{"match": {"ports": [3306]}, "protocol": "mysql"}]}"#] {
        assert_check(right, 0, &format!("ok: standard input\n{ONE_RIGHT}"));
    }
    assert_check(
        r#"{"mode": "on", "rules": [{"match": {"ports": ["x"]}}]}"#,
        1,
        &format!(
            "standard input: 2 problems\n  error: $.mode: expected \"active\", \"observe\" or \"off\", found \"on\"\n  \
             error: {PORTS_PROBLEM}\n1 configuration, 2 problems, 0 warnings\n"
        ),
    );
    for (wrong, problem) in [
        (
            "{\"mode\": \"off\",\n}",
            "$: expected JSON, found a syntax error: trailing comma at line 2 column 1",
        ),
        (r#"{"mode": "off", "mode": "off"}"#, "$.mode: expected the key once, found it 2 times"),
        // A misspelt key, and one of another object, still belong to a configuration.
        (
            r#"{"rule": []}"#,
            "$.rule: unknown key (did you mean \"rules\"?), expected one of \"mode\", \"rules\", \"defaults\", \
             \"metrics\", \"access_log\", \"log\", \"limits\"",
        ),
        (
            r#"{"profile": "full"}"#,
            "$.profile: unknown key (it belongs in $.metrics), expected one of \"mode\", \"rules\", \"defaults\", \
             \"metrics\", \"access_log\", \"log\", \"limits\"",
        ),
    ] {
        assert_check(wrong, 1, &format!("standard input: 1 problem\n  error: {problem}\n{ONE_PROBLEM}"));
    }
}

#[test]
fn an_empty_file_has_the_defaults() {
    for empty in ["", " \n"] {
        let expected = format!("ok: standard input: it is empty, so the defaults apply\n{ONE_RIGHT}");
        assert_check(empty, 0, &expected);
    }
}

#[test]
fn a_configuration_in_yaml_is_a_problem() {
    let yaml = "$: expected JSON, found YAML, which the filter does not read";
    assert_check(
        "mode: observe\nlog: {level: info}\n",
        1,
        &format!("standard input: 1 problem\n  error: {yaml}\n{ONE_PROBLEM}"),
    );
    assert_check(
        "mode: on\n",
        1,
        &format!(
            "standard input: 2 problems\n  error: {yaml}\n  error: $.mode: expected \"active\", \"observe\" or \
             \"off\", found \"on\"\n1 configuration, 2 problems, 0 warnings\n"
        ),
    );
}

/// Files of a directory, and the report of a run on all of them.
fn check_files(files: &[(&str, &str)]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = vec!["check-config"];
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
        arguments.push(name);
    }
    run(&arguments, Vec::new(), directory.path())
}

#[test]
fn files_of_other_tools_are_skipped_if_another_file_has_a_configuration() {
    let right = ("right.json", "{}");
    for (name, foreign) in [
        ("docker-compose.yaml", "services: {envoy: {image: x}}\n"),
        ("empty.yaml", "# nothing\n---\n---\n"),
        ("pod.yaml", "kind: Pod"),
        ("envoy.json", r#"{"static_resources": {}}"#),
        ("package.json", r#"{"name": "x", "dependencies": {}}"#),
        ("list.json", "[]"),
        ("README", "hello"),
    ] {
        let skipped = format!("skipped: {name}: it has no configuration of Firstword\n");
        let expected = format!("{skipped}ok: right.json\n{ONE_RIGHT}");
        assert_eq!(check_files(&[(name, foreign), right]), (0, expected));
        let none =
            "error: found no configuration of Firstword, neither as one JSON object nor in a Wasm filter\n";
        assert_eq!(check_files(&[(name, foreign)]), (2, format!("{skipped}{none}")));
    }
}

#[test]
fn lines_begin_with_the_name_of_the_file() {
    let (code, report) = check_files(&[("right.json", "{}"), ("wrong.json", r#"{"mode": 1}"#)]);
    let expected = "ok: right.json\nwrong.json: 1 problem\n  \
                    error: $.mode: expected \"active\", \"observe\" or \"off\", found 1\n\
                    2 configurations, 1 problem, 0 warnings\n";
    assert_eq!((code, report.as_str()), (1, expected));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for (file, problem) in [("none.json", "cannot read it: "), (".", "it is a folder; name its files")] {
        std::fs::write(directory.path().join("right.json"), "{}").unwrap();
        let (code, report) = run(&["check-config", file, "right.json"], Vec::new(), directory.path());
        assert!(report.starts_with(&format!("{file}: error: {problem}")), "{report}");
        assert!(report.ends_with("ok: right.json\n1 configuration, 1 problem, 0 warnings\n"), "{report}");
        assert_eq!(code, 2);
    }
    let (code, report) = check("a: b\n---\na: [\n");
    assert!(report.starts_with("standard input: error: document 2: "), "{report}");
    assert_eq!(code, 2);
}

#[test]
fn a_template_is_named() {
    for template in
        ["spec:\n  url: {{ .Values.url }}\n", "{{- if .Values.on }}\nkind: WasmPlugin\n{{- end }}\n"]
    {
        let (code, report) = check(template);
        let expected = "standard input: error: it looks like a template that is not rendered; render it first, as in: \
                        helm template CHART | firstword check-config - (";
        assert!(report.starts_with(expected), "{report}");
        assert_eq!(code, 2);
    }
}

#[test]
fn a_truncated_file_of_another_tool_is_not_a_configuration() {
    let dump =
        r#"{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap"#;
    let (code, report) = check(dump);
    let expected = "standard input: error: expected JSON, found a syntax error: EOF while parsing";
    assert!(report.starts_with(expected), "{report}");
    assert_eq!((code, report.lines().count()), (2, 1), "{report}");
}

#[test]
fn files_in_a_config_map_are_looked_into() {
    let bootstrap = format!("a: [{}]", wasm("firstword", &string_value(r#"{"mode": 1}"#)));
    let config_map = |data: serde_json::Value| serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "envoy"}, "data": data});
    let nested = config_map(serde_json::json!({"a": bootstrap})).to_string();
    let data = serde_json::json!({"envoy.yaml": bootstrap, "nginx.conf": "server {", "nested": nested});
    let list = serde_json::json!({"kind": "List", "items": [config_map(data)]});
    let place = "document 1: $.items[0].data.envoy.yaml.a[0].config.configuration";
    assert_check(
        &list.to_string(),
        1,
        &format!(
            "standard input: {place}: 1 problem\n  error: $.mode: expected \"active\", \"observe\" or \"off\", \
             found 1\n{ONE_PROBLEM}"
        ),
    );
}

#[test]
fn json_output_has_every_finding() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("wrong.json", r#"{"mode": 1}"#),
        ("pod.yaml", "kind: Pod"),
        ("open.json", r#"{"rules": [{"proxy_protocol": {"receive": {"mode": "optional"}}}]}"#),
    ];
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let arguments = ["check-config", "-o", "json", "wrong.json", "none.json", "pod.yaml", "open.json"];
    let (code, printed) = run(&arguments, Vec::new(), directory.path());
    assert_eq!(code, 2);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let why = printed["findings"][1]["why"].clone();
    assert!(why.as_str().unwrap().starts_with("cannot read it: No such file"), "{why}");
    let expected = serde_json::json!({"format": 1, "configurations": 2, "findings": [
        {"severity": "error", "code": "configuration", "where": {"file": "wrong.json", "path": "$.mode"},
         "why": "expected \"active\", \"observe\" or \"off\", found 1"},
        {"severity": "error", "code": "unusable-file", "where": {"file": "none.json"}, "why": why},
        {"severity": "info", "code": "skipped", "where": {"file": "pod.yaml"},
         "why": "it has no configuration of Firstword"},
        {"severity": "warning", "code": "no-trusted-networks",
         "where": {"file": "open.json", "path": "$.rules[0].proxy_protocol.receive.trusted_networks"},
         "why": "no network is trusted, so each connection with a PROXY header is closed. List the proxies that \
                 send headers"},
    ]});
    assert_eq!(printed, expected);
}
