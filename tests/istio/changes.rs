//! `firstword doctor --diff` says of each manifest what `docs/rollout.md` says that it closes, on the configurations of the
//! stand-in for istiod before and after. `tests/envoy/drains.rs` compares the rule with Envoy.

use std::process::Command;

use serde_json::{Value, json};

use crate::case::Case;
use crate::cases::CASES;
use crate::manifests;
use crate::pilot::xds;
use firstword_testing::program::firstword;
use firstword_testing::temp_dir;

const PROXY: [u8; 4] = [10, 1, 0, 2];

/// A row: words of the table in `docs/rollout.md`, the manifests, the case with the mesh, a listener that the manifests change, and
/// what Envoy drains of it. First when they are applied, then when they are removed: `nothing`, `chains` or `all`.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str, [&'static str; 2]);

const ROWS: &[Row] = &[
    (
        "`serviceentry.yaml`",
        &["scenarios/port-conflict/serviceentry.yaml"],
        "A1",
        "55.108.108.2_10000",
        ["nothing", "all"],
    ),
    (
        "`sniff-timeout.yaml`",
        &["scenarios/port-conflict/sniff-timeout.yaml"],
        "A1",
        "0.0.0.0_10000",
        ["all", "all"],
    ),
    ("`dynamic-dns`", &["scenarios/dynamic-dns/envoyfilter.yaml"], "D0", "virtualOutbound", ["all", "all"]),
    ("PeerAuthentication", &["envoyfilter/peerauthentication.yaml"], "I0", "virtualInbound", ["all", "all"]),
    (
        "`inbound.yaml`",
        &["envoyfilter/inbound.yaml", "envoyfilter/extension.yaml"],
        "I0",
        "virtualInbound",
        ["chains", "chains"],
    ),
    (
        "`outbound-*.yaml`",
        &["envoyfilter/outbound-passthrough.yaml", "envoyfilter/extension.yaml"],
        "A0",
        "virtualOutbound",
        ["chains", "chains"],
    ),
    (
        "`listener-add.yaml`",
        &["scenarios/port-conflict/listener-add.yaml", "envoyfilter/extension.yaml"],
        "A1",
        "55.108.108.2_10000",
        ["nothing", "all"],
    ),
];

/// The listeners of the case's proxy with these manifests.
fn listeners(case: &Case, paths: &[&str]) -> Value {
    let proxy = case.proxy(PROXY.into());
    let resources: Vec<_> = paths.iter().flat_map(|path| manifests::resources(path)).collect();
    json!(xds(&case.mesh(&proxy, "/etc/certs"), &proxy, &resources).listeners)
}

/// What doctor says that each listener loses, by name.
fn drains(before: &Value, after: &Value) -> Vec<(String, String)> {
    let folder = temp_dir();
    let paths = ["before.json", "after.json"].map(|name| folder.path().join(name));
    for (path, listeners) in paths.iter().zip([before, after]) {
        std::fs::write(path, listeners.to_string()).expect("a file");
    }
    let output = Command::new(firstword())
        .args(["doctor", "-o", "json", "--diff"])
        .args(&paths)
        .output()
        .expect("firstword");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let listeners = report["listeners"].as_array().expect("listeners").iter();
    listeners.map(|listener| (text(&listener["listener"]), text(&listener["drains"]))).collect()
}

#[test]
fn doctor_says_what_each_manifest_closes() {
    let page = std::fs::read_to_string(firstword_testing::root().join("docs/rollout.md")).expect("the page");
    let (_, table) = page.split_once("## What a change closes").expect("the section");
    for (words, paths, name, listener, expected) in ROWS {
        let case = CASES.iter().find(|case| case.name == *name).expect("a case");
        let (without, with) = (listeners(case, &[]), listeners(case, paths));
        for ((before, after), expected) in [(&without, &with), (&with, &without)].into_iter().zip(expected) {
            let found = drains(before, after);
            let of = found.iter().find(|(name, _)| name == listener);
            let of = of.unwrap_or_else(|| panic!("{paths:?} changes no {listener}: {found:?}"));
            assert_eq!(of.1, *expected, "{paths:?}: {found:?}");
        }
        assert!(table.contains(words), "docs/rollout.md does not name {words}");
    }
}
