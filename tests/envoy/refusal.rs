//! Configurations that Envoy must not start with, and the ones it must.

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, listeners, plugin, shipped};
use crate::counted::LOGIN;
use crate::ledger::{Ledger, assert_clean};
use crate::traffic::Pair;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::{Server, closed_address};

/// `envoy/mysql.yaml` with this in the place of the filter's configuration.
fn with_any(configuration: Value) -> EnvoyOptions {
    shipped(closed_address())
        .edit(|bootstrap| plugin(&mut listeners(bootstrap)[0])["configuration"] = configuration)
}

/// What the filter says about why, in order.
fn refusals(options: EnvoyOptions) -> Vec<String> {
    let (status, log) = Envoy::start_refused(options);
    assert!(!status.success(), "{status}");
    assert!(!log.contains("panicked"), "{log}");
    let ours = log.lines().filter_map(|line| line.split_once("configuration refused: "));
    let said: Vec<_> = ours.map(|(_, problem)| problem.to_owned()).collect();
    assert!(!said.is_empty(), "{log}");
    said
}

#[test]
fn every_problem_is_in_the_log() {
    let configuration = json!({
        "mode": "Observe",
        "rules": [{"name": "orders", "match": {"port": 3306}}, {"match": {"ports": [0]}, "protocol": "postgres"}],
        "metrics": {"labels": ["direction", "user"]},
    });
    let said = refusals(shipped(closed_address()).configuration(configuration));
    assert_eq!(
        said,
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
fn text_that_is_no_json_is_refused() {
    let said = refusals(shipped(closed_address()).configuration("mode: observe"));
    assert_eq!(said, ["$: expected JSON, found a syntax error: expected value at line 1 column 1"]);
}

/// The mistake that looks right in YAML.
#[test]
fn a_struct_is_refused_with_what_to_do() {
    let a_struct = json!({
        "@type": "type.googleapis.com/google.protobuf.Struct",
        "value": {"defaults": {"protocol": "mysql"}, "metrics": {"profile": "full"}},
    });
    let said = refusals(with_any(a_struct));
    let expected = "$: expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a \
                    google.protobuf.StringValue, not in a Struct";
    assert_eq!(said, [expected]);
}

/// No configuration at all is the empty one; so is an empty text, and bytes are as good as text.
#[test]
fn the_empty_configuration_is_complete() {
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
        let mut ledger = Ledger::new(&envoy, MYSQL);
        Pair::logged_in(envoy.listener_addr(MYSQL), &server).close();
        ledger.expect(&format!("{LOGIN}connections_closed_total{{by=client,phase=command}} 1"));
        assert_clean(&envoy.log());
    }
}
