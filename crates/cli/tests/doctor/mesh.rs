//! `--mesh`: a folder of dumps.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::inputs::{bootstrap, listener};
use crate::run;

const INSPECTOR: &str = "envoy.filters.listener.http_inspector";
const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn tcp(cluster: &str) -> Value {
    json!([{"filters": [{"name": "tcp", "typed_config": {"@type": TCP, "cluster": cluster}}]}])
}

fn outbound(ip: &str, port: u16, cluster: &str) -> Value {
    json!({"name": format!("{ip}_{port}"), "bind_to_port": false, "traffic_direction": "OUTBOUND", "filter_chains": tcp(cluster),
        "address": {"socket_address": {"address": ip, "port_value": port}}})
}

/// The dump of a sidecar with these listeners.
fn sidecar(pod: &str, listeners: &[Value]) -> String {
    let virtual_outbound = json!({"name": "virtualOutbound", "use_original_dst": true, "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}}, "filter_chains": tcp("PassthroughCluster")});
    let mut all = vec![virtual_outbound];
    all.extend_from_slice(listeners);
    let mut dump = bootstrap(&all);
    dump["node"] = json!({"id": format!("sidecar~10.1.0.2~{pod}.shop~shop.svc.cluster.local")});
    dump["static_resources"]["clusters"] = json!([{"name": "PassthroughCluster", "type": "ORIGINAL_DST"},
        {"name": "outbound|3306||mysql.db.svc.cluster.local", "type": "EDS"}, {"name": "outbound|3306||free", "type": "ORIGINAL_DST"}]);
    dump.to_string()
}

fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn mesh(folder: &Path, more: &[&str]) -> (i32, String, String) {
    run(&[&["--mesh", folder.to_str().unwrap()], more].concat(), "")
}

/// A Service with an address of its own, and a ServiceEntry without one.
fn two() -> [Value; 2] {
    [
        outbound("10.96.0.20", 3306, "outbound|3306||mysql.db.svc.cluster.local"),
        outbound("0.0.0.0", 3306, "outbound|3306||free"),
    ]
}

#[test]
fn each_destination_has_one_row_in_the_order_of_addresses() {
    let pods = |listeners: &[Value]| -> Vec<(String, String)> {
        (0..7)
            .map(|number| (format!("{number}.json"), sidecar(&format!("app-{number}"), listeners)))
            .collect()
    };
    let pods = pods(&two());
    let files: Vec<_> = pods.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let folder = folder(&files);
    let (status, text, problems) = mesh(folder.path(), &[]);
    assert_eq!((status, problems.as_str()), (3, ""), "{text}");
    let rows: Vec<_> = text.lines().take(3).collect();
    assert_eq!(
        rows,
        [
            "*:3306           would hang with an HTTP Service on the port, in 7 of 7 pods: app-0.shop, app-1.shop, app-2.shop, \
             app-3.shop, app-4.shop, ...",
            "10.96.0.20:3306  safe in 7 pods",
            "",
        ],
        "{text}"
    );
    assert!(text.contains("7 sidecars and 0 waypoints were examined."), "{text}");
    assert!(text.contains("Keep HTTP Services off port 3306, or"), "{text}");
    let (_, report, _) = mesh(folder.path(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["ports"], json!([3306]));
    assert_eq!(
        report["destinations"][0]["pods"],
        json!({"waits": 0, "would_wait": 7, "unknown": 0, "safe": 0})
    );
    assert_eq!(report["destinations"][0]["cluster"], "outbound|3306||free");
    assert_eq!(report["destinations"][1]["verdict"], "safe");
    assert_eq!(mesh(folder.path(), &[]), mesh(folder.path(), &[]));
}

#[test]
fn the_exit_status_is_that_of_the_worst_row() {
    let [own, _] = two();
    let mut http = outbound("0.0.0.0", 3306, "outbound|3306||free");
    http["listener_filters"] = json!([{"name": INSPECTOR}]);
    http["listener_filters_timeout"] = json!("0s");
    let status = |listeners: &[Value], more: &[&str]| {
        let folder = folder(&[("a.json", sidecar("app-0", listeners))]);
        mesh(folder.path(), more).0
    };
    assert_eq!(status(std::slice::from_ref(&own), &[]), 0);
    assert_eq!(status(&[http.clone(), own.clone()], &[]), 1);
    assert_eq!(status(&[http, own.clone()], &["--dest", "10.96.0.20:3306"]), 0);
    assert_eq!(status(std::slice::from_ref(&own), &["--dest", "55.108.108.2:3306"]), 3);
    // The pod's own address.
    assert_eq!(status(&[own], &["--dest", "10.1.0.2:3306"]), 0);
}

#[test]
fn a_file_that_is_no_dump_is_named_and_the_others_are_examined() {
    let folder = folder(&[
        ("a.json", sidecar("app-0", &two())),
        ("b.json", "{\"configs\": [".to_owned()),
        ("c.txt", "hello".to_owned()),
        ("d.json", bootstrap(&[listener(&json!({}))]).to_string()),
        (".hidden", "hello".to_owned()),
    ]);
    fs::create_dir(folder.path().join("e")).unwrap();
    let (status, text, problems) = mesh(folder.path(), &[]);
    assert_eq!(status, 2, "{problems}");
    assert!(text.starts_with("*:3306           would hang"), "{text}");
    assert!(text.contains("1 sidecars and 0 waypoints were examined. 1 other proxies were not"), "{text}");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let lines: Vec<_> = problems.lines().collect();
    assert_eq!(lines.len(), 3, "{problems}");
    assert!(
        lines[0].starts_with(&format!(
            "firstword doctor: {}: expected JSON, found a syntax error",
            path("b.json")
        ))
    );
    assert!(
        lines[1].starts_with(&format!("firstword doctor: {}: $: expected a /config_dump", path("c.txt")))
    );
    assert!(lines[2].starts_with(&format!("firstword doctor: {}: it is a folder", path("e"))));
    let (_, report, _) = mesh(folder.path(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 3);
}

#[test]
fn an_unusable_folder_is_an_error() {
    let folder = folder(&[]);
    let (status, text, problems) = mesh(folder.path(), &[]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(problems.contains("expected dumps in the folder, found no file"), "{problems}");
    let (status, _, problems) = mesh(&folder.path().join("missing"), &[]);
    assert_eq!(status, 2);
    assert!(problems.contains("expected a folder of dumps"), "{problems}");
    for wrong in
        [&["--mesh", "x", "-"][..], &["--mesh", "x", "--fix", "1"], &["--mesh", "x", "--diff", "a", "b"]]
    {
        assert_eq!(run(wrong, "").0, 2, "{wrong:?}");
    }
}
