//! Configurations with problems in a new proxy, and unusual ones without problems.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, listeners, plugin, shipped};
use crate::counter_diff::{CounterDiff, assert_clean};
use crate::session_counts::LOGIN;
use crate::traffic::Pair;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::peer::{Server, closed_address};
use firstword_testing::shell;

/// `envoy/mysql.yaml` with this value as the filter's configuration.
fn with_raw(server: SocketAddr, configuration: Value) -> EnvoyOptions {
    shipped(server).edit(|bootstrap| plugin(&mut listeners(bootstrap)[0])["configuration"] = configuration)
}

/// The problems that a new filter logs before it runs with the defaults, in order. Also asserts that it inspects.
fn rejections(options: impl FnOnce(SocketAddr) -> EnvoyOptions) -> Vec<String> {
    let server = Server::start();
    let envoy = Envoy::start(options(server.address()));
    envoy.wait_metric("firstword_config_rejected", &[], shell::idle_filters().into());
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    Pair::logged_in(envoy.listener_addr(MYSQL), &server).close();
    diff.expect(&format!("{LOGIN}connections_closed_total{{closed_by=client,phase=command}} 1"));
    problems("rejected", &envoy.log())
}

/// The problems that a new filter logs before it refuses, in order, and the word because of which it refuses.
fn refusals(options: EnvoyOptions) -> (Vec<String>, Option<String>) {
    let (status, log) = Envoy::start_refused(options);
    assert!(!status.success(), "{status}");
    let words = log.lines().filter_map(|line| line.split_once("event=config_refused word="));
    let word = words.map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()).next();
    (problems("refused", &log), word)
}

/// The problems in a log. Each VM logs all of them.
fn problems(verb: &str, log: &str) -> Vec<String> {
    assert!(!log.contains("panicked"), "{log}");
    let front = format!("configuration {verb}: ");
    let mut problems = Vec::new();
    for (_, problem) in log.lines().filter_map(|line| line.split_once(&front)) {
        if !problems.iter().any(|known| known == problem) {
            problems.push(problem.to_owned());
        }
    }
    assert!(!problems.is_empty(), "{log}");
    problems
}

/// The environment variable: in wasm of the VM, else of Envoy.
fn environment(options: EnvoyOptions, value: &str) -> EnvoyOptions {
    if shell::is_native() {
        return options.environment("FIRSTWORD_ON_CONFIG_ERROR", value);
    }
    options.edit(|bootstrap| {
        let vm = &mut plugin(&mut listeners(bootstrap)[0])["vm_config"];
        vm["environment_variables"]["key_values"]["FIRSTWORD_ON_CONFIG_ERROR"] = json!(value);
    })
}

#[test]
fn a_new_proxy_logs_every_problem_and_runs_with_the_defaults() {
    let configuration = json!({
        "mode": "Observe",
        "rules": [{"name": "orders", "match": {"port": 3306}}, {"match": {"ports": [0]}, "protocol": "postgres"}],
        "metrics": {"labels": ["direction", "host"]},
    });
    let problems = rejections(|server| shipped(server).configuration(configuration));
    assert_eq!(
        problems,
        [
            r#"$.mode: expected "active", "observe" or "off", found "Observe""#,
            r#"$.rules[0].match.port: unknown key (did you mean "ports"?), expected one of "ports", "addresses", "direction""#,
            r#"$.rules[1].match.ports[0]: expected a port from 1 to 65535 or a range like "10000-10099", found 0"#,
            r#"$.rules[1].protocol: expected "mysql", "server_first", "opaque" or "detect", found "postgres""#,
            r#"$.metrics.labels[1]: expected "direction", "destination" or "port", found "host""#,
        ]
    );
}

#[test]
fn a_bad_configuration_with_a_protecting_setting_is_refused() {
    let configuration = json!({"mode": "of", "rules": [{"mysql": {"block_local_infile": true}}]});
    let (problems, word) = refusals(shipped(closed_address()).configuration(configuration));
    assert!(problems.iter().any(|problem| problem.starts_with("$.mode: ")), "{problems:?}");
    assert_eq!(word.as_deref(), Some("block_local_infile"));
}

#[test]
fn the_environment_decides_about_a_bad_configuration() {
    let bad = |server| shipped(server).configuration(json!({"mode": "of"}));
    let expected = [r#"$.mode: expected "active", "observe" or "off", found "of""#];
    assert_eq!(rejections(|server| environment(bad(server), "defaults")), expected);
    let (problems, word) = refusals(environment(bad(closed_address()), "refuse"));
    assert_eq!(problems, expected);
    assert_eq!(word, None);
}

#[test]
fn text_that_is_not_json_is_rejected() {
    let problems = rejections(|server| shipped(server).configuration("mode: observe"));
    assert_eq!(problems, ["$: expected JSON, found a syntax error: expected value at line 1 column 1"]);
}

/// A mistake that looks correct in YAML.
#[test]
fn a_struct_is_rejected_with_the_correct_type() {
    let a_struct = |value| json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": value});
    let expected = "$: expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a \
                    google.protobuf.StringValue, not in a Struct";
    let harmless = json!({"defaults": {"protocol": "mysql"}, "metrics": {"profile": "full"}});
    assert_eq!(rejections(|server| with_raw(server, a_struct(harmless))), [expected]);
    let protecting = json!({"access_log": ["user"]});
    let (problems, word) = refusals(with_raw(closed_address(), a_struct(protecting)));
    assert_eq!(problems, [expected]);
    assert_eq!(word.as_deref(), Some("user"));
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
