//! Configuration dumps of real proxies: of sidecars for the tests of the stand-in (`tests/istio/real_dumps.rs`), of waypoints for
//! those of doctor (`crates/cli/tests/findings/waypoint.rs`).

use serde_json::{Map, Value, json};

use crate::lab::pod::Pod;
use crate::mesh::ADMIN;
use firstword_testing::root;

/// Rows whose dump is kept. The stand-in has a case of the same name, and clients that connect to the same address.
const KEPT: [&str; 10] = ["A1", "A2", "F5", "F5 plugin", "F1", "S1", "F3", "F4", "F2m", "D0"];
/// Fields of the node by which `firstword doctor` describes the pod.
const METADATA: [&str; 5] = ["NAMESPACE", "WORKLOAD_NAME", "LABELS", "ISTIO_VERSION", "ANNOTATIONS"];

/// Writes the dump of the row's proxy, if the row's dump is kept and `FIRSTWORD_BLESS` is set.
pub fn keep(row: &str, pod: &Pod) {
    if KEPT.contains(&row) {
        write(&format!("tests/cluster/dumps/{}.json", row.replace(' ', "-")), pod);
    }
}

/// Writes the dump of a waypoint, if `FIRSTWORD_BLESS` is set. `serves`: for what the waypoint is.
pub fn keep_waypoint(serves: &str, pod: &Pod) {
    write(&format!("crates/cli/tests/findings/waypoints/{serves}.json"), pod);
}

fn write(path: &str, pod: &Pod) {
    if std::env::var_os("FIRSTWORD_BLESS").is_none() {
        return;
    }
    let dump: Value = serde_json::from_str(&pod.get(ADMIN, "/config_dump")).expect("JSON");
    let path = root().join(path);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let text = serde_json::to_string(&reduced(&dump)).expect("JSON");
    std::fs::write(&path, text + "\n").unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The parts of a dump that decide about the database's connections.
fn reduced(dump: &Value) -> Value {
    let configs = dump["configs"].as_array().expect("configurations");
    let mut kept = Vec::new();
    for config in configs {
        let kind = config["@type"].as_str().expect("a type");
        let mut config = config.clone();
        match kind.rsplit('.').next().expect("a name") {
            "BootstrapConfigDump" => {
                let bootstrap = &config["bootstrap"];
                let metadata: Map<_, _> = METADATA
                    .iter()
                    .filter_map(|key| {
                        Some(((*key).to_owned(), bootstrap["node"]["metadata"].get(key)?.clone()))
                    })
                    .collect();
                let node = json!({"id": bootstrap["node"]["id"], "metadata": metadata});
                config = json!({"@type": kind, "bootstrap": {"node": node, "stats_config": bootstrap["stats_config"]}});
            }
            "ListenersConfigDump" => {
                config["static_listeners"] = json!([]);
                let is_relevant = |one: &Value| {
                    let name = one["name"].as_str().unwrap_or_default();
                    name.starts_with("virtual")
                        || name.ends_with("_10000")
                        || ["connect_terminate", "main_internal"].contains(&name)
                };
                retain(&mut config["dynamic_listeners"], is_relevant);
            }
            "ClustersConfigDump" => {
                config["static_clusters"] = json!([]);
                let is_relevant = |one: &Value| {
                    let name = one["cluster"]["name"].as_str().unwrap_or_default();
                    name.ends_with("Cluster")
                        || name.contains("|10000|")
                        || name.starts_with("inbound-vip|")
                        || name == "encap"
                };
                retain(&mut config["dynamic_active_clusters"], is_relevant);
            }
            "EcdsConfigDump" => {}
            _ => continue,
        }
        kept.push(config);
    }
    json!({"configs": kept})
}

fn retain(list: &mut Value, is_relevant: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(is_relevant);
    }
}
