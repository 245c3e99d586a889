//! The filter held by Envoy to the host calls that `SECURITY.md` names: nothing it does needs another one.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, configured, listeners, plugin};
use crate::counted::{COMMANDS, LOGIN};
use crate::ledger::{Ledger, ours};
use crate::traffic::{Pair, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;
use firstword_testing::{root, wait_for};

/// The block of `SECURITY.md`, as an operator would copy it.
fn restriction() -> Value {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let (_, after) = text.split_once("<!-- capabilities").expect("the mark");
    let (_, after) = after.split_once("```yaml\n").expect("a block");
    let (block, _) = after.split_once("```").expect("its end");
    let block: Value = serde_norway::from_str(block).expect("YAML");
    let allowed = block["capability_restriction_config"]["allowed_capabilities"].clone();
    assert!(allowed.as_object().is_some_and(|allowed| allowed.len() > 20), "{block}");
    json!({"allowed_capabilities": allowed})
}

fn envoy(server: &Server, restriction: &Value) -> Envoy {
    // Access-log state takes calls that nothing else does.
    let configuration = json!({"defaults": {"protocol": "mysql"}, "access_log": ["user", "commands"]});
    let options = configured(server.address(), configuration);
    Envoy::start(options.edit(|bootstrap| {
        let plugin = plugin(&mut listeners(bootstrap)[0]);
        let place = if is_of_the_vm() { &mut plugin["vm_config"] } else { plugin };
        place["capability_restriction_config"] = restriction.clone();
    }))
}

/// Envoy 1.40 moved the field into `vm_config`, and calls its former place deprecated.
fn is_of_the_vm() -> bool {
    let output = Command::new(firstword_testing::envoy()).arg("--version").output().expect("Envoy");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = text.split("/1.").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.unwrap_or_else(|| panic!("no version of Envoy in {text}")) >= 40
}

#[test]
fn the_listed_calls_are_enough() {
    let server = Server::start();
    let envoy = envoy(&server, &restriction());
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    ledger.expect(&format!("{LOGIN}{COMMANDS} connections_closed_total{{by=client,phase=command}} 1"));
    ledger.finish();
}

/// The restriction is one: without a call that is in the list, what it is for is missing.
#[test]
fn a_call_that_is_not_listed_is_refused() {
    let server = Server::start();
    let mut restriction = restriction();
    let allowed = restriction["allowed_capabilities"].as_object_mut().expect("a list");
    assert!(allowed.remove("proxy_define_metric").is_some());
    let envoy = envoy(&server, &restriction);
    wait_for("line about the refusal", Duration::from_secs(30), || {
        envoy.log().contains("event=host_refused call=define_metric status=INTERNAL_FAILURE").then_some(())
    });
    assert_eq!(ours(&envoy.prometheus()).count(), 0);
}
