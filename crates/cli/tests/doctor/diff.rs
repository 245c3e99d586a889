//! `--diff`: two configurations. `tests/envoy/drains.rs` compares the rule with Envoy.

use std::fs;

use serde_json::{Value, json};

use crate::inputs::{inspector, listener};
use crate::{admin, run};

/// The arguments for two inputs in files, and the folder with the files.
fn files(before: &Value, after: &Value) -> (tempfile::TempDir, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let names = [write("before.json", before), write("after.json", after)];
    (folder, names)
}

fn diff(before: &Value, after: &Value, more: &[&str]) -> (i32, String, String) {
    let (_folder, [before, after]) = files(before, after);
    run(&[&["--diff", &before, &after], more].concat(), "")
}

fn report(before: &Value, after: &Value) -> (i32, Value) {
    let (status, text, problems) = diff(before, after, &["-o", "json"]);
    assert_eq!(problems, "");
    (status, serde_json::from_str(&text).unwrap())
}

fn list(listeners: &[Value]) -> Value {
    json!(listeners)
}

/// A dump of Envoy with this active listener, and further fields of its entry.
fn dump(active: &Value, more: &Value) -> Value {
    let mut entry = json!({"name": "mysql", "active_state": {"listener": active}});
    for (key, value) in more.as_object().unwrap() {
        entry[key] = value.clone();
    }
    json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": {"id": "a"}}},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [entry]}]})
}

#[test]
fn the_text_names_what_closes_connections_and_why() {
    let before = list(&[listener(&json!({}))]);
    let after =
        list(&[listener(&json!({"listener_filters": [inspector("tls_inspector")], "stat_prefix": "x"}))]);
    let (status, text, _) = diff(&before, &after, &[]);
    assert_eq!(status, 3);
    for part in [
        "listener mysql: is replaced. Envoy closes all of its connections.\n  because: listener_filters, stat_prefix\n",
        "When: at the end of Envoy's drain time: 45 s in Istio (drainDuration)",
        "statistic is listener.0.0.0.0_3306.downstream_cx_active.",
        "Not compared:\n  - clusters, endpoints, routes, secrets",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (status, text, _) = diff(&before, &before, &[]);
    assert_eq!(status, 0);
    assert!(text.starts_with("This change closes no open connection.\n"), "{text}");
}

#[test]
fn a_changed_chain_closes_its_own_connections() {
    let chain = |name: &str, filters: &[&str]| json!({"name": name, "filters": filters.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
    let of = |chains: &[Value]| list(&[listener(&json!({"filter_chains": chains}))]);
    let before = of(&[chain("a", &["tcp"]), chain("b", &["tcp"]), chain("c", &["tcp"])]);
    let after = of(&[chain("d", &["tcp"]), chain("c", &["tcp"]), chain("b", &["firstword", "tcp"])]);
    let (status, report) = report(&before, &after);
    assert_eq!(status, 3);
    let listener = &report["listeners"][0];
    assert_eq!((&listener["change"], &listener["drains"]), (&json!("in_place"), &json!("chains")));
    let chain = |name: &str, change: &str, differences: Value, drained: bool| json!({"chain": name, "change": change, "differences": differences, "drained": drained});
    assert_eq!(
        listener["chains"],
        json!([
            chain("a", "removed", json!([]), true),
            chain("b", "changed", json!(["filters", "with firstword"]), true),
            chain("c", "kept", json!([]), false),
            chain("d", "added", json!([]), false),
        ])
    );
    let (_, text, _) = diff(&before, &after, &[]);
    let expected = "listener mysql: is updated in place. Envoy closes the connections of 2 of 3 filter chains, and keeps the others.\n  \
                    removed chain a\n  changed chain b: filters, with firstword\n  added chain d\n";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn statistics_say_how_many_connections_are_open() {
    let before = list(&[listener(&json!({}))]);
    let after = list(&[listener(&json!({"per_connection_buffer_limit_bytes": 1}))]);
    let (folder, [old, new]) = files(&before, &after);
    let stats = folder.path().join("stats");
    fs::write(&stats, "listener.0.0.0.0_3306.downstream_cx_active: 42\n").unwrap();
    let stats = stats.to_str().unwrap();
    let (_, text, _) = run(&["--diff", &old, &new, "--stats", stats], "");
    assert!(text.contains("open connections before the change: 42\n"), "{text}");
    assert!(!text.contains("How many"), "{text}");
    let (_, text, _) = run(&["--diff", &old, &new, "--stats", stats, "-o", "json"], "");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["listeners"][0]["open"], 42);
    assert_eq!(report["listeners"][0]["statistic"], "listener.0.0.0.0_3306.downstream_cx_active");
}

/// An admin interface that has this dump and no statistics.
fn without_statistics(dump: &Value) -> String {
    let body = dump.to_string();
    let dump = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    admin::serve(move |request| {
        let is_dump = request.starts_with("GET /config_dump");
        if is_dump { dump.clone() } else { "HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_owned() }
    })
}

#[test]
fn statistics_after_the_change_are_not_read() {
    let before = dump(&listener(&json!({})), &json!({}));
    let after = without_statistics(&dump(&listener(&json!({"stat_prefix": "x"})), &json!({})));
    let (folder, [before, _]) = files(&before, &json!({}));
    let (status, _, problems) = run(&["--diff", &before, &after], "");
    assert_eq!((status, problems.as_str()), (3, ""));
    let (status, _, problems) = run(&["--diff", &after, &before], "");
    assert_eq!(status, 2, "those before it are: {problems}");
    let stats = folder.path().join("stats");
    fs::write(&stats, "listener.x.downstream_cx_active: 42\n").unwrap();
    let (status, _, problems) = run(&["--diff", &after, &before, "--stats", stats.to_str().unwrap()], "");
    assert_eq!((status, problems.as_str()), (3, ""));
}

#[test]
fn the_version_that_warms_is_the_one_after() {
    let (old, new) = (listener(&json!({})), listener(&json!({"stat_prefix": "x"})));
    let warming = dump(&old, &json!({"warming_state": {"listener": new}}));
    let (status, report) = report(&warming, &warming);
    assert_eq!((status, &report["listeners"][0]["change"]), (3, &json!("replaced")));
}

#[test]
fn a_refused_change_is_an_error_and_closes_nothing() {
    let old = listener(&json!({}));
    let (status, found) =
        report(&list(std::slice::from_ref(&old)), &list(&[listener(&json!({"enable_reuse_port": false}))]));
    assert_eq!((status, &found["listeners"][0]["drains"]), (1, &json!("nothing")));
    let refused = dump(&old, &json!({"error_state": {"details": "no such filter"}}));
    let (status, found) = report(&dump(&old, &json!({})), &refused);
    assert_eq!((status, &found["listeners"]), (1, &json!([])));
    assert_eq!(found["refused"], json!([{"listener": "mysql", "why": "no such filter"}]));
    let (_, text, _) = diff(&dump(&old, &json!({})), &refused, &[]);
    assert!(text.starts_with("listener mysql: Envoy has refused the newest version"), "{text}");
}

#[test]
fn a_filter_by_name_closes_nothing() {
    let with = |version: u8| {
        let mut dump = dump(&listener(&json!({})), &json!({}));
        let filter =
            json!({"ecds_filter": {"name": "istio-system.firstword", "typed_config": {"version": version}}});
        let kind = "type.googleapis.com/envoy.admin.v3.EcdsConfigDump";
        dump["configs"].as_array_mut().unwrap().push(json!({"@type": kind, "ecds_filters": [filter]}));
        dump
    };
    let (status, found) = report(&with(1), &with(2));
    assert_eq!(status, 0);
    assert_eq!(found["filters"], json!([{"filter": "istio-system.firstword", "change": "changed"}]));
}

#[test]
fn only_a_restart_changes_a_listener_of_the_bootstrap() {
    let of = |more: &Value| json!({"static_resources": {"listeners": [listener(more)]}});
    let (status, found) = report(&of(&json!({})), &of(&json!({"stat_prefix": "x"})));
    assert_eq!((status, &found["listeners"][0]["change"]), (3, &json!("restart")));
}

#[test]
fn what_is_not_compared_is_listed() {
    let udp = |port: u16| {
        listener(
            &json!({"address": {"socket_address": {"protocol": "UDP", "address": "0.0.0.0", "port_value": port}}}),
        )
    };
    let unnamed = listener(&json!({"name": ""}));
    let before = list(&[udp(1), unnamed.clone()]);
    let after = dump(&udp(2), &json!({}));
    let (status, found) = report(&before, &after);
    assert_eq!((status, &found["listeners"]), (0, &json!([])));
    let text = found["not_compared"].to_string();
    for part in ["1 listeners without a name", "the listener mysql, because", "two kinds", "two nodes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_input_that_is_no_configuration_is_named() {
    let (folder, [good, _]) = files(&list(&[listener(&json!({}))]), &json!({}));
    let bad = folder.path().join("after.json");
    let (status, text, problems) = run(&["--diff", &good, bad.to_str().unwrap()], "");
    assert_eq!((status, text.as_str()), (2, ""));
    let expected = format!("firstword doctor: {}: $: expected a /config_dump", bad.display());
    assert!(problems.starts_with(&expected), "{problems}");
    for wrong in
        [&["--diff", "a"][..], &["--diff", "a", "b", "c"], &["--diff", "a", "b", "--dest", "10.0.0.1:1"]]
    {
        assert_eq!(run(wrong, "").0, 2, "{wrong:?}");
    }
}
