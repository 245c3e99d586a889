//! Settings of a proxy that break databases: drains, TLS, native modules, shared listeners.

use serde_json::{Value, json};

use crate::support::{codes, finding, outbound, report, sidecar, tcp_proxy};

const DEST: [&str; 2] = ["--dest", "10.9.9.9:3306"];

/// A sidecar with a chain for the database and its cluster.
fn database(chain: Value, cluster: &Value) -> Value {
    let mut known = json!({"name": "db", "type": "EDS"});
    for (key, value) in cluster.as_object().unwrap() {
        known[key] = value.clone();
    }
    sidecar(&[outbound("10.9.9.9", 3306, &json!([chain]), &json!({}))], &[known])
}

#[test]
fn a_drain_that_cuts_responses_is_an_error() {
    let with = |value: Value| {
        let mut proxy = tcp_proxy("db");
        proxy["typed_config"]["check_drain_close"] = value;
        codes(&report(&DEST, &database(json!({"filters": [proxy]}), &json!({}))))
    };
    assert_eq!(with(json!(true)), ["error drain-cuts-responses"]);
    assert_eq!(with(json!(false)), [""; 0]);
    // On a port that nothing suggests for a database, it is the user's own matter.
    let mut proxy = tcp_proxy("web");
    proxy["typed_config"]["check_drain_close"] = json!(true);
    let other = sidecar(
        &[outbound("10.9.9.9", 8080, &json!([{"filters": [proxy]}]), &json!({}))],
        &[json!({"name": "web", "type": "EDS"})],
    );
    assert_eq!(codes(&report(&[], &other)), [""; 0]);
}

const STARTTLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.starttls.v3.StartTlsConfig";

#[test]
fn starttls_without_a_split_is_an_error() {
    let socket = json!({"name": "envoy.transport_sockets.starttls", "typed_config": {"@type": STARTTLS}});
    let chain = json!({"filters": [tcp_proxy("db")], "transport_socket": socket});
    assert_eq!(codes(&report(&DEST, &database(chain.clone(), &json!({})))), ["error starttls-without-split"]);
    // A first listener that separates the request for TLS.
    let module = |settings: &str| {
        json!({"name": "module", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter",
            "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": settings}}})
    };
    for (settings, expected) in [("split", vec![]), ("observe", vec!["error starttls-without-split"])] {
        let first = json!({"filters": [module(settings), tcp_proxy("inside")]});
        let endpoint =
            json!({"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "second"}}}});
        let inside = json!({"name": "inside", "type": "STATIC", "load_assignment": {
            "cluster_name": "inside", "endpoints": [{"lb_endpoints": [endpoint]}]}});
        let second = json!({"name": "second", "internal_listener": {}, "filter_chains": [chain]});
        let input = sidecar(
            &[outbound("10.9.9.9", 3306, &json!([first]), &json!({})), second],
            &[inside, json!({"name": "db", "type": "EDS"})],
        );
        assert_eq!(codes(&report(&DEST, &input)), expected, "{settings}");
    }
}

/// The greeting reaches the client before its TLS, because a filter of the first listener brings it.
#[test]
fn tls_that_a_second_listener_ends_does_not_hang() {
    const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let module = |settings: &str| {
        json!({"name": "module", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter",
            "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": settings}}})
    };
    let socket = json!({"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS}});
    for (first, second, expected) in [
        ("terminate", "terminate", vec![]),
        ("observe", "terminate", vec!["error tls-first"]),
        ("terminate", "observe", vec!["error tls-first"]),
    ] {
        let first = json!({"filters": [module(first), tcp_proxy("inside")]});
        let endpoint =
            json!({"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "second"}}}});
        let inside = json!({"name": "inside", "type": "STATIC", "load_assignment": {
            "cluster_name": "inside", "endpoints": [{"lb_endpoints": [endpoint]}]}});
        let chain = json!({"filters": [module(second), tcp_proxy("db")], "transport_socket": socket});
        let second = json!({"name": "second", "internal_listener": {}, "filter_chains": [chain]});
        let input = sidecar(
            &[outbound("10.9.9.9", 3306, &json!([first]), &json!({})), second],
            &[inside, json!({"name": "db", "type": "EDS"})],
        );
        assert_eq!(codes(&report(&DEST, &input)), expected);
    }
}

#[test]
fn tls_in_mysql_proxy_is_an_error() {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy";
    let with = |mode: Option<&str>| {
        let mut filter = json!({"name": "mysql", "typed_config": {"@type": kind, "stat_prefix": "x"}});
        if let Some(mode) = mode {
            filter["typed_config"]["downstream_ssl"] = json!(mode);
        }
        let socket = json!({"name": "envoy.transport_sockets.starttls", "typed_config": {"@type": STARTTLS}});
        let chain = match mode {
            Some(_) => json!({"filters": [filter, tcp_proxy("db")], "transport_socket": socket}),
            None => json!({"filters": [filter, tcp_proxy("db")]}),
        };
        codes(&report(&DEST, &database(chain, &json!({}))))
    };
    assert_eq!(with(Some("REQUIRE")), ["error mysql-proxy-downstream-ssl"]);
    assert_eq!(with(Some("ALLOW")), ["error mysql-proxy-downstream-ssl"]);
    // Without it only the transport socket is wrong.
    assert_eq!(with(Some("DISABLE")), ["error starttls-without-split"]);
    assert_eq!(with(None), [""; 0]);
}

#[test]
fn tls_to_the_server_without_verification_is_a_warning() {
    let context = |common: Value| {
        json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": common}})
    };
    let verified = [
        json!({"validation_context": {"trusted_ca": {"filename": "ca.pem"}}}),
        json!({"combined_validation_context": {}}),
        json!({"validation_context_sds_secret_config": {"name": "ROOTCA"}}),
    ];
    let start = |inner: Value| {
        json!({"name": "starttls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.starttls.v3.UpstreamStartTlsConfig",
            "tls_socket_config": inner["typed_config"]}})
    };
    let chain = json!({"filters": [tcp_proxy("db")]});
    let with =
        |socket: Value| codes(&report(&DEST, &database(chain.clone(), &json!({"transport_socket": socket}))));
    assert_eq!(with(context(json!({}))), ["warning tls-not-validated"]);
    assert_eq!(with(start(context(json!({})))), ["warning tls-not-validated"]);
    for common in verified {
        assert_eq!(with(context(common.clone())), [""; 0], "{common}");
        assert_eq!(with(start(context(common.clone()))), [""; 0], "{common}");
    }
    let matches =
        json!({"transport_socket_matches": [{"name": "tls", "transport_socket": context(json!({}))}]});
    assert_eq!(codes(&report(&DEST, &database(chain, &matches))), ["warning tls-not-validated"]);
}

#[test]
fn a_native_module_in_an_old_istio_is_an_error() {
    let module = json!({"name": "module", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter"}});
    let with = |version: &str| {
        let mut input = database(json!({"filters": [module, tcp_proxy("db")]}), &json!({}));
        input["configs"][0]["bootstrap"]["node"]["metadata"]["ISTIO_VERSION"] = json!(version);
        // The bootstrap of this dump has no extension at all.
        let mut found = codes(&report(&DEST, &input));
        found.retain(|code| code != "warning native-without-extension");
        found
    };
    for old in ["1.30.4", "1.28.0-alpha.1", "1.9.0"] {
        assert_eq!(with(old), ["error native-module-unsupported"], "{old}");
    }
    for new in ["1.31.0", "1.32-dev", "2.0.0", "unknown"] {
        assert_eq!(with(new), [""; 0], "{new}");
    }
    // An old proxy refuses the listener, so that the filter is in none.
    let mut input = database(json!({"filters": [tcp_proxy("db")]}), &json!({}));
    input["configs"][0]["bootstrap"]["node"]["metadata"]["ISTIO_VERSION"] = json!("1.30.0");
    let why = "could not find registered implementation for 'envoy.filters.network.dynamic_modules'";
    input["configs"][2]["dynamic_listeners"] = json!([{"name": "x", "error_state": {"details": why}}]);
    assert_eq!(codes(&report(&DEST, &input)), ["error listener-refused", "error native-module-unsupported"]);
}

#[test]
fn two_hosts_that_share_a_listener_are_named() {
    let cluster = |host: &str| json!({"name": format!("outbound|3306||{host}"), "type": "STRICT_DNS"});
    let chain = |host: &str| json!([{"filters": [tcp_proxy(&format!("outbound|3306||{host}"))]}]);
    let shared = outbound("0.0.0.0", 3306, &chain("a.example"), &json!({}));
    let both = [cluster("a.example"), cluster("b.example")];
    let found = report(&["--dest", "192.0.2.7:3306"], &sidecar(std::slice::from_ref(&shared), &both));
    let finding = finding(&found, "shared-listener");
    assert_eq!(finding["title"], "connections to b.example go to a.example");
    let first = &finding["fixes"][0];
    assert!(first["yaml"].as_str().unwrap().contains("ISTIO_META_DNS_CAPTURE: \"true\""), "{first}");
    assert!(!first["yaml"].as_str().unwrap().contains("ServiceEntry"), "{first}");
    // One of them alone, or each with an address of its own, is right.
    let one = report(&["--dest", "192.0.2.7:3306"], &sidecar(std::slice::from_ref(&shared), &both[..1]));
    assert!(!codes(&one).join(" ").contains("shared-listener"), "{one:#}");
    let own = [shared, outbound("240.240.0.2", 3306, &chain("b.example"), &json!({}))];
    let own = report(&["--dest", "240.240.0.2:3306"], &sidecar(&own, &both));
    assert!(!codes(&own).join(" ").contains("shared-listener"), "{own:#}");
}
