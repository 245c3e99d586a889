//! Single patches of EnvoyFilters have the same effect as in istiod. `istiod.rs` compares whole cases.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use crate::cases::CASES;
use crate::pilot::mesh::Mesh;
use crate::pilot::resource::{Resource, parse};
use crate::pilot::{Xds, xds};

/// The configuration of the pod in the article's mesh, with these resources applied.
fn applied(resources: &[Resource]) -> Xds {
    applied_after(|_| {}, resources)
}

fn applied_after(change: fn(&mut Mesh), resources: &[Resource]) -> Xds {
    let article = CASES.iter().find(|case| case.name == "A1").expect("the case");
    let proxy = article.proxy([10, 1, 0, 2].into());
    let mut mesh = article.mesh(&proxy, "/etc/certs");
    change(&mut mesh);
    xds(&mesh, &proxy, resources)
}

/// An EnvoyFilter with this name and spec.
fn filter(name: &str, spec: &str) -> Resource {
    let yaml = format!("{{kind: EnvoyFilter, metadata: {{name: {name}, namespace: default}}, spec: {spec}}}");
    parse(&yaml).remove(0)
}

/// An EnvoyFilter with one patch for a network filter called `name`.
fn insert(name: &str, priority: i32, operation: &str, listener: &str) -> Resource {
    filter(
        name,
        &format!(
            "{{priority: {priority}, configPatches: [{{applyTo: NETWORK_FILTER,
               match: {{context: SIDECAR_OUTBOUND, listener: {listener}}},
               patch: {{operation: {operation}, value: {{name: {name}}}}}}}]}}"
        ),
    )
}

const TCP_PROXY: &str = "{name: envoy.filters.network.tcp_proxy}";

/// Names of the filters in each chain of a listener, in order.
fn filters(xds: &Xds, listener: &str) -> Vec<String> {
    let listener = xds.listeners.iter().find(|one| one["name"] == listener).expect("the listener");
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let all = chains.chain(listener.get("default_filter_chain"));
    let names = |chain: &Value| {
        let filters = chain["filters"].as_array().expect("filters").iter();
        let short =
            |filter: &Value| filter["name"].as_str().expect("a name").rsplit('.').next().map(str::to_owned);
        filters.filter_map(short).collect::<Vec<_>>().join(" ")
    };
    all.map(names).collect()
}

fn assert_misses(resource: Resource) {
    let missed =
        catch_unwind(AssertUnwindSafe(|| applied(&[resource]))).expect_err("a patch that changes nothing");
    let text = missed.downcast_ref::<String>().expect("a message");
    assert!(text.contains("patches that change nothing: [\"default/x configPatches[0]\"]"), "{text}");
}

#[test]
fn a_patch_that_changes_nothing_is_reported() {
    assert_misses(insert("x", 0, "INSERT_BEFORE", "{name: 0.0.0.0_10001}"));
    assert_misses(insert("x", 0, "INSERT_BEFORE", "{portNumber: 10001}"));
    assert_misses(insert("x", 0, "INSERT_BEFORE", "{filterChain: {filter: {name: redis_proxy}}}"));
    assert_misses(insert(
        "x",
        0,
        "INSERT_BEFORE",
        "{name: 0.0.0.0_10000, filterChain: {transportProtocol: tls}}",
    ));
    // istiod replaces and removes nothing if the patch names no filter.
    assert_misses(insert("x", 0, "REPLACE", "{name: 0.0.0.0_10000}"));
    assert_misses(insert("x", 0, "REMOVE", "{name: 0.0.0.0_10000}"));
}

#[test]
fn filters_are_inserted_by_priority_and_then_by_name() {
    let listener = &format!("{{name: 10.96.0.20_3306, filterChain: {{filter: {TCP_PROXY}}}}}");
    let xds = applied(&[
        insert("b", 5, "INSERT_BEFORE", listener),
        insert("a", 5, "INSERT_BEFORE", listener),
        insert("z", -1, "INSERT_BEFORE", listener),
        insert("y", 9, "INSERT_AFTER", listener),
        insert("x", 9, "INSERT_FIRST", listener),
    ]);
    assert_eq!(filters(&xds, "10.96.0.20_3306"), ["x z a b tcp_proxy y"]);
    assert_eq!(filters(&xds, "virtualOutbound"), ["tcp_proxy", "tcp_proxy"]);
}

#[test]
fn a_port_number_selects_a_listener_or_a_chain_of_a_virtual_listener() {
    let xds = applied(&[insert("a", 0, "INSERT_FIRST", "{portNumber: 10000}")]);
    assert_eq!(filters(&xds, "0.0.0.0_10000"), ["a http_connection_manager", "a tcp_proxy"]);
    assert_eq!(filters(&xds, "10.96.0.20_3306"), ["tcp_proxy"]);
    let xds = applied(&[insert("a", 0, "INSERT_FIRST", "{portNumber: 15001}")]);
    // The black hole's chain is for port 15001.
    assert_eq!(filters(&xds, "virtualOutbound"), ["a tcp_proxy", "tcp_proxy"]);
}

#[test]
fn an_added_chain_or_listener_is_not_patched() {
    let add = filter(
        "add",
        "{priority: -1, configPatches: [
          {applyTo: FILTER_CHAIN, match: {context: SIDECAR_OUTBOUND, listener: {name: 10.96.0.20_3306}},
           patch: {operation: ADD, value: {filters: [{name: added}]}}},
          {applyTo: LISTENER, match: {context: SIDECAR_OUTBOUND},
           patch: {operation: ADD, value: {name: new, filter_chains: [{filters: [{name: added}]}]}}}]}",
    );
    let xds = applied(&[add, insert("a", 0, "INSERT_FIRST", "{}")]);
    assert_eq!(filters(&xds, "10.96.0.20_3306"), ["a tcp_proxy", "added"]);
    assert_eq!(filters(&xds, "new"), ["added"]);
    assert_eq!(filters(&xds, "virtualOutbound"), ["a tcp_proxy", "a tcp_proxy"]);
    assert_eq!(xds.listeners.iter().filter(|listener| listener["name"] == "new").count(), 1);
}

#[test]
fn a_patch_applies_to_its_version_and_its_pods_only() {
    let patch = |selector: &str, version: &str| {
        filter(
            "x",
            &format!(
                "{{workloadSelector: {{labels: {{app: {selector}}}}}, configPatches: [{{applyTo: LISTENER,
                   match: {{context: SIDECAR_OUTBOUND, proxy: {{proxyVersion: '{version}'}},
                            listener: {{name: 0.0.0.0_10000}}}},
                   patch: {{operation: REMOVE}}}}]}}"
            ),
        )
    };
    let listeners = |resource: Resource| applied(&[resource]).listeners.len();
    assert_eq!(listeners(patch("app", r"^1\.(2[4-9]|[3-9][0-9])\..*")), 3);
    assert_eq!(listeners(patch("app", r"^1\.31\..*")), 4);
    assert_eq!(listeners(patch("other", ".*")), 4);
}

#[test]
fn a_merge_replaces_values_and_extends_lists() {
    let merge = filter(
        "x",
        "{configPatches: [{applyTo: LISTENER, match: {context: SIDECAR_OUTBOUND, listener: {name: 0.0.0.0_10000}},
           patch: {operation: MERGE, value: {
             listener_filters_timeout: 0.05s, listener_filters: [{name: another}], freebind: true}}}]}",
    );
    let xds = applied(&[merge]);
    let listener = xds.listeners.iter().find(|one| one["name"] == "0.0.0.0_10000").expect("the listener");
    assert_eq!(listener["listener_filters_timeout"], "0.05s");
    assert_eq!(listener["freebind"], true);
    let names: Vec<_> =
        listener["listener_filters"].as_array().expect("a list").iter().map(|f| &f["name"]).collect();
    assert_eq!(names, [&json!("envoy.filters.listener.http_inspector"), &json!("another")]);
}

#[test]
fn a_plugin_has_the_name_of_its_istio_version() {
    let plugin = crate::manifests::resources("base/wasmplugin.yaml");
    let name = |version| {
        let change: fn(&mut Mesh) = match version {
            20 => |mesh| mesh.version = "1.20.8",
            25 => |mesh| mesh.version = "1.25.0",
            29 => |mesh| mesh.version = "1.29.2",
            _ => |mesh| mesh.version = "1.30.0",
        };
        applied_after(change, &plugin).extensions[0]["name"].as_str().expect("a name").to_owned()
    };
    assert_eq!(name(20), "default.firstword");
    assert_eq!(name(25), "extenstions.istio.io/wasmplugin/default.firstword");
    assert_eq!(name(29), "extensions.istio.io/wasmplugin/default.firstword");
    assert_eq!(
        name(30),
        "extensions.istio.io/trafficextension/default.firstword~istio-translated-wasmplugin"
    );
}
