//! The effect of the settings `labels` and `profile` on exported series, and the encoding of names and labels.

use std::collections::BTreeSet;

use firstword::metrics::Profile;
use firstword::metrics::catalogue::{Kind, Metric};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured, listeners, tcp_proxy, with_fast_flush};
use crate::counter_diff::{CounterDiff, ours};
use crate::session_counts;
use crate::traffic::{Pair, session};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::Server;

const PROFILES: [(Profile, &str); 3] =
    [(Profile::Minimal, "minimal"), (Profile::Standard, "standard"), (Profile::Full, "full")];

fn run_session(envoy: &Envoy, listener: &str, server: &Server) {
    let mut pair = Pair::open(envoy.listener_addr(listener), server);
    pair.play(&session());
    pair.close();
}

#[test]
fn each_profile_counts_a_session_exactly() {
    let server = Server::start();
    for (profile, name) in PROFILES {
        let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": name}})));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        run_session(&envoy, MYSQL, &server);
        diff.expect(&session_counts::session(profile));
        diff.finish();
        assert_names(&envoy, profile);
    }
}

/// Asserts that each exported name is in the catalogue and belongs to the profile.
fn assert_names(envoy: &Envoy, profile: Profile) {
    let definitions = Metric::ALL.iter().map(|metric| metric.definition());
    let names: BTreeSet<String> = definitions
        .filter(|definition| definition.profile <= profile)
        .flat_map(|definition| {
            let endings: &[&str] = match definition.kind {
                Kind::Histogram => &["_seconds_bucket", "_seconds_count", "_microseconds_sum"],
                Kind::Counter | Kind::Gauge => &[""],
            };
            endings.iter().map(move |ending| format!("firstword_{}{ending}", definition.name))
        })
        .collect();
    for sample in ours(&envoy.prometheus()) {
        assert!(names.contains(&sample.name), "{profile:?}: {sample:?}");
    }
}

#[test]
fn series_have_the_configured_labels() {
    let server = Server::start();
    // The rule names the port of the listener, which is ephemeral.
    let rules = json!([{"name": "orders", "match": {"ports": ["1024-65535"]}, "protocol": "mysql"}]);
    for labels in [json!([]), json!(["port"]), json!(["port", "destination", "direction"])] {
        let configuration = json!({"rules": rules, "metrics": {"labels": labels}});
        let envoy = Envoy::start(configured(server.address(), configuration).edit(|bootstrap| {
            listeners(bootstrap)[0]["traffic_direction"] = json!("OUTBOUND");
        }));
        let port = envoy.listener_addr(MYSQL).port().to_string();
        let values = [("port", port.as_str()), ("destination", "orders"), ("direction", "outbound")];
        let common_labels = &values[..labels.as_array().unwrap().len()];
        let mut diff = CounterDiff::with_labels(&envoy, common_labels);
        run_session(&envoy, MYSQL, &server);
        diff.expect(&session_counts::session(Profile::Standard));
        diff.finish();
        let expected: BTreeSet<&str> = common_labels.iter().map(|(key, _)| *key).chain(["sender"]).collect();
        let metrics = envoy.prometheus();
        for sample in metrics.select("firstword_bytes_total", &[]) {
            assert_eq!(sample.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        }
    }
}

/// Ports that no rule names share a label value, because there can be thousands.
#[test]
fn a_port_that_no_rule_names_is_other() {
    let server = Server::start();
    let configuration = json!({"metrics": {"labels": ["direction", "port"]}});
    let envoy = Envoy::start(configured(server.address(), configuration).edit(|bootstrap| {
        listeners(bootstrap)[0]["traffic_direction"] = json!("INBOUND");
    }));
    let mut diff = CounterDiff::with_labels(&envoy, &[("direction", "inbound"), ("port", "other")]);
    run_session(&envoy, MYSQL, &server);
    diff.expect(&session_counts::session(Profile::Standard));
    diff.finish_with_log_lines(&["event=server_first_undeclared direction=inbound"]);
}

/// A cluster's name with separators of the encoding does not split a metric's name or labels.
#[test]
fn separators_in_a_cluster_name_are_escaped() {
    const CLUSTER: &str = "outbound|3306||Orders.cache.svc;.;x=.=y";
    let server = Server::start();
    let configuration =
        json!({"metrics": {"profile": "full", "labels": ["direction", "destination", "port"]}});
    let options = EnvoyOptions::new("envoy/mysql.yaml").edit(|bootstrap| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][0];
        cluster["name"] = json!(CLUSTER);
        cluster["load_assignment"]["cluster_name"] = json!(CLUSTER);
        tcp_proxy(&mut listeners(bootstrap)[0])["cluster"] = json!(CLUSTER);
    });
    let options = options.upstream(CLUSTER, server.address());
    let envoy = Envoy::start(options.configuration(with_fast_flush(configuration)));
    let common_labels = [
        ("direction", "unspecified"),
        ("destination", "outbound_3306__orders.cache_svc_._x_._y"),
        ("port", "other"),
    ];
    let mut diff = CounterDiff::with_labels(&envoy, &common_labels);
    run_session(&envoy, MYSQL, &server);
    diff.expect(&session_counts::session(Profile::Full));
    diff.finish();

    let keys: BTreeSet<&str> = Metric::ALL
        .iter()
        .flat_map(|metric| metric.definition().labels(Profile::Full))
        .map(|label| label.key())
        .chain(["direction", "destination", "port", "le"])
        .collect();
    let in_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let in_value = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_+./-".contains(&byte);
    let metrics = envoy.prometheus();
    assert!(ours(&metrics).count() > 50);
    for sample in ours(&metrics) {
        assert!(sample.name.starts_with("firstword_") && sample.name.bytes().all(in_name), "{sample:?}");
        for (key, value) in &sample.labels {
            let legal = value.bytes().all(in_value) || (key == "le" && value == "+Inf");
            assert!(keys.contains(key.as_str()) && legal && !value.is_empty(), "{sample:?}");
        }
    }
    // No series of the filter has kept the prefix of its encoded name.
    let strays: Vec<_> = metrics.samples.iter().filter(|sample| sample.name.contains("wasmcustom")).collect();
    assert!(strays.is_empty(), "{strays:?}");
}
