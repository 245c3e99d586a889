//! Warnings: valid settings without an effect, or with one that few operators want.

use super::*;

const NEVER: &str = "the rule can never match, because the filter only sees connections to ";

/// The warnings of a file with one valid configuration, without the place of the rule.
fn warnings(input: &str) -> Vec<String> {
    let (code, report) = check(input);
    assert_eq!(code, 0, "{report}");
    report.lines().filter_map(|line| line.strip_prefix("  warning: ").map(str::to_owned)).collect()
}

fn plugin(reach: &str, rule: &str) -> String {
    format!(
        "kind: WasmPlugin\nspec: {{type: NETWORK, match: {reach}, pluginConfig: {{rules: [{{match: {rule}}}]}}}}\n"
    )
}

#[test]
fn a_rule_for_other_connections_than_those_of_the_plugin_is_warned_of() {
    let client = "[{mode: CLIENT, ports: [{number: 3306}]}]";
    let both =
        "[{mode: CLIENT, ports: [{number: 3306}, {number: 10000}]}, {mode: SERVER, ports: [{number: 3307}]}]";
    for (reach, rule, seen) in [
        (client, "{ports: [3307]}", "port 3306, outbound or unspecified"),
        (client, "{direction: inbound}", "port 3306, outbound or unspecified"),
        (
            both,
            "{ports: [3307], direction: outbound}",
            "port 3306 or port 10000, outbound or unspecified; port 3307, inbound",
        ),
        ("[{ports: [{number: 3306}]}]", "{ports: ['3307-4000']}", "port 3306"),
        ("[{mode: SERVER}]", "{direction: outbound}", "inbound"),
    ] {
        let expected = format!("$.rules[0].match: {NEVER}{seen}");
        assert_eq!(warnings(&plugin(reach, rule)), [expected], "{reach} {rule}");
    }
    for (reach, rule) in [
        (client, "{ports: ['3300-3310'], direction: outbound}"),
        (client, "{addresses: [10.0.0.0/8]}"),
        (both, "{ports: [3307], direction: inbound}"),
        ("[{mode: CLIENT_AND_SERVER}]", "{ports: [1], direction: inbound}"),
        ("[]", "{ports: [1]}"),
    ] {
        assert_eq!(warnings(&plugin(reach, rule)), [""; 0], "{reach} {rule}");
    }
    let extension = format!(
        "kind: TrafficExtension\nspec: {{match: {client}, wasm: {{type: NETWORK, pluginConfig: {{rules: [{{match: {{ports: [1]}}}}]}}}}}}\n"
    );
    assert_eq!(warnings(&extension).len(), 1, "{extension}");
}

#[test]
fn a_rule_for_another_port_than_that_of_the_listener_is_warned_of() {
    let listener = |more: &str, rule: &str| {
        let configuration = string_value(&format!(r#"{{"rules": [{{"match": {rule}}}]}}"#));
        let filter = wasm("firstword", &configuration);
        format!(
            "name: mysql\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 13306}}}}\n{more}\n\
             filter_chains: [{{filters: [{{name: firstword, typed_config: {filter}}}]}}]\n"
        )
    };
    let port = r#"{"ports": [3306]}"#;
    let expected = format!("$.rules[0].match: {NEVER}port 13306, unspecified");
    assert_eq!(warnings(&listener("", port)), [expected.as_str()]);
    assert_eq!(warnings(&listener("", r#"{"direction": "inbound"}"#)), [expected.as_str()]);
    for (more, rule) in [
        ("", r#"{"ports": [13306]}"#),
        ("traffic_direction: INBOUND", r#"{"direction": "inbound"}"#),
        // The destination is that of the client's connection or header.
        ("use_original_dst: true", port),
        ("listener_filters: [{name: envoy.filters.listener.original_dst}]", port),
        (
            "listener_filters: [{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}]",
            port,
        ),
    ] {
        assert_eq!(warnings(&listener(more, rule)), [""; 0], "{more} {rule}");
    }
}

#[test]
fn a_rule_for_another_port_than_that_of_the_patch_is_warned_of() {
    let patch = |context: &str, rule: &str| {
        let configuration = string_value(&format!(r#"{{"rules": [{{"match": {rule}}}]}}"#));
        let filter = wasm("firstword", &configuration);
        format!(
            "kind: EnvoyFilter\nspec: {{configPatches: [{{applyTo: NETWORK_FILTER, match: {{context: {context}, \
             listener: {{portNumber: 3306}}}}, patch: {{value: {{name: firstword, typed_config: {filter}}}}}}}]}}\n"
        )
    };
    for (context, rule, seen) in [
        ("SIDECAR_INBOUND", r#"{"ports": [3307]}"#, "port 3306, inbound"),
        ("SIDECAR_OUTBOUND", r#"{"direction": "inbound"}"#, "port 3306, outbound"),
        ("GATEWAY", r#"{"ports": [3307]}"#, "port 3306"),
    ] {
        let expected = format!("$.rules[0].match: {NEVER}{seen}");
        assert_eq!(warnings(&patch(context, rule)), [expected], "{context} {rule}");
    }
    assert_eq!(warnings(&patch("SIDECAR_INBOUND", r#"{"ports": [3306], "direction": "inbound"}"#)), [""; 0]);
}

#[test]
fn optional_headers_without_trusted_networks_are_warned_of() {
    let of = |receive: &str| format!(r#"{{"rules": [{{"proxy_protocol": {{"receive": {receive}}}}}]}}"#);
    assert_eq!(
        warnings(&of(r#"{"mode": "optional"}"#)),
        [
            "$.rules[0].proxy_protocol.receive.trusted_networks: no network is trusted, so each connection with a PROXY \
             header is closed. List the proxies that send headers"
        ]
    );
    for receive in [
        r#"{"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}"#,
        r#"{"mode": "optional", "on_untrusted_header": "strip"}"#,
        r#"{"mode": "off"}"#,
    ] {
        assert_eq!(warnings(&of(receive)), [""; 0], "{receive}");
    }
}
