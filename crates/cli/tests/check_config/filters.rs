//! Configurations inside the files of Envoy and Istio.

use super::*;

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
    let skipped = format!(
        "skipped: standard input: {filters}[0].typed_config.config.configuration: this Wasm filter is not named \
         firstword, and it is not the only one\n"
    );
    let place = format!("standard input: {filters}[1].typed_config.config.configuration");
    let right = format!("{skipped}ok: {place}\n{ONE_RIGHT}");
    assert_check(&bootstrap(&string_value("{\"mode\": \"observe\"}")), 0, &right);
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
        let printed = format!("{skipped}{place}: 1 problem\n  error: {problem}\n{ONE_PROBLEM}");
        assert_check(&bootstrap(&configuration), 1, &printed);
    }
    // The filter receives no bytes for an empty Struct, so that the defaults apply.
    assert_check(
        &bootstrap(r#"{"@type": type.googleapis.com/google.protobuf.Struct, value: {}}"#),
        0,
        &right,
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
        &format!(
            "standard input: document 1: $.filterChains[0].filters[0].typedConfig.value.config.configuration: 1 problem\n  \
             error: $.mode: expected \"active\", \"observe\" or \"off\", found 1\n{ONE_PROBLEM}"
        ),
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
        &format!(
            "ok: standard input: document 1: {place}\nstandard input: document 2: {place}: 1 problem\n  \
             error: $: expected a JSON object, found []\n2 configurations, 1 problem, 0 warnings\n"
        ),
    );
}

#[test]
fn istio_resources_are_checked() {
    let plugin = |kind: &str, spec: &str| format!("kind: {kind}\nmetadata: {{name: db}}\nspec: {spec}\n");
    let place = "standard input: document 1: $.spec.pluginConfig";
    let right = plugin("WasmPlugin", "{type: NETWORK, pluginConfig: {rules: [{match: {ports: [3306]}}]}}");
    assert_check(&right, 0, &format!("ok: {place}\n{ONE_RIGHT}"));
    assert_check(
        &plugin(
            "WasmPlugin",
            "{url: oci://ghcr.io/example/firstword:1, pluginConfig: {rules: [{match: {ports: [x]}}]}}",
        ),
        1,
        &format!(
            "{place}: 2 problems\n  error: spec.type: expected \"NETWORK\", found nothing, which means HTTP\n  \
             error: {PORTS_PROBLEM}\n1 configuration, 2 problems, 0 warnings\n"
        ),
    );
    let place = "standard input: document 1: $.spec.wasm.pluginConfig";
    assert_check(
        &plugin("TrafficExtension", "{wasm: {type: HTTP}}"),
        1,
        &format!(
            "{place}: 1 problem\n  error: spec.wasm.type: expected \"NETWORK\", found \"HTTP\"\n{ONE_PROBLEM}"
        ),
    );
    let list =
        "kind: List\nitems:\n- {kind: WasmPlugin, metadata: {name: firstword}, spec: {type: NETWORK}}\n";
    let place = "standard input: document 1: $.items[0].spec.pluginConfig";
    assert_check(list, 0, &format!("ok: {place}\n{ONE_RIGHT}"));
}

#[test]
fn an_http_filter_is_a_problem_only_with_our_name() {
    let http = |root_id| wasm(root_id, &string_value("{}")).replace("network", "http");
    let (code, report) = check(format!("filter: {}", http("firstword")));
    assert!(
        report.contains("  error: $: expected a network filter, envoy.extensions.filters.network"),
        "{report}"
    );
    assert_eq!(code, 1);
    assert_eq!(check(format!("filter: {}", http("other"))).0, 2);
}

/// The same configuration is valid in the native module, in `envoy/tls-originate.yaml`.
#[test]
fn a_wasm_module_that_should_start_tls_is_a_problem() {
    let rules = r#"{"rules": [{"match": {"ports": [25]}},
        {"match": {"addresses": ["10.0.0.1"]}, "protocol": "mysql", "tls": {"upstream": "originate"}}]}"#;
    let (code, report) = check(wasm("firstword", &string_value(rules)));
    let problem = "error: $.rules[1].tls: expected it in the native module, because Envoy lets no WebAssembly module start TLS; \
                   found it in a wasm module";
    assert_eq!(code, 1, "{report}");
    assert!(report.contains(problem), "{report}");
}
