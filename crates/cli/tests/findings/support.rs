//! Runs `firstword`, and small configurations for it.

use assert_cmd::Command;
use serde_json::{Value, json};

pub const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
pub const HTTP_INSPECTOR: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";

/// What the command prints, and its exit status.
pub struct Output {
    pub status: i32,
    pub text: String,
    pub problems: String,
}

/// The command without the user's own settings.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("firstword").unwrap();
    command.args(arguments).env_remove("KUBECONFIG").env_remove("NO_COLOR");
    command
}

pub fn run(arguments: &[&str], input: &str) -> Output {
    output(command(arguments).write_stdin(input))
}

pub fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status.code().unwrap(), text: text(output.stdout), problems: text(output.stderr) }
}

/// The JSON report of `firstword doctor`.
pub fn report(arguments: &[&str], input: &Value) -> Value {
    let arguments = [&["doctor", "-", "-o", "json"], arguments].concat();
    let output = run(&arguments, &input.to_string());
    assert_eq!(output.problems, "");
    serde_json::from_str(&output.text).unwrap()
}

/// Severity and code of each finding.
pub fn codes(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|one| format!("{} {}", text(&one["severity"]), text(&one["code"]))).collect()
}

/// The finding with this code.
pub fn finding<'r>(report: &'r Value, code: &str) -> &'r Value {
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.find(|one| one["code"] == code).unwrap_or_else(|| panic!("no {code}: {report:#}"))
}

pub fn tcp_proxy(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": TCP_PROXY, "cluster": cluster}})
}

/// A listener of a sidecar for one address and port.
pub fn outbound(address: &str, port: u16, chains: &Value, more: &Value) -> Value {
    let mut listener = json!({
        "name": format!("{address}_{port}"), "bind_to_port": false, "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": address, "port_value": port}}, "filter_chains": chains,
        "listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": true,
    });
    for (key, value) in more.as_object().unwrap() {
        listener[key] = value.clone();
    }
    listener
}

/// What Istio adds to a listener of all addresses if an HTTP Service has its port.
pub fn inspected() -> Value {
    json!({
        "listener_filters": [{"name": "envoy.filters.listener.http_inspector", "typed_config": {"@type": HTTP_INSPECTOR}}],
        "default_filter_chain": {"name": "PassthroughFilterChain", "filters": [tcp_proxy("PassthroughCluster")]},
    })
}

/// A sidecar's configuration dump.
pub fn sidecar(listeners: &[Value], clusters: &[Value]) -> Value {
    let mut all = vec![json!({
        "name": "virtualOutbound", "use_original_dst": true, "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}},
        "filter_chains": [{"filters": [tcp_proxy("PassthroughCluster")]}],
    })];
    all.extend(listeners.iter().cloned());
    let mut known = vec![json!({"name": "PassthroughCluster", "type": "ORIGINAL_DST"})];
    known.extend(clusters.iter().cloned());
    let limit = json!({"thresholds": [{"max_connections": 5000}]});
    known.iter_mut().for_each(|cluster| cluster["circuit_breakers"] = limit.clone());
    dump(
        &json!({"id": "sidecar~10.1.0.2~app-0.shop~shop.svc.cluster.local", "metadata": {
        "NAMESPACE": "shop", "WORKLOAD_NAME": "app", "LABELS": {"app": "app"}, "ISTIO_VERSION": "1.31.0"}}),
        &all,
        &known,
    )
}

pub fn dump(node: &Value, listeners: &[Value], clusters: &[Value]) -> Value {
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    let wrapped = |key: &str, values: &[Value]| -> Vec<Value> {
        values.iter().map(|value| json!({key: value})).collect()
    };
    json!({"configs": [
        {"@type": kind("BootstrapConfigDump"), "bootstrap": {"node": node}},
        {"@type": kind("ClustersConfigDump"), "dynamic_active_clusters": wrapped("cluster", clusters)},
        {"@type": kind("ListenersConfigDump"), "static_listeners": wrapped("listener", listeners)},
    ]})
}
