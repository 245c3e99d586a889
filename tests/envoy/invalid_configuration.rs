//! Configurations with which Envoy must not start, and unusual ones with which it must.

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, listeners, plugin, shipped};
use crate::counter_diff::{CounterDiff, assert_clean};
use crate::session_counts::LOGIN;
use crate::traffic::Pair;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::{Server, closed_address};

/// `envoy/mysql.yaml` with this value as the filter's configuration.
fn with_raw(configuration: Value) -> EnvoyOptions {
    shipped(closed_address())
        .edit(|bootstrap| plugin(&mut listeners(bootstrap)[0])["configuration"] = configuration)
}

/// The problems that the filter logs, in order.
fn refusals(options: EnvoyOptions) -> Vec<String> {
    let (status, log) = Envoy::start_refused(options);
    assert!(!status.success(), "{status}");
    assert!(!log.contains("panicked"), "{log}");
    let ours = log.lines().filter_map(|line| line.split_once("configuration refused: "));
    let problems: Vec<_> = ours.map(|(_, problem)| problem.to_owned()).collect();
    assert!(!problems.is_empty(), "{log}");
    problems
}

#[test]
fn every_problem_is_logged() {
    let configuration = json!({
        "mode": "Observe",
        "rules": [{"name": "orders", "match": {"port": 3306}}, {"match": {"ports": [0]}, "protocol": "postgres"}],
        "metrics": {"labels": ["direction", "user"]},
    });
    let problems = refusals(shipped(closed_address()).configuration(configuration));
    assert_eq!(
        problems,
        [
            r#"$.mode: expected "active", "observe" or "off", found "Observe""#,
            r#"$.rules[0].match.port: unknown key (did you mean "ports"?), expected one of "ports", "addresses", "direction""#,
            r#"$.rules[1].match.ports[0]: expected a port from 1 to 65535 or a range like "10000-10099", found 0"#,
            r#"$.rules[1].protocol: expected "mysql", "server_first", "opaque" or "detect", found "postgres""#,
            r#"$.metrics.labels[1]: expected "direction", "destination" or "port", found "user""#,
        ]
    );
}

#[test]
fn text_that_is_not_json_is_refused() {
    let problems = refusals(shipped(closed_address()).configuration("mode: observe"));
    assert_eq!(problems, ["$: expected JSON, found a syntax error: expected value at line 1 column 1"]);
}

/// A mistake that looks correct in YAML.
#[test]
fn a_struct_is_refused_with_the_correct_type() {
    let a_struct = json!({
        "@type": "type.googleapis.com/google.protobuf.Struct",
        "value": {"defaults": {"protocol": "mysql"}, "metrics": {"profile": "full"}},
    });
    let problems = refusals(with_raw(a_struct));
    let expected = "$: expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a \
                    google.protobuf.StringValue, not in a Struct";
    assert_eq!(problems, [expected]);
}

/// No configuration and an empty text mean the same as an empty JSON object. Bytes are accepted like text.
#[test]
fn an_empty_configuration_is_valid() {
    let server = Server::start();
    let bytes = json!({"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": "e30="});
    let text = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": ""});
    for configuration in [None, Some(text), Some(bytes)] {
        let options = shipped(server.address()).edit(|bootstrap| {
            let plugin = plugin(&mut listeners(bootstrap)[0]).as_object_mut().unwrap();
            plugin.remove("configuration");
            plugin.extend(configuration.map(|value| ("configuration".to_owned(), value)));
        });
        let envoy = Envoy::start(options);
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        Pair::logged_in(envoy.listener_addr(MYSQL), &server).close();
        diff.expect(&format!("{LOGIN}connections_closed_total{{closed_by=client,phase=command}} 1"));
        assert_clean(&envoy.log());
    }
}
