//! Pods of a headless Service as chains of a listener for all addresses (`PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER`). The dumps
//! are from a stand-in, in the shape that istiod generates. `tests/istio` runs the same listener in a real Envoy.

use serde_json::{Value, json};

use crate::support::{codes, finding, inspected, outbound, report, sidecar, tcp_proxy};

const SERVICE: &str = "outbound|3306||mysql.db.svc.cluster.local";

fn pods(more: &Value) -> Value {
    let chain = |address: &str| {
        json!({"filter_chain_match": {"prefix_ranges": [{"address_prefix": address, "prefix_len": 32}]},
               "filters": [tcp_proxy(SERVICE)]})
    };
    let chains = json!([chain("10.0.7.1"), chain("10.0.7.2")]);
    let clusters = [
        json!({"name": SERVICE, "type": "ORIGINAL_DST"}),
        json!({"name": "outbound|3306||web.other.svc.cluster.local", "type": "EDS"}),
    ];
    sidecar(&[outbound("0.0.0.0", 3306, &chains, more)], &clusters)
}

#[test]
fn every_pod_of_a_merged_listener_hangs_and_a_service_entry_goes_stale() {
    for pod in ["10.0.7.1", "10.0.7.2"] {
        let found = report(&["--dest", &format!("{pod}:3306")], &pods(&inspected()));
        assert_eq!(codes(&found), ["error headless-pods"]);
        let finding = finding(&found, "headless-pods");
        let why = finding["why"].as_str().unwrap();
        assert!(
            why.contains("Service other/web declares port 3306 as HTTP.")
                && why.contains("headless Service db/mysql"),
            "{why}"
        );
        let fixes = finding["fixes"].as_array().unwrap();
        let what: Vec<_> = fixes.iter().map(|fix| fix["what"].as_str().unwrap()).collect();
        assert!(what[0].starts_with("Turn off PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER"), "{what:#?}");
        assert!(what[1].starts_with("Give Service other/web another port number"), "{what:#?}");
        let entry =
            fixes.iter().find(|fix| fix["from"][0] == "istio/scenarios/headless/serviceentry.yaml").unwrap();
        assert!(
            entry["trade_off"].as_str().unwrap().starts_with("the entry goes stale when a pod restarts"),
            "{entry}"
        );
        assert!(entry["yaml"].as_str().unwrap().contains(&format!("addresses: [{pod}]")), "{entry}");
        assert_eq!(fixes.last().unwrap()["last_resort"], true);
    }
}

#[test]
fn a_merged_listener_without_an_http_service_is_right() {
    let found = report(&["--dest", "10.0.7.1:3306"], &pods(&json!({})));
    assert_eq!(codes(&found), [""; 0]);
    // An address on the port that is no pod of the Service.
    let found = report(&["--dest", "192.0.2.1:3306"], &pods(&inspected()));
    assert_eq!(codes(&found), ["error port-conflict"]);
}
