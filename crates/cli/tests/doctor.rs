//! `firstword doctor` on configurations of every kind. `tests/istio` and `tests/envoy` compare its findings with real
//! Envoys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests, too")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use assert_cmd::Command;
use serde_json::{Value, json};

/// Runs the command. Returns exit status, standard output, standard error.
fn run(arguments: &[&str], input: impl Into<Vec<u8>>) -> (i32, String, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.arg("doctor").args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(arguments: &[&str], input: &Value) -> (i32, Value) {
    let (code, report, problems) = run(&[arguments, &["-o", "json"]].concat(), input.to_string());
    assert_eq!(problems, "");
    (code, serde_json::from_str(&report).unwrap())
}

fn verdicts(report: &Value) -> Vec<String> {
    let destinations = report["destinations"].as_array().unwrap().iter();
    let clients = destinations.flat_map(|to| {
        to["clients"].as_array().unwrap().iter().map(move |client| (&to["destination"], client))
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    clients
        .map(|(to, client)| format!("{} {}: {}", text(to), text(&client["client"]), text(&client["verdict"])))
        .collect()
}

fn codes(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|one| format!("{} {}", text(&one["severity"]), text(&one["code"]))).collect()
}

const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";

fn inspector(name: &str) -> Value {
    json!({"name": format!("envoy.filters.listener.{name}")})
}

/// A listener of a standalone Envoy on port 3306, with further fields.
fn listener(more: &Value) -> Value {
    let mut listener = json!({
        "name": "mysql",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 3306}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}}]}],
    });
    for (key, value) in more.as_object().unwrap() {
        listener[key] = value.clone();
    }
    listener
}

fn bootstrap(listeners: &[Value]) -> Value {
    let limit = json!({"thresholds": [{"priority": "HIGH"}, {"max_connections": 5000}]});
    json!({"static_resources": {"listeners": listeners, "clusters": [{"name": "db", "type": "STATIC",
        "circuit_breakers": limit, "load_assignment": {
        "cluster_name": "db", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 3307}}}}]}]}}]}})
}

/// A bootstrap with Wasm filters before `tcp_proxy`, with these fields in their `config`.
fn with_filter(configs: &[Value]) -> Value {
    let filters = configs.iter().map(|config| {
        let mut all = json!({"name": "firstword", "root_id": "firstword", "fail_open": true, "vm_config": {
            "vm_id": "firstword", "code": {"local": {"filename": "firstword.wasm"}}}});
        for (key, value) in config.as_object().unwrap() {
            all[key] = value.clone();
        }
        json!({"name": "firstword", "typed_config": {"@type": WASM, "config": all}})
    });
    let proxy = json!({"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": "db"}});
    let filters: Vec<_> = filters.chain([proxy]).collect();
    let mut bootstrap = bootstrap(&[listener(&json!({"filter_chains": [{"filters": filters}]}))]);
    let tag = |name: &str| json!({"tag_name": name, "regex": "(x)"});
    let tags = ["direction", "destination", "protocol"].map(tag);
    bootstrap["stats_config"] = json!({"stats_tags": tags});
    bootstrap
}

fn string_value(configuration: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()})
}

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
fn a_list_of_listeners_in_camel_case_is_read() {
    let listeners = json!([
        {"name": "virtualOutbound", "address": {"socketAddress": {"address": "0.0.0.0", "portValue": 15001}},
         "useOriginalDst": true, "trafficDirection": "OUTBOUND",
         "filterChains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig":
            {"@type": TCP_PROXY, "statPrefix": "PassthroughCluster", "cluster": "PassthroughCluster"}}]}]},
        {"name": "0.0.0.0_10000", "address": {"socketAddress": {"address": "0.0.0.0", "portValue": 10000}},
         "bindToPort": false, "trafficDirection": "OUTBOUND", "listenerFiltersTimeout": "0s",
         "continueOnListenerFiltersTimeout": true, "listenerFilters": [{"name": "envoy.filters.listener.http_inspector",
            "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}],
         "filterChains": [],
         "defaultFilterChain": {"name": "PassthroughFilterChain", "filters": [{"name": "envoy.filters.network.tcp_proxy",
            "typedConfig": {"@type": TCP_PROXY, "cluster": "PassthroughCluster"}}]}},
    ]);
    let (code, report) =
        json_of(&["-", "--dest", "55.108.108.2:10000", "--dest", "55.108.108.2:3306"], &listeners);
    assert_eq!(code, 1);
    assert_eq!(verdicts(&report), ["55.108.108.2:10000 silent: hang", "55.108.108.2:3306 silent: greeting"]);
    assert_eq!(codes(&report), ["error port-conflict"]);
    let finding = &report["findings"][0];
    assert_eq!(
        finding["where"],
        json!({"destination": "55.108.108.2:10000", "listener": "0.0.0.0_10000",
        "filter": "envoy.filters.listener.http_inspector"})
    );
    // Without a destination, the port may be one of many for HTTP.
    let (code, report) = json_of(&["-"], &listeners);
    assert_eq!((code, codes(&report)), (0, vec!["info port-conflict".to_owned()]));
    assert_eq!(verdicts(&report), ["*:3306 silent: greeting", "*:10000 silent: hang"]);
}

#[test]
fn the_statistics_show_connections_that_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats");
    let statistics = "cluster.db.x: 1\nlistener.0.0.0.0_3306.downstream_pre_cx_active: 2\n\
                      listener.0.0.0.0_3306.downstream_pre_cx_timeout: 7\nwait: P0(nan,1)\n";
    std::fs::write(&path, statistics).unwrap();
    let input = bootstrap(&[listener(&json!({}))]);
    let (code, report) = json_of(&["-", "--stats", path.to_str().unwrap()], &input);
    assert_eq!((code, codes(&report)), (3, vec!["warning connections-waiting".to_owned()]));
    let why = report["findings"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("2 connections wait") && why.contains("15000 ms. 7 have"), "{why}");
}

#[test]
fn problems_of_the_filter_are_found() {
    let send = json!({"send": {"mode": "with_first_client_bytes"}});
    let rule = json!({"rules": [{"match": {"ports": [3306]}, "proxy_protocol": send}]});
    let struct_value =
        json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"mode": "off"}});
    let remote = json!({"code": {"remote": {"http_uri": {"uri": "https://a.example/x.wasm"}}}});
    for (configs, expected) in [
        (vec![json!({})], vec![]),
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
fn chains_that_wait_or_close_are_found() {
    let filter = |kind: &str, more: Value| {
        let mut config =
            json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.network.{kind}")});
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        json!({"name": kind, "typed_config": config})
    };
    let proxy = |cluster: &str| filter("tcp_proxy.v3.TcpProxy", json!({"cluster": cluster}));
    let rbac = filter("rbac.v3.RBAC", json!({"rules": {"policies": {}}}));
    let manager = filter("http_connection_manager.v3.HttpConnectionManager", json!({}));
    let late = filter(
        "tcp_proxy.v3.TcpProxy",
        json!({"cluster": "db", "upstream_connect_mode": "ON_DOWNSTREAM_DATA"}),
    );
    let on_tls = filter(
        "tcp_proxy.v3.TcpProxy",
        json!({"cluster": "none", "upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE"}),
    );
    let tls = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"}});
    let arguments = ["-", "--side", "inbound", "--dest", "10.0.0.1:3306"];
    for (chain, verdict, found) in [
        (json!({"filters": [rbac, proxy("db")]}), "greeting", vec!["info rbac-after-greeting"]),
        (json!({"filters": [manager]}), "hang", vec!["error client-first-filter"]),
        (json!({"filters": [late]}), "hang", vec!["error client-first-filter"]),
        (json!({"filters": [proxy("none")]}), "closed", vec!["error no-cluster"]),
        (json!({"filters": [proxy("BlackHoleCluster")]}), "closed", vec!["error black-hole"]),
        (json!({"filters": [proxy("db")], "transport_socket": tls}), "hang", vec!["error tls-first"]),
        // tcp_proxy does not wait for TLS, unless its configuration says so.
        (json!({"filters": [proxy("none")], "transport_socket": tls}), "closed", vec!["error no-cluster"]),
        (
            json!({"filters": [proxy("BlackHoleCluster")], "transport_socket": tls}),
            "closed",
            vec!["error black-hole"],
        ),
        // The cluster is also missing for a client with mutual TLS.
        (
            json!({"filters": [on_tls], "transport_socket": tls}),
            "hang",
            vec!["error tls-first", "error no-cluster"],
        ),
        (
            json!({"filters": [proxy("db")], "filter_chain_match": {"destination_port": 1}}),
            "closed",
            vec!["error no-chain"],
        ),
        (json!({"filters": [{"name": "of.another"}]}), "unknown", vec!["info undecided"]),
    ] {
        let mut input = bootstrap(&[listener(&json!({"filter_chains": [chain]}))]);
        let clusters = input["static_resources"]["clusters"].as_array_mut().unwrap();
        clusters.push(json!({"name": "BlackHoleCluster", "type": "STATIC"}));
        let (_, report) = json_of(&arguments, &input);
        assert_eq!(verdicts(&report)[0], format!("10.0.0.1:3306 silent: {verdict}"), "{chain}");
        assert_eq!(codes(&report), found, "{chain}");
    }
    let input = bootstrap(&[listener(&json!({}))]);
    let (code, report) = json_of(&["-", "--dest", "10.0.0.1:3307"], &input);
    assert_eq!((code, codes(&report)), (1, vec!["error no-listener".to_owned()]));
}

/// Such a listener could delay a greeting. A report of no findings would be wrong, because the listener is not examined.
#[test]
fn a_listener_on_a_unix_socket_is_reported_as_skipped() {
    let pipe = json!({"pipe": {"path": "/run/my\u{9b}sql.sock"}});
    let unix = listener(&json!({"address": pipe, "listener_filters": [inspector("tls_inspector")]}));
    let (code, text, _) = run(&["-"], bootstrap(std::slice::from_ref(&unix)).to_string());
    assert_eq!(code, 3);
    let expected = "warning[unix-socket-skipped]: a listener on a Unix socket is not examined\n  where   listener mysql\n  cause   \
                    The listener accepts connections on the Unix socket /run/my%C2%9Bsql.sock.";
    assert!(text.trim_start().starts_with(expected), "{text}");
    assert!(!text.contains("Nothing"), "{text}");
    // Together with another listener, and as a further address of one.
    let both = bootstrap(&[listener(&json!({})), unix]);
    let (code, report) = json_of(&["-"], &both);
    assert_eq!((code, codes(&report)), (3, vec!["warning unix-socket-skipped".to_owned()]));
    let more = bootstrap(&[listener(&json!({"additional_addresses": [{"address": pipe}]}))]);
    let (code, report) = json_of(&["-"], &more);
    assert_eq!((code, codes(&report)), (3, vec!["warning unix-socket-skipped".to_owned()]));
    // With --dest, only that destination is examined.
    let (code, report) = json_of(&["-", "--dest", "10.0.0.1:3306"], &both);
    assert_eq!((code, codes(&report)), (0, Vec::new()));
    // A listener for HTTP is not reported.
    let manager = json!({"name": "http", "typed_config": {"@type":
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"}});
    let http = listener(&json!({"address": pipe, "filter_chains": [{"filters": [manager]}]}));
    assert_eq!(json_of(&["-"], &bootstrap(&[http])).0, 0);
}

#[test]
fn a_default_connection_limit_is_reported() {
    for (limits, found) in [
        (json!({}), true),
        (json!({"thresholds": [{"priority": "HIGH", "max_connections": 9}]}), true),
        (json!({"thresholds": [{"max_pending_requests": 9}]}), true),
        (json!({"thresholds": [{"priority": "DEFAULT", "max_connections": 9}]}), false),
    ] {
        let mut input = bootstrap(&[listener(&json!({}))]);
        input["static_resources"]["clusters"][0]["circuit_breakers"] = limits;
        let (code, report) = json_of(&["-", "--dest", "10.0.0.1:3306"], &input);
        let expected = Vec::from_iter(found.then(|| "info default-connection-limit".to_owned()));
        assert_eq!((code, codes(&report)), (0, expected));
    }
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

#[test]
fn invalid_inputs_are_refused() {
    let one = bootstrap(&[listener(&json!({}))]).to_string();
    let half: String = one.chars().take(one.len() / 2).collect();
    let listener_with = |key: &str, value: Value| bootstrap(&[listener(&json!({key: value}))]).to_string();
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let expected = "$: expected a /config_dump, the output of";
    for (input, problem) in [
        (String::new(), expected),
        ("hello".to_owned(), expected),
        ("a: b".to_owned(), expected),
        ("---\na: b\n---\nc: d\n".to_owned(), expected),
        ("{}".to_owned(), "found an empty object"),
        ("[]".to_owned(), "$: expected at least one listener, found none"),
        ("[1]".to_owned(), "$[0]: expected a listener, found a number"),
        (
            json!([{"name": "c", "type": "EDS"}]).to_string(),
            "$[0]: expected a listener, found an object with \"name\", \"type\"",
        ),
        (json!({"configs": {}}).to_string(), "$.configs: expected a list, found an empty object"),
        (json!({"configs": []}).to_string(), "$: expected at least one listener, found none"),
        (half, "expected JSON, found a syntax error: EOF while parsing"),
        (deep, "expected JSON, found a syntax error: recursion limit exceeded"),
        (
            listener_with("name", json!(1)),
            "$.static_resources.listeners[0].name: invalid type: integer `1`, expected a string",
        ),
        (
            listener_with("address", json!({"socket_address": {"port_value": 70_000}})),
            "$.static_resources.listeners[0].address.socket_address.port_value: invalid value: integer `70000`, expected u16",
        ),
        (
            listener_with("listener_filters_timeout", json!("soon")),
            "listeners[0].listener_filters_timeout: expected a duration such as \"0.050s\", found \"soon\"",
        ),
        (
            listener_with("listener_filters", json!([{"filter_disabled": {"a": 1}}])),
            "$.static_resources.listeners[0].listener_filters[0].filter_disabled",
        ),
        ("\u{0}".repeat(1 << 20), "standard input: "),
    ] {
        let start: String = input.chars().take(30).collect();
        let (code, report, problems) = run(&["-"], input);
        assert_eq!((code, report.as_str()), (2, ""), "{start}: {problems}");
        assert!(problems.starts_with("firstword doctor: standard input: "), "{start}: {problems}");
        assert!(problems.contains(problem), "{start}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{start}: {problems}");
    }
    let (code, _, problems) = run(&["-"], vec![b' '; (64 << 20) + 1]);
    assert_eq!((code, problems.as_str()), (2, "firstword doctor: standard input: larger than 64 MiB\n"));
    let (code, _, problems) = run(&["-"], vec![0xff; 100]);
    assert_eq!(code, 2, "{problems}");
    let (code, _, problems) = run(&["there-is-none.json"], "");
    assert_eq!(
        (code, problems.starts_with("firstword doctor: there-is-none.json: cannot read it: No such")),
        (2, true)
    );
    let (code, _, problems) = run(&["-", "--stats", "Cargo.toml"], one);
    assert_eq!(
        (code, problems.starts_with("firstword doctor: Cargo.toml: expected Envoy's /stats")),
        (2, true),
        "{problems}"
    );
}

/// The address of a server that sends this response to every client.
fn responding(response: &'static str) -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    address
}

#[test]
fn invalid_admin_interfaces_are_refused() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let missing = responding("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let elsewhere =
        responding("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let mysql = responding("J\0\0\0\n5.5.5-10.11\0");
    let page = responding("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    let huge = responding("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
    for (address, problem) in [
        (&closed, "cannot be reached"),
        (&missing, "expected Envoy's admin interface, found an answer with status 404"),
        (&elsewhere, "302"),
        (&mysql, "cannot be reached"),
        (&huge, "cannot read it"),
        (&page, "/stats: expected Envoy's /stats"),
        (
            &"https://127.0.0.1:1".to_owned(),
            "expected http://HOST:PORT, as Envoy's admin interface has no https",
        ),
    ] {
        let (code, report, problems) = run(&[address], "");
        assert_eq!((code, report.as_str()), (2, ""), "{problems}");
        assert!(
            problems.starts_with("firstword doctor: ") && problems.contains(problem),
            "{address}: {problems}"
        );
    }
}

#[test]
fn too_many_destinations_are_refused() {
    let listener_on = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let address =
            json!({"socket_address": {"address": format!("10.0.{high}.{low}"), "port_value": 3306}});
        listener(&json!({"name": number.to_string(), "address": address}))
    };
    let input = bootstrap(&(0..=10_000).map(listener_on).collect::<Vec<_>>());
    let (code, report, problems) = run(&["-"], input.to_string());
    assert_eq!((code, report.as_str()), (2, ""));
    let expected = "firstword doctor: standard input: expected at most 10000 destinations, found 10001; choose with --dest\n";
    assert_eq!(problems, expected);
    let (code, report) = json_of(&["-", "--dest", "10.0.39.16:3306"], &input);
    assert_eq!((code, verdicts(&report)[0].as_str()), (0, "10.0.39.16:3306 silent: greeting"));
}

#[test]
fn no_change_of_the_input_causes_a_panic() {
    // Replaces every value of a configuration in turn.
    let mut input = with_filter(&[json!({"configuration": string_value(&json!({"mode": "observe"}))})]);
    let more = listener(&json!({"listener_filters": [{"name": "envoy.filters.listener.tls_inspector",
        "filter_disabled": {"or_match": {"rules": [{"destination_port_range": {"start": 1, "end": 2}}]}}}],
        "default_filter_chain": {"filter_chain_match": {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}));
    input["static_resources"]["listeners"].as_array_mut().unwrap().push(more);
    input["node"] = json!({"id": "sidecar~10.0.0.1~a.b~c", "metadata": {"LABELS": {"app": "x"}, "INSTANCE_IPS": "10.0.0.1"}});
    let mut paths = Vec::new();
    collect(&input, &mut Vec::new(), &mut paths);
    assert!(paths.len() > 60, "{}", paths.len());
    let others = [json!(-1), json!(""), json!([]), json!({"a": []}), json!(1e300)];
    for (index, path) in paths.iter().enumerate() {
        let mut changed = input.clone();
        *changed.pointer_mut(path).unwrap() = others[index % others.len()].clone();
        let (code, _, problems) = run(&["-"], changed.to_string());
        assert!((0..4).contains(&code) && !problems.contains("panicked"), "{path}: {code} {problems}");
    }
}

fn collect(value: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    if !path.is_empty() {
        found.push(format!("/{}", path.join("/")));
    }
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in inner {
        path.push(key);
        collect(value, path, found);
        path.pop();
    }
}

#[test]
fn help_is_printed_and_wrong_usage_is_an_error() {
    let (code, help, _) = run(&["--help"], "");
    assert_eq!(code, 0);
    for part in [
        "INPUT",
        "config_dump",
        "istioctl proxy-config",
        "Exit status:",
        "--dest <HOST:PORT>",
        "docs/commands.md",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    // A fix is for review first, because it can also be a patch or have placeholders.
    assert!(!help.contains("kubectl apply"), "{help}");
    for wrong in [
        &[][..],
        &["-", "--dest", "10.0.0.1"],
        &["-", "--dest", "mysql"],
        &["-", "--fix", "0"],
        &["-", "--side", "inbound"],
        &["-", "-o", "xml"],
    ] {
        assert_eq!(run(wrong, "").0, 2, "{wrong:?}");
    }
    let (_, text, _) = run(&["-"], bootstrap(&[listener(&json!({}))]).to_string());
    assert!(!text.contains('\u{1b}'), "colours without a terminal: {text}");
}
