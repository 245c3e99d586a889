//! This filter in a configuration: its settings, its module and the labels of its metrics.

use serde_json::{Value, json};

use crate::inputs::{TCP_PROXY, listener, string_value, with_filter};
use crate::{codes, json_of, verdicts};

#[test]
fn problems_of_the_filter_are_found() {
    let send = json!({"send": {"mode": "with_first_client_bytes"}});
    let rule = json!({"rules": [{"match": {"ports": [3306]}, "proxy_protocol": send}]});
    let struct_value =
        json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"mode": "off"}});
    let remote = json!({"code": {"remote": {"http_uri": {"uri": "https://a.example/x.wasm"}}}});
    for (configs, expected) in [
        (vec![json!({})], vec![]),
        // A WasmPlugin without pluginConfig, as istiod sends it.
        (vec![json!({"configuration": {}})], vec![]),
        (vec![json!({}), json!({})], vec!["error filter-twice"]),
        (vec![json!({"configuration": struct_value})], vec!["error configuration"]),
        (vec![json!({"configuration": string_value(&json!({"mode": 1}))})], vec!["error configuration"]),
        (vec![json!({"fail_open": false})], vec!["warning failure-policy"]),
        (vec![json!({"fail_open": false, "failure_policy": "FAIL_OPEN"})], vec!["info failure-policy"]),
        (vec![json!({"fail_open": false, "failure_policy": "FAIL_RELOAD"})], vec!["info failure-policy"]),
        (vec![json!({"vm_config": remote})], vec!["warning module-without-digest"]),
        (vec![json!({"configuration": string_value(&rule)})], vec!["warning proxy-header-late"]),
    ] {
        let (_, report) = json_of(&["-"], &with_filter(&configs));
        assert_eq!(codes(&report), expected, "{configs:?}");
    }
    let mut untagged = with_filter(&[json!({})]);
    untagged["stats_config"]["stats_tags"].as_array_mut().unwrap().pop();
    let (code, report) = json_of(&["-"], &untagged);
    assert_eq!((code, codes(&report)), (3, vec!["warning labels-missing".to_owned()]));
    assert!(report["findings"][0]["why"].as_str().unwrap().contains("names (protocol)"), "{report}");
    let mut after = with_filter(&[json!({})]);
    after["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        .as_array_mut()
        .unwrap()
        .reverse();
    assert_eq!(codes(&json_of(&["-"], &after).1), ["error filter-behind-tcp-proxy"]);
    let mut two = with_filter(&[json!({"configuration": string_value(&json!({"mode": "observe"}))})]);
    let mut second = with_filter(&[json!({})])["static_resources"]["listeners"][0].clone();
    second["address"]["socket_address"]["port_value"] = json!(3307);
    two["static_resources"]["listeners"].as_array_mut().unwrap().push(second);
    assert_eq!(codes(&json_of(&["-"], &two).1), ["warning vm-shared"]);
}

#[test]
fn a_tag_for_the_former_name_of_a_label_is_found() {
    let mut input = with_filter(&[json!({})]);
    let tags = input["stats_config"]["stats_tags"].as_array_mut().unwrap();
    tags.push(json!({"tag_name": "closed_by", "regex": r"(closed_by=\.=(.*?);\.;)"}));
    assert_eq!(codes(&json_of(&["-"], &input).1), [""; 0]);
    let tags = input["stats_config"]["stats_tags"].as_array_mut().unwrap();
    tags.push(json!({"tag_name": "by", "regex": r"(by=\.=(.*?);\.;)"}));
    let (code, report) = json_of(&["-"], &input);
    assert_eq!((code, codes(&report)), (3, vec!["warning label-renamed".to_owned()]));
    let why = report["findings"][0]["why"].as_str().unwrap();
    assert!(why.contains("label by, which was renamed to closed_by"), "{why}");
    assert!(why.ends_with("Replace the stats_tags of the bootstrap by those of envoy/mysql.yaml."), "{why}");

    // In Istio the fix is the annotation with the labels of today.
    input["node"] = json!({"id": "sidecar~10.0.0.9~app-0.shop~shop.svc.cluster.local", "metadata": {
        "NAMESPACE": "shop", "WORKLOAD_NAME": "app", "LABELS": {"app": "app"}, "ISTIO_VERSION": "1.30.0"}});
    let (_, report) = json_of(&["-"], &input);
    let renamed = report["findings"].as_array().unwrap();
    let renamed = renamed.iter().find(|finding| finding["code"] == "label-renamed").unwrap();
    assert!(
        renamed["why"].as_str().unwrap().ends_with("annotation sidecar.istio.io/extraStatTags of the pod.")
    );
    let fix = renamed["fixes"].to_string();
    assert!(fix.contains("phase,closed_by,seen") && !fix.contains(",by,"), "{fix}");
}

#[test]
fn a_missing_module_is_found() {
    let dump = |default: Value| {
        let mut discovery = json!({"config_source": {"ads": {}}});
        if !default.is_null() {
            discovery["default_config"] = default;
        }
        let proxy = json!({"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}});
        let filters = json!([{"name": "istio-system.firstword", "config_discovery": discovery}, proxy]);
        let listener = listener(&json!({"filter_chains": [{"filters": filters}]}));
        json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
                {"name": "mysql", "active_state": {"listener": listener}},
                {"name": "other", "error_state": {"details": "duplicate address\u{1b}[31m"}}]},
            {"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump"},
        ]})
    };
    let arguments = ["-", "--side", "inbound", "--dest", "127.0.0.1:3306"];
    let (code, report) = json_of(&arguments, &dump(Value::Null));
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["error extension-missing".to_owned(), "error listener-refused".to_owned()])
    );
    assert_eq!(verdicts(&report), ["127.0.0.1:3306 silent: closed"]);
    let why = report["findings"][1]["why"].as_str().unwrap();
    assert!(why.ends_with("duplicate address%1B[31m"), "{why}");
    let rbac = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"});
    let (_, report) = json_of(&arguments, &dump(rbac));
    assert_eq!(codes(&report), ["error listener-refused", "info extension-pending"]);
    assert_eq!(verdicts(&report), ["127.0.0.1:3306 silent: greeting"]);
}

/// A dump of a sidecar whose filter Envoy discovers by name, with a module at this path.
fn sidecar_with_module(file: &str, default: &Value) -> Value {
    let mut discovery = json!({"config_source": {"ads": {}}});
    if !default.is_null() {
        discovery["default_config"] = default.clone();
    }
    let proxy = json!({"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}});
    let filters = json!([{"name": "default.firstword", "config_discovery": discovery}, proxy]);
    let listener = listener(&json!({"filter_chains": [{"filters": filters}]}));
    let wasm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
        "config": {"name": "firstword", "fail_open": true, "vm_config": {"code": {"local": {"filename": file}}}},
    });
    json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": {
            "id": "sidecar~10.0.0.9~app-0.shop~shop.svc.cluster.local",
            "metadata": {"NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0"}}}},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
            {"name": "mysql", "active_state": {"listener": listener}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [
            {"ecds_filter": {"name": "default.firstword", "typed_config": wasm}}]},
    ]})
}

#[test]
fn a_module_that_envoy_refuses_is_found_in_the_statistics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats");
    let of = |default: Value, statistics: &str| {
        let prefix = "extension_config_discovery.network_filter.default.firstword";
        let lines = statistics.split(' ').map(|line| format!("{prefix}.{}\n", line.replace('=', ": ")));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        let input = sidecar_with_module("/var/local/firstword/firstword.wasm", &default);
        let arguments = ["-", "--side", "inbound", "--dest", "127.0.0.1:3306", "--stats"];
        let (code, report) = json_of(&[arguments.as_slice(), &[path.to_str().unwrap()]].concat(), &input);
        let mut found = codes(&report);
        found.retain(|code| !code.ends_with("labels-missing") && !code.ends_with("hang-not-visible"));
        (code == 1, verdicts(&report), found)
    };
    let verdict = |word: &str| vec![format!("127.0.0.1:3306 silent: {word}")];
    let rbac = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"});
    assert_eq!(
        of(Value::Null, "update_rejected=1 update_success=0"),
        (true, verdict("closed"), vec!["error extension-missing".to_owned()])
    );
    assert_eq!(
        of(rbac, "update_rejected=1 update_success=0"),
        (false, verdict("greeting"), vec!["warning extension-refused".to_owned()])
    );
    // Envoy keeps the configuration that it has accepted.
    assert_eq!(
        of(Value::Null, "update_rejected=1 update_success=1"),
        (false, verdict("greeting"), vec!["info module-file".to_owned()])
    );
}

#[test]
fn the_image_from_which_istio_took_the_module_is_named() {
    let digest = "6ce6".repeat(16);
    let module = format!("/var/lib/istio/data/{}/{digest}.wasm", "0a".repeat(32));
    let (_, report) = json_of(&["-"], &sidecar_with_module(&module, &Value::Null));
    let found =
        report["findings"].as_array().unwrap().iter().find(|one| one["code"] == "module-image").unwrap();
    assert_eq!(found["why"], format!("The module is that of the image sha256:{digest}."));
}
