//! `WasmPlugin`s of type NETWORK: their position in a chain, and their configuration.

use serde_json::{Value, json};

use super::mesh::{Mesh, Proxy};
use super::resource::{Resource, of_kind};

/// Direction of the connections of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Connections from the workload, and those of a gateway.
    Client,
    /// Connections to the workload.
    Server,
}

/// A plugin for this proxy.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The filter in a chain: a reference by name.
    filter: Value,
    /// The configuration for that name.
    pub extension: Value,
    /// `match`: a direction or `None` for both, and ports or an empty list for all.
    matches: Vec<(Option<Direction>, Vec<u16>)>,
    order: (usize, i64, String),
}

const PHASES: [&str; 4] = ["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE"];

pub fn plugins(mesh: &Mesh, proxy: &Proxy, resources: &[Resource]) -> Vec<Plugin> {
    let ours = |plugin: &&Resource| {
        plugin.selects(&proxy.namespace, &proxy.labels, "/selector/matchLabels")
            && plugin.spec()["type"] == "NETWORK"
    };
    let mut plugins: Vec<_> =
        of_kind(resources, "WasmPlugin").filter(ours).map(|plugin| read(mesh, plugin)).collect();
    plugins.sort_by(|a, b| a.order.cmp(&b.order));
    plugins
}

fn read(mesh: &Mesh, plugin: &Resource) -> Plugin {
    let spec = plugin.spec();
    let text = |key: &str| spec[key].as_str().unwrap_or_default();
    let own_name = format!("{}.{}", plugin.namespace, plugin.name);
    let minor: u32 =
        mesh.version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("1.MINOR.PATCH");
    let name = match minor {
        ..21 => own_name.clone(),
        21..26 => format!("extenstions.istio.io/wasmplugin/{own_name}"),
        26..30 => format!("extensions.istio.io/wasmplugin/{own_name}"),
        _ => format!("extensions.istio.io/trafficextension/{own_name}~istio-translated-wasmplugin"),
    };
    let policy = if text("failStrategy") == "FAIL_OPEN" { "FAIL_OPEN" } else { "FAIL_CLOSED" };
    let code = match text("url").strip_prefix("file://") {
        Some(file) => json!({"local": {"filename": file}}),
        None => json!({"remote": {"http_uri": {"uri": text("url"), "timeout": "30s", "cluster": "_"}}}),
    };
    let configuration = spec.get("pluginConfig").map(|config| {
        json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config.to_string()})
    });
    let mut config = json!({
        "name": own_name,
        "root_id": text("pluginName"),
        "failure_policy": policy,
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": code},
    });
    if let Some(configuration) = configuration {
        config["configuration"] = configuration;
    }
    const WASM: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
    const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
    let port = |port: &Value| u16::try_from(port["number"].as_u64().expect("a port")).expect("a port");
    let matches = spec["match"].as_array().into_iter().flatten().map(|one| {
        let direction = match one["mode"].as_str() {
            Some("CLIENT") => Some(Direction::Client),
            Some("SERVER") => Some(Direction::Server),
            _ => None,
        };
        (direction, one["ports"].as_array().into_iter().flatten().map(port).collect())
    });
    let phase = spec["phase"].as_str().unwrap_or("UNSPECIFIED_PHASE");
    let phase = PHASES.iter().position(|known| *known == phase).expect("a phase");
    let priority = spec["priority"].as_i64().unwrap_or(i64::MIN);
    Plugin {
        filter: json!({"name": name, "config_discovery": {
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s"},
            "type_urls": [WASM, RBAC],
        }}),
        extension: json!({"name": name, "typed_config": {"@type": WASM, "config": config}}),
        matches: matches.collect(),
        order: (phase, priority.saturating_neg(), own_name),
    }
}

/// Filters of a chain for this port: the plugins that match, before the chain's own filter.
pub fn before(plugins: &[Plugin], direction: Direction, port: u16, filter: Value) -> Vec<Value> {
    let matches = |(wanted, ports): &(Option<Direction>, Vec<u16>)| {
        wanted.is_none_or(|wanted| wanted == direction) && (ports.is_empty() || ports.contains(&port))
    };
    let here =
        plugins.iter().filter(|plugin| plugin.matches.is_empty() || plugin.matches.iter().any(matches));
    here.map(|plugin| plugin.filter.clone()).chain([filter]).collect()
}
