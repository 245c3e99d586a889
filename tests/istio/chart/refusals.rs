//! Values that the chart refuses, because they would cost connections or change nothing.

use serde_json::{Value, json};

use super::{template, try_template};

/// Asserts that `helm template` refuses the values, and says why.
fn assert_refused(name: &str, changes: &Value, why: &str) {
    let message = try_template("firstword", name, changes).expect_err(&format!("{changes}"));
    assert!(message.contains(why), "{changes}: {message}");
}

#[test]
fn a_typo_in_the_values_is_refused() {
    let rule = |rule: Value| json!({"config": {"rules": [rule]}});
    assert_refused("envoyfilter", &rule(json!({"name": "a", "protcol": "mysql"})), "protcol");
    assert_refused("envoyfilter", &rule(json!({"name": "a", "protocol": "mysq"})), "config.rules.0.protocol");
    assert_refused("envoyfilter", &rule(json!({"mysql": {"block_local_infil": true}})), "block_local_infil");
    assert_refused("envoyfilter", &json!({"config": {"metrics": {"max_series": 0}}}), "max_series");
    assert_refused("envoyfilter", &json!({"config": {"rule": []}}), "rule");
    assert_refused("envoyfilter", &json!({"image": {"tag": "v1"}}), "tag");
    assert_refused("envoyfilter", &json!({"image": {"digest": "sha256:0"}}), "image.digest");
    assert_refused(
        "envoyfilter",
        &json!({"image": {"repository": "registry.example.com/firstword:v1"}}),
        "repository",
    );
    assert_refused("envoyfilter", &json!({"kind": "Wasmplugin"}), "kind");
    assert_refused(
        "envoyfilter",
        &json!({"targets": [{"labels": {"app": "app"}, "outbund": {"ports": [1]}}]}),
        "outbund",
    );
    assert_refused(
        "envoyfilter",
        &json!({"targets": [{"labels": {}, "outbound": {"ports": [1]}}]}),
        "labels",
    );
    assert_refused("envoyfilter", &json!({"module": "rust"}), "module");
    // A number, of which YAML makes 1.3.
    assert_refused("native", &json!({"istioVersion": 1.30}), "istioVersion");
    assert_refused("native", &json!({"native": {"image": {"tag": "v1"}}}), "tag");
    let reference = |kind: &str| json!({"targets": [{"targetRefs": [{"kind": kind, "name": "a"}]}]});
    assert_refused("waypoint", &reference("GatewayClass"), "targetRefs");
    let entry = json!({"name": "a", "addresses": ["10.0.0.0/8"], "port": 1});
    assert_refused("wasmplugin", &json!({"serviceEntries": [entry]}), "addresses");
}

#[test]
fn values_that_would_fail_later_are_refused() {
    assert_refused(
        "envoyfilter",
        &json!({"image": {"repository": ""}}),
        "image.repository is empty. Push the image",
    );
    assert_refused("wasmplugin", &json!({"image": {"digest": ""}}), "image.digest is empty. Set the digest");
    assert_refused(
        "envoyfilter",
        &json!({"image": {"pullSecret": "a"}}),
        "an EnvoyFilter cannot name a Secret",
    );
    assert_refused("envoyfilter", &json!({"targets": []}), "targets is empty");
    let target = |outbound: Value| json!({"labels": {"app": "app"}, "outbound": outbound});
    let targets = |outbound: Value| json!({"targets": [target(outbound)]});
    assert_refused("envoyfilter", &json!({"targets": [{"labels": {"app": "app"}}]}), "has no connections");
    let two = json!({"targets": [target(json!({"ports": [1]})), target(json!({"ports": [2]}))]});
    assert_refused("envoyfilter", &two, "two targets are named platform/firstword");
    assert_refused("wasmplugin", &targets(json!({"passthrough": true})), "need kind EnvoyFilter");
    let twice = targets(json!({"ports": [10000], "listeners": ["55.108.108.2_10000"]}));
    assert_refused("envoyfilter", &twice, "would count each of its connections twice");
}

/// Combinations that Istio does not load, or that would stop a proxy.
#[test]
fn a_module_that_istio_cannot_load_is_refused() {
    let version = |version: &str| json!({"istioVersion": version});
    assert_refused("native", &json!({"kind": "WasmPlugin"}), "module native needs kind EnvoyFilter");
    assert_refused("waypoint", &json!({"module": "native"}), "module native needs kind EnvoyFilter");
    assert_refused("native", &version(""), "istioVersion is empty. Set it");
    for old in ["1.30", "1.30.9", "1.9"] {
        let why = format!("the native module needs Istio 1.31 or newer, and istioVersion is {old}");
        assert_refused("native", &version(old), &why);
    }
    for new in ["1.31", "1.31.0", "1.32", "1.100.1"] {
        assert_eq!(template("native", &version(new)).len(), 2, "{new}");
    }
    assert_refused(
        "native",
        &json!({"native": {"image": {"digest": ""}}}),
        "only one of repository and digest",
    );
    assert_refused("waypoint", &version("1.29.3"), "kind TrafficExtension needs Istio 1.30 or newer");
    assert_refused("envoyfilter", &version("1.24"), "the filter needs Istio 1.25 or newer");
    let tls = json!({"config": {"rules": [{"name": "a", "match": {"addresses": ["10.0.0.1"]}, "tls": {"upstream": "originate"}}]}});
    assert_refused("envoyfilter", &tls, "which the wasm module refuses. Set module: native");
    assert_eq!(template("native", &tls).len(), 2);
}

#[test]
fn a_target_that_no_proxy_could_be_is_refused() {
    let waypoint = json!([{"kind": "Gateway", "name": "waypoint"}]);
    let targets = |target: Value| json!({"targets": [target]});
    let no_filter = "targetRefs need kind TrafficExtension or WasmPlugin";
    assert_refused("envoyfilter", &targets(json!({"targetRefs": waypoint})), no_filter);
    assert_refused("native", &targets(json!({"targetRefs": waypoint})), no_filter);
    let either = "set labels, of the pods, or targetRefs, of a waypoint or gateway, and not both";
    assert_refused("waypoint", &targets(json!({"labels": {"app": "app"}, "targetRefs": waypoint})), either);
    assert_refused("waypoint", &targets(json!({"inbound": {"ports": [3306]}})), either);
    let outbound = json!({"targetRefs": waypoint, "outbound": {"ports": [3306]}});
    assert_refused("waypoint", &targets(outbound), "outbound is for pods with a sidecar");
}
