//! Envoy restricts the filter to the host calls that `SECURITY.md` lists. The filter needs no other call.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, configured, listeners, plugin};
use crate::counter_diff::{CounterDiff, ours};
use crate::session_counts::{COMMANDS, LOGIN};
use crate::traffic::{Pair, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;
use firstword_testing::{root, wait_for};

/// The block of `SECURITY.md`, as an operator would copy it.
fn restriction() -> Value {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let (_, after) = text.split_once("<!-- capabilities").expect("the marker");
    let (_, after) = after.split_once("```yaml\n").expect("a block");
    let (block, _) = after.split_once("```").expect("its end");
    let block: Value = serde_norway::from_str(block).expect("YAML");
    let allowed = block["capability_restriction_config"]["allowed_capabilities"].clone();
    assert!(allowed.as_object().is_some_and(|allowed| allowed.len() > 20), "{block}");
    json!({"allowed_capabilities": allowed})
}

fn envoy(server: &Server, restriction: &Value) -> Envoy {
    // Access-log state needs host calls that nothing else needs.
    let configuration = json!({"defaults": {"protocol": "mysql"}, "access_log": ["user", "commands"]});
    let options = configured(server.address(), configuration);
    Envoy::start(options.edit(|bootstrap| {
        let plugin = plugin(&mut listeners(bootstrap)[0]);
        let parent = if is_in_vm_config() { &mut plugin["vm_config"] } else { plugin };
        parent["capability_restriction_config"] = restriction.clone();
    }))
}

/// Envoy 1.40 moved the field into `vm_config`, and deprecated its former place.
fn is_in_vm_config() -> bool {
    let output = Command::new(firstword_testing::envoy()).arg("--version").output().expect("Envoy");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = text.split("/1.").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.unwrap_or_else(|| panic!("no version of Envoy in {text}")) >= 40
}

#[test]
fn the_listed_host_calls_are_sufficient() {
    let server = Server::start();
    let envoy = envoy(&server, &restriction());
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    diff.expect(&format!("{LOGIN}{COMMANDS} connections_closed_total{{closed_by=client,phase=command}} 1"));
    diff.finish();
}

/// The restriction is effective: without a listed call, the feature that needs it is missing.
#[test]
fn a_host_call_that_is_not_listed_is_refused() {
    let server = Server::start();
    let mut restriction = restriction();
    let allowed = restriction["allowed_capabilities"].as_object_mut().expect("a list");
    assert!(allowed.remove("proxy_define_metric").is_some());
    let envoy = envoy(&server, &restriction);
    wait_for("log line about the refusal", Duration::from_secs(30), || {
        envoy.log().contains("event=host_refused call=define_metric status=INTERNAL_FAILURE").then_some(())
    });
    assert_eq!(ours(&envoy.prometheus()).count(), 0);
}
