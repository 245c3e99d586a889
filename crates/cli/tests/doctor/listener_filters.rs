//! Filters that run before a connection reaches its filter chain, and delay the greeting.

use serde_json::{Value, json};

use crate::inputs::{bootstrap, inspector, listener};
use crate::{codes, json_of, run, verdicts};

#[test]
fn no_file_of_this_repository_delays_a_greeting() {
    let directory = firstword_testing::root().join("envoy");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("static_resources") {
            continue;
        }
        count += 1;
        let (code, report, problems) = run(&[path.to_str().unwrap(), "-o", "json"], "");
        let report: Value =
            serde_json::from_str(&report).unwrap_or_else(|_| panic!("{}: {problems}", path.display()));
        let silent = verdicts(&report).into_iter().filter(|verdict| verdict.contains("silent"));
        let wrong: Vec<_> =
            silent.filter(|verdict| !verdict.ends_with("greeting") && !verdict.ends_with("closed")).collect();
        println!("{}: {code} {:?} {:?}", path.display(), verdicts(&report), codes(&report));
        assert_eq!(wrong, [""; 0], "{}", path.display());
        assert!(code == 0 || code == 3, "{}: {report:#}", path.display());
    }
    assert!(count >= 9, "{count} files");
}

#[test]
fn a_listener_filter_that_waits_is_found_with_its_consequence() {
    for (filter, timeout, go_on, verdict, code) in [
        ("tls_inspector", "0s", false, "hang", 1),
        ("http_inspector", "0s", true, "hang", 1),
        ("tls_inspector", "1s", false, "closed", 1),
        ("tls_inspector", "0.250s", true, "delayed", 3),
        ("original_dst", "0s", false, "greeting", 0),
    ] {
        let input = bootstrap(&[listener(&json!({"listener_filters": [inspector(filter)],
            "listener_filters_timeout": timeout, "continue_on_listener_filters_timeout": go_on}))]);
        let (found, report) = json_of(&["-", "--side", "inbound", "--dest", "10.0.0.1:3306"], &input);
        assert_eq!(verdicts(&report), [format!("10.0.0.1:3306 silent: {verdict}")], "{filter} {timeout}");
        assert_eq!(found, code, "{report:#}");
        if code != 0 {
            let fix = &report["findings"][0]["fixes"][0]["yaml"];
            assert!(fix.as_str().unwrap().contains("start: 3306, end: 3307"), "{fix}");
        }
    }
}

#[test]
fn a_required_header_that_a_client_can_omit_is_found() {
    let proxy_protocol = |more: Value| {
        let mut config = json!({"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"});
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        json!([{"name": "envoy.filters.listener.proxy_protocol", "typed_config": config}])
    };
    let report = |filters: Value, go_on: bool| {
        let input = bootstrap(&[listener(
            &json!({"listener_filters": filters, "continue_on_listener_filters_timeout": go_on}),
        )]);
        let (_, report) = json_of(&["-"], &input);
        (verdicts(&report), codes(&report))
    };
    let all =
        |silent: &str| vec![format!("*:3306 silent: {silent}"), "*:3306 proxy_header: greeting".to_owned()];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        report(proxy_protocol(json!({})), true),
        (all("delayed"), words(&["warning proxy-protocol-bypassed", "info proxy-protocol-waits"]))
    );
    assert_eq!(
        report(proxy_protocol(json!({})), false),
        (all("closed"), words(&["info proxy-protocol-waits"]))
    );
    assert_eq!(
        report(proxy_protocol(json!({"allow_requests_without_proxy_protocol": true})), false),
        (all("closed"), words(&["warning proxy-protocol-waits"]))
    );
}

#[test]
fn listener_filters_of_other_envoy_filters_are_found() {
    let virtual_outbound = |filters: Value, more: Value| {
        let mut listener = listener(&json!({"name": "virtualOutbound", "use_original_dst": true,
            "traffic_direction": "OUTBOUND", "listener_filters": filters,
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}}}));
        for (key, value) in more.as_object().unwrap() {
            listener[key] = value.clone();
        }
        json!([listener])
    };
    let arguments = ["-", "--dest", "10.0.0.1:3306"];
    let (_, report) = json_of(&arguments, &virtual_outbound(json!([inspector("tls_inspector")]), json!({})));
    assert_eq!(
        (verdicts(&report)[0].as_str(), codes(&report)),
        ("10.0.0.1:3306 silent: closed", vec!["error outbound-inspector".to_owned()])
    );
    // Istio did not add the filter, so that our fix does not help.
    assert_eq!(report["findings"][0].get("fixes"), None, "{report:#}");
    let (_, report) = json_of(&arguments, &virtual_outbound(json!([inspector("http_inspector")]), json!({})));
    assert!(report["findings"][0]["fixes"][0]["yaml"].as_str().unwrap().contains("start: 3306, end: 3307"));
    let filters = json!([inspector("original_dst"), inspector("proxy_protocol")]);
    let (_, report) = json_of(&arguments, &virtual_outbound(filters, json!({})));
    assert!(codes(&report).contains(&"warning proxy-protocol-after-original-dst".to_owned()), "{report:#}");
    // The finding names the resource of Istio.
    let config = json!({"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/db/virtual-service/x"}}});
    let (_, report) = json_of(
        &arguments,
        &virtual_outbound(json!([inspector("http_inspector")]), json!({"metadata": config})),
    );
    assert_eq!(report["findings"][0]["where"]["resource"], "networking.istio.io/v1 virtual-service db/x");
    // Text from the input is escaped before it reaches a terminal or YAML.
    let mut hostile =
        bootstrap(&[listener(&json!({"listener_filters": [{"name": "x\u{1b}]0;\n_inspector"}]}))]);
    hostile["static_resources"]["listeners"][0]["name"] = json!("a\u{7}b\nc");
    let (code, text, _) = run(&["-"], hostile.to_string());
    assert_eq!(code, 1);
    assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
    assert!(!text.contains("listener_filters:\n"), "{text}");
}
