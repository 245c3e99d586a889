//! `firstword check-config` and the usage of the command line.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use assert_cmd::Command;
use std::path::Path;

/// Runs `firstword check-config` on the standard input. Returns exit status, standard output, standard error.
fn check(input: impl Into<Vec<u8>>) -> (i32, String, String) {
    run(&["check-config", "-"], input.into(), Path::new("."))
}

fn run(arguments: &[&str], input: Vec<u8>, directory: &Path) -> (i32, String, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.args(arguments).write_stdin(input).current_dir(directory).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn assert_check(input: &str, code: i32, results: &str, problems: &str) {
    let (found_code, found_results, found_problems) = check(input);
    assert_eq!((found_results.as_str(), found_problems.as_str()), (results, problems), "{input}");
    assert_eq!(found_code, code, "{input}");
}

/// The `typed_config` of a network filter, as YAML in one line.
fn wasm(root_id: &str, configuration: &str) -> String {
    format!(
        r#"{{"@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm, config: {{root_id: {root_id}, configuration: {configuration}}}}}"#
    )
}

fn string_value(json: &str) -> String {
    format!(r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{json}'}}"#)
}

const PORTS_PROBLEM: &str =
    r#"$.rules[0].match.ports[0]: expected a port from 1 to 65535 or a range like "10000-10099", found "x""#;
const STRUCT_PROBLEM: &str = "$: expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a google.protobuf.StringValue, not in a Struct";

#[test]
fn a_configuration_without_another_file_is_checked() {
    for right in ["{}", "", r#"{"rules": [{"match": {"ports": [3306]}, "protocol": "mysql"}]}"#] {
        assert_check(right, 0, "standard input: found 1 configuration\nok: standard input\n", "");
    }
    assert_check(
        r#"{"mode": "on", "rules": [{"match": {"ports": ["x"]}}]}"#,
        1,
        "standard input: found 1 configuration\n",
        &format!(
            "standard input: 2 problems\n  $.mode: expected \"active\", \"observe\" or \"off\", found \"on\"\n  {PORTS_PROBLEM}\n"
        ),
    );
    let syntax_error = "standard input: 1 problem\n  $: expected JSON, found a syntax error: trailing comma at line 2 column 1\n";
    assert_check("{\"mode\": \"off\",\n}", 1, "standard input: found 1 configuration\n", syntax_error);
    let duplicate = "standard input: 1 problem\n  $.mode: expected the key once, found it 2 times\n";
    assert_check(
        r#"{"mode": "off", "mode": "off"}"#,
        1,
        "standard input: found 1 configuration\n",
        duplicate,
    );
}

#[test]
fn results_and_problems_begin_with_the_name_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("right.json"), "{}").unwrap();
    std::fs::write(directory.path().join("wrong.json"), r#"{"mode": 1}"#).unwrap();
    let (code, results, problems) =
        run(&["check-config", "right.json", "wrong.json"], Vec::new(), directory.path());
    assert_eq!(code, 1);
    assert_eq!(
        results,
        "right.json: found 1 configuration\nok: right.json\nwrong.json: found 1 configuration\n"
    );
    assert_eq!(
        problems,
        "wrong.json: 1 problem\n  $.mode: expected \"active\", \"observe\" or \"off\", found 1\n"
    );
    let (code, _, problems) = run(&["check-config", "none.json", "right.json"], Vec::new(), directory.path());
    assert_eq!(
        (code, problems.starts_with("none.json: cannot read it: No such file")),
        (2, true),
        "{problems}"
    );
    let (code, _, problems) = run(&["check-config", "."], Vec::new(), directory.path());
    assert_eq!((code, problems.starts_with(".: cannot read it: ")), (2, true), "{problems}");
}

#[test]
fn the_filter_in_an_envoy_bootstrap_is_checked() {
    let bootstrap = |configuration: &str| {
        format!(
            "static_resources:
  listeners:
  - name: mysql
    filter_chains:
    - filters:
      - name: other
        typed_config: {}
      - name: firstword
        typed_config: {}
",
            wasm("other", &string_value("not JSON")),
            wasm("", configuration)
        )
    };
    let filters = "document 1: $.static_resources.listeners[0].filter_chains[0].filters";
    let found = format!(
        "skipped: standard input: {filters}[0].typed_config.config.configuration: not named firstword, and not the only one\n\
         standard input: found 1 configuration\n"
    );
    let place = format!("standard input: {filters}[1].typed_config.config.configuration");
    let right = format!("{found}ok: {place}\n");
    assert_check(&bootstrap(&string_value("{\"mode\": \"observe\"}")), 0, &right, "");
    for (configuration, problem) in [
        (string_value(r#"{"rules": [{"match": {"ports": ["x"]}}]}"#), PORTS_PROBLEM),
        (
            r#"{"@type": type.googleapis.com/google.protobuf.Struct, value: {mode: "off"}}"#.to_owned(),
            STRUCT_PROBLEM,
        ),
        (
            r#"{"@type": type.googleapis.com/google.protobuf.StringValue, value: {mode: "off"}}"#.to_owned(),
            r#"value: expected the JSON in one string, such as '{"mode": "observe"}'"#,
        ),
        (r#"{mode: "off"}"#.to_owned(), "@type: expected type.googleapis.com/google.protobuf.StringValue"),
        (
            // {"mode": 1}
            r#"{"@type": type.googleapis.com/google.protobuf.BytesValue, value: eyJtb2RlIjogMX0=}"#
                .to_owned(),
            r#"$.mode: expected "active", "observe" or "off", found 1"#,
        ),
    ] {
        let printed = format!("{place}: 1 problem\n  {problem}\n");
        assert_check(&bootstrap(&configuration), 1, &found, &printed);
    }
    // The filter receives no bytes for an empty Struct, so that the defaults apply.
    assert_check(
        &bootstrap(r#"{"@type": type.googleapis.com/google.protobuf.Struct, value: {}}"#),
        0,
        &right,
        "",
    );
}

#[test]
fn json_with_camel_case_and_a_typed_struct_is_checked() {
    let listener = r#"{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "filterChains": [{"filters": [{"name": "w", "typedConfig": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "typeUrl": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "value": {"config": {"rootId": "Firstword", "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue", "value": "{\"mode\": 1}"}}}}}]}]}"#;
    assert_check(
        listener,
        1,
        "standard input: found 1 configuration\n",
        "standard input: document 1: $.filterChains[0].filters[0].typedConfig.value.config.configuration: 1 problem\n  \
         $.mode: expected \"active\", \"observe\" or \"off\", found 1\n",
    );
}

#[test]
fn envoy_filters_in_several_documents_are_checked() {
    let envoy_filter = |apply_to: &str, value: &str| {
        format!(
            "apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: db}}
spec:
  configPatches:
  - applyTo: {apply_to}
    patch:
      operation: ADD
      value:
        name: istio-system.firstword
        typed_config: {value}
"
        )
    };
    let input = format!(
        "{}---\n{}---\n# the same by discovery\n",
        envoy_filter("EXTENSION_CONFIG", &wasm("a", &string_value("{}"))),
        envoy_filter("NETWORK_FILTER", &wasm("b", &string_value("[]")))
    );
    let place = "$.spec.configPatches[0].patch.value.typed_config.config.configuration";
    assert_check(
        &input,
        1,
        &format!("standard input: found 2 configurations\nok: standard input: document 1: {place}\n"),
        &format!("standard input: document 2: {place}: 1 problem\n  $: expected a JSON object, found []\n"),
    );
}

#[test]
fn istio_resources_are_checked() {
    let plugin = |kind: &str, spec: &str| format!("kind: {kind}\nmetadata: {{name: db}}\nspec: {spec}\n");
    let found = "standard input: found 1 configuration\n";
    let place = "standard input: document 1: $.spec.pluginConfig";
    let right = plugin("WasmPlugin", "{type: NETWORK, pluginConfig: {rules: [{match: {ports: [3306]}}]}}");
    assert_check(&right, 0, &format!("{found}ok: {place}\n"), "");
    assert_check(
        &plugin(
            "WasmPlugin",
            "{url: oci://ghcr.io/example/firstword:1, pluginConfig: {rules: [{match: {ports: [x]}}]}}",
        ),
        1,
        found,
        &format!(
            "{place}: 2 problems\n  spec.type: expected \"NETWORK\", found nothing, which means HTTP\n  {PORTS_PROBLEM}\n"
        ),
    );
    let place = "standard input: document 1: $.spec.wasm.pluginConfig";
    assert_check(
        &plugin("TrafficExtension", "{wasm: {type: HTTP}}"),
        1,
        found,
        &format!("{place}: 1 problem\n  spec.wasm.type: expected \"NETWORK\", found \"HTTP\"\n"),
    );
    let list =
        "kind: List\nitems:\n- {kind: WasmPlugin, metadata: {name: firstword}, spec: {type: NETWORK}}\n";
    assert_check(
        list,
        0,
        &format!("{found}ok: standard input: document 1: $.items[0].spec.pluginConfig\n"),
        "",
    );
}

#[test]
fn an_http_filter_is_a_problem_only_with_our_name() {
    let http = |root_id| wasm(root_id, &string_value("{}")).replace("network", "http");
    let (code, results, problems) = check(format!("filter: {}", http("firstword")));
    assert_eq!((code, results.as_str()), (1, "standard input: found 1 configuration\n"));
    assert!(problems.contains("  expected a network filter, envoy.extensions.filters.network"), "{problems}");
    assert_eq!(check(format!("filter: {}", http("other"))).0, 2);
}

#[test]
fn a_file_without_a_configuration_is_an_error() {
    let nothing = "found no configuration of Firstword, neither as one JSON object nor in a Wasm filter\n";
    for input in
        ["mode: off", "# nothing", "---\n---\n", "[]", "hello", r#"{"static_resources": {}}"#, "kind: Pod"]
    {
        assert_check(input, 2, "", &format!("standard input: {nothing}"));
    }
    let (code, _, problems) = check("a: b\n---\na: [\n");
    assert_eq!((code, problems.starts_with("standard input: document 2: ")), (2, true), "{problems}");
}

#[test]
fn json_output_reports_problems_as_findings() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("wrong.json"), r#"{"mode": 1}"#).unwrap();
    let (code, printed, problems) =
        run(&["check-config", "-o", "json", "wrong.json", "none.json"], Vec::new(), directory.path());
    assert_eq!((code, problems.as_str()), (2, ""));
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let why = printed["findings"][1]["why"].clone();
    assert!(why.as_str().unwrap().starts_with("cannot read it: No such file"), "{why}");
    let expected = serde_json::json!({"format": 1, "configurations": 1, "findings": [
        {"severity": "error", "code": "configuration", "where": {"file": "wrong.json", "path": "$.mode"},
         "why": "expected \"active\", \"observe\" or \"off\", found 1"},
        {"severity": "error", "code": "unusable-file", "where": {"file": "none.json"}, "why": why},
    ]});
    assert_eq!(printed, expected);
}

#[test]
fn malformed_input_is_refused_with_one_line() {
    let aliases: String =
        (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    for input in [
        vec![0; 1 << 20],
        vec![0xff; 1000],
        b"\x0a\x0d\x0a\x04mode\x12\x05\x1a\x03off".to_vec(),
        "[".repeat(1 << 20).into_bytes(),
        "a: {".repeat(1 << 16).into_bytes(),
        "- ".repeat(1 << 12).into_bytes(),
        format!("a0: &a0 x\n{aliases}").into_bytes(),
        b"a: *b".to_vec(),
        b"<<: 1".to_vec(),
        b"? {a: b}\n: c".to_vec(),
        b"a: 1\na: 2".to_vec(),
    ] {
        let start: Vec<u8> = input.iter().take(20).copied().collect();
        let (code, results, problems) = check(input);
        assert_eq!((code, results.as_str()), (2, ""), "{start:?}");
        assert_eq!(problems.lines().count(), 1, "{start:?}: {problems}");
    }
    assert_eq!(check("{".repeat(1 << 20)).0, 1);
    let (code, _, problems) = check(vec![b' '; (64 << 20) + 1]);
    assert_eq!((code, problems.as_str()), (2, "standard input: larger than 64 MiB\n"));
}

/// With aliases and merges, a few bytes of a file can take a megabyte in memory.
#[test]
fn a_small_file_cannot_become_a_large_document() {
    let long = "x".repeat(1_000_000);
    let aliases = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 2500].join(", "));
    let keys: Vec<_> = (0..100).map(|n| format!("k{n}: {}", "x".repeat(10_000))).collect();
    let merges = format!("a: &a {{{}}}\nb:\n{}", keys.join(", "), "- {<<: *a}\n".repeat(2500));
    let tagged = format!("a: &a !t {long}\nb: [{}]\n", vec!["*a"; 2500].join(", "));
    let key = format!("a: &a {long}\nb: [{}]\n", vec!["{*a : 1}"; 2500].join(", "));
    for (input, place) in [(aliases, "b["), (merges, "b["), (tagged, "b["), (key, "b[")] {
        let (code, results, problems) = check(input);
        assert_eq!((code, results.as_str()), (2, ""));
        let expected = "standard input: document 1: ";
        assert!(problems.starts_with(&format!("{expected}{place}")), "{problems}");
        let what =
            "expected values that take at most 71 MiB when all aliases are replaced, found more at line ";
        assert!(problems.contains(what), "{problems}");
    }
    // JSON has no aliases, but its brackets and numbers also count as values.
    let numbers = format!("[{}0]", "0,".repeat(2_000_000));
    let (code, _, problems) = check(numbers);
    let what = "standard input: expected values that take at most 94 MiB when all aliases are replaced, found more at line 1 ";
    assert!(code == 2 && problems.starts_with(what), "{problems}");
    // A long key counts only once, not for each value under it.
    let (code, _, problems) =
        check(format!("{{\"{long}\": {}}}", format_args!("[{}0]", "0,".repeat(1_000_000))));
    assert_eq!(
        (code, problems.as_str()),
        (1, "standard input: 1 problem\n  $: expected at most 1048576 bytes, found 3000009\n")
    );
    let (code, _, problems) = check(format!("[{}]", vec![wasm("other", "{}"); 10_001].join(",")));
    assert_eq!(
        (code, problems.as_str()),
        (2, "standard input: expected at most 10000 Wasm filters in a document, found more\n")
    );
}

/// A realistic use of aliases and merges, and a realistic number of values for the size of the file.
#[test]
fn a_large_realistic_file_is_read() {
    let filter = wasm("firstword", &string_value("{}"));
    let shared = format!(
        "a: &a {{x: {}}}\nb: [{}]\nc: {filter}\n",
        "x".repeat(1000),
        vec!["{<<: *a, y: 1}"; 5000].join(", ")
    );
    let ok = |at: &str| {
        format!(
            "standard input: found 1 configuration\nok: standard input: document 1: {at}.config.configuration\n"
        )
    };
    assert_check(&shared, 0, &ok("$.c"), "");
    let cluster = r#"{"name": "outbound|3306||mysql.db.svc.cluster.local", "address": {"port": 3306}, "metadata": {"a": {"b": [{"c": "d"}]}}}"#;
    let dump =
        format!("{{\"kind\": \"x\", \"all\": [{}], \"c\": {filter}}}", vec![cluster; 30_000].join(",\n"));
    assert!(dump.len() > 3_500_000);
    assert_eq!(check(dump), (0, ok("$.c"), String::new()));
}

#[test]
fn help_and_version_are_printed_and_wrong_usage_is_an_error() {
    let run = |arguments: &[&str]| run(arguments, Vec::new(), Path::new("."));
    let (code, help, _) = run(&["check-config", "--help"]);
    assert_eq!(code, 0);
    for part in ["WasmPlugin", "\"firstword\"", "Exit status:", "Examples:", "kubectl get"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(run(&["--version"]).1, format!("firstword {}\n", env!("CARGO_PKG_VERSION")));
    for wrong in [&[][..], &["check-config"], &["check-config", "--strict"], &["check"]] {
        assert_eq!(run(wrong).0, 2, "{wrong:?}");
    }
}
