//! Listeners, their filter chains and their clusters.

use serde_json::{Value, json};

use crate::inputs::{TCP_PROXY, bootstrap, inspector, listener};
use crate::{codes, json_of, run, verdicts};

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

/// The admin interface shows the port that the kernel chose (tests/envoy/random_listeners.rs). A file does not.
#[test]
fn a_listener_with_port_0_is_reported_as_skipped() {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let chosen = listener(&json!({"address": address, "listener_filters": [inspector("tls_inspector")]}));
    let (code, text, _) = run(&["-"], bootstrap(std::slice::from_ref(&chosen)).to_string());
    assert_eq!(code, 3);
    let expected = "warning[unknown-port-skipped]: a listener with port 0 is not examined\n  where   listener mysql\n  cause   \
                    The listener has port 0, so its address is not known.";
    assert!(text.trim_start().starts_with(expected), "{text}");
    assert!(!text.contains("Nothing"), "{text}");
    // With --dest the only such listener can be meant; of two it is not known which one.
    let dest = ["-", "--dest", "127.0.0.1:5000"];
    let (_, report) = json_of(&dest, &bootstrap(std::slice::from_ref(&chosen)));
    assert_eq!(verdicts(&report), ["127.0.0.1:5000 silent: closed"]);
    let (_, report) = json_of(&dest, &bootstrap(&[chosen.clone(), listener(&json!({"address": address}))]));
    assert_eq!(verdicts(&report), ["127.0.0.1:5000 silent: unknown"]);
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
