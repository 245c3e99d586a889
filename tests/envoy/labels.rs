//! What configuration decides about the export: labels and profile; and that names arrive in one piece.

use std::collections::BTreeSet;

use firstword::metrics::Profile;
use firstword::metrics::catalogue::{Kind, Metric};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured, listeners, soon, tcp_proxy};
use crate::ledger::{Ledger, ours};
use crate::traffic::{Pair, session};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::Server;

/// What [`session`] counts in each profile.
const PROFILES: [(Profile, &str, &str); 3] = [
    (
        Profile::Minimal,
        "minimal",
        "connections_total{protocol=mysql} 1
         server_first_detected_total{protocol=mysql} 1
         handshakes_total{result=ok} 1
         commands_total{command=ping} 1
         commands_total{command=query} 6
         commands_total{command=quit} 1
         errors_total{errno=other} 1
         bytes_total{sender=client} 474
         bytes_total{sender=server} 497",
    ),
    (
        Profile::Standard,
        "standard",
        "connections_closed_total{by=client,phase=command} 1
         greeting_duration_seconds_count 1
         greetings_total{flavor=mariadb,release=10.11} 1
         handshake_duration_seconds_count 1
         command_duration_seconds_count{command=other} 1
         command_duration_seconds_count{command=query} 6
         errors_total{errno=other} -1
         errors_total{errno=1146} 1
         statements_total{verb=ddl} 1
         statements_total{verb=insert} 1
         statements_total{verb=select} 3
         statements_total{verb=update} 1
         rows_total 4
         affected_rows_total 5
         no_index_used_total 1",
    ),
    (
        Profile::Full,
        "full",
        "clients_total{client=rust-mysql,client_series=28.0} 1
         command_duration_seconds_count{command=other} -1
         command_duration_seconds_count{command=query} -6
         command_duration_seconds_count{command=ping,verb=none} 1
         command_duration_seconds_count{command=query,verb=ddl} 1
         command_duration_seconds_count{command=query,verb=insert} 1
         command_duration_seconds_count{command=query,verb=select} 3
         command_duration_seconds_count{command=query,verb=update} 1
         command_first_byte_seconds_count{command=ping} 1
         command_first_byte_seconds_count{command=query} 6
         packets_total{sender=client} 9
         packets_total{sender=server} 20
         result_sets_total 2",
    ),
];

/// What [`session`] counts up to a profile.
fn counted(profile: Profile) -> String {
    let parts = PROFILES.iter().filter(|(own, ..)| *own <= profile);
    parts.map(|(_, _, lines)| format!("{lines}\n")).collect()
}

fn run_session(envoy: &Envoy, listener: &str, server: &Server) {
    let mut pair = Pair::open(envoy.listener_addr(listener), server);
    pair.play(&session());
    pair.close();
}

#[test]
fn each_profile_contains_the_ones_before() {
    let server = Server::start();
    for (profile, word, _) in PROFILES {
        let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": word}})));
        let mut ledger = Ledger::new(&envoy, MYSQL);
        run_session(&envoy, MYSQL, &server);
        ledger.expect(&counted(profile));
        ledger.finish();
        assert_names(&envoy, profile);
    }
}

/// Every name is in the catalogue and belongs to the profile.
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
fn connections_carry_the_labels_that_were_chosen() {
    let server = Server::start();
    // Whatever port the listener has, the rule names it.
    let rules = json!([{"name": "orders", "match": {"ports": ["1024-65535"]}, "protocol": "mysql"}]);
    for labels in [json!([]), json!(["port"]), json!(["port", "destination", "direction"])] {
        let configuration = json!({"rules": rules, "metrics": {"labels": labels}});
        let envoy = Envoy::start(configured(server.address(), configuration).edit(|bootstrap| {
            listeners(bootstrap)[0]["traffic_direction"] = json!("OUTBOUND");
        }));
        let port = envoy.listener_addr(MYSQL).port().to_string();
        let values = [("port", port.as_str()), ("destination", "orders"), ("direction", "outbound")];
        let usual = &values[..labels.as_array().unwrap().len()];
        let mut ledger = Ledger::with_labels(&envoy, usual);
        run_session(&envoy, MYSQL, &server);
        ledger.expect(&counted(Profile::Standard));
        ledger.finish();
        let expected: BTreeSet<&str> = usual.iter().map(|(key, _)| *key).chain(["sender"]).collect();
        let metrics = envoy.prometheus();
        for sample in metrics.select("firstword_bytes_total", &[]) {
            assert_eq!(sample.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        }
    }
}

/// A port that no rule names, of which there can be thousands, shares a value with all others.
#[test]
fn a_port_that_nobody_named_is_other() {
    let server = Server::start();
    let configuration = json!({"metrics": {"labels": ["direction", "port"]}});
    let envoy = Envoy::start(configured(server.address(), configuration).edit(|bootstrap| {
        listeners(bootstrap)[0]["traffic_direction"] = json!("INBOUND");
    }));
    let mut ledger = Ledger::with_labels(&envoy, &[("direction", "inbound"), ("port", "other")]);
    run_session(&envoy, MYSQL, &server);
    ledger.expect(&counted(Profile::Standard));
    ledger.finish_having_logged(&["event=server_first_undeclared direction=inbound"]);
}

/// Whatever a cluster is called, the name of the metric stays in one piece, and all labels come out.
#[test]
fn names_and_labels_arrive_in_one_piece() {
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
    let envoy = Envoy::start(options.configuration(soon(configuration)));
    let usual = [
        ("direction", "unspecified"),
        ("destination", "outbound_3306__orders.cache_svc_._x_._y"),
        ("port", "other"),
    ];
    let mut ledger = Ledger::with_labels(&envoy, &usual);
    run_session(&envoy, MYSQL, &server);
    ledger.expect(&counted(Profile::Full));
    ledger.finish();

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
    // Nor has anything of ours landed in a name that does not say so.
    let strays: Vec<_> = metrics.samples.iter().filter(|sample| sample.name.contains("wasmcustom")).collect();
    assert!(strays.is_empty(), "{strays:?}");
}
