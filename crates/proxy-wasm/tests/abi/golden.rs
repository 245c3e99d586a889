//! Every host call of every callback, for scripts of connections and for the settings that add calls. The list is committed
//! (`crates/proxy-wasm/tests/abi/golden.txt`), so the test shows every change that adds, removes or reorders a call.
//!
//! `FIRSTWORD_BLESS=1` writes a new list.

use std::fmt::Write;
use std::fs;

use crate::host::{Call, Ending, ORDERS, Outcome, Vm};
use crate::scripts::{Turn, all};
use firstword_testing::root;

/// Settings by name.
const SETTINGS: [(&str, &str); 4] = [
    ("default", ""),
    (
        "access-log",
        r#"{"access_log": ["protocol", "user", "schema", "commands", "errors", "opaque_reason"]}"#,
    ),
    (
        "rules",
        r#"{"rules": [{"match": {"ports": [3306]}, "mysql": {"block_local_infile": true, "hold_split_eof": "always",
            "clear_capabilities": ["compress", "zstd"], "slow_command": "1ms"}}]}"#,
    ),
    (
        "proxy",
        r#"{"rules": [{"match": {"ports": [3306]}, "proxy_protocol": {
            "receive": {"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}, "send": {"mode": "with_first_client_bytes"}}}]}"#,
    ),
];

/// The calls of one callback. Only the name is listed if the arguments depend on the bytes of the callback.
fn names(calls: &[Call]) -> String {
    let name = |call: &Call| match call.name {
        "get_property" | "set_property" => {
            format!("{}({})", call.name, call.what.split('=').next().unwrap_or_default())
        }
        name => name.to_owned(),
    };
    calls.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn list() -> String {
    let mut list = String::new();
    for (setting, configuration) in SETTINGS {
        for (script, turns) in all() {
            let vm = Vm::start();
            let plugin = vm.plugin(configuration);
            let mut line = |callback: &str, calls: &[Call]| {
                writeln!(list, "{setting} {script} {callback}: {}", names(calls)).expect("a string");
            };
            line("configure", &vm.configure_calls());
            let (stream, _, calls) = plugin.connect_from(Some("10.0.0.9:50000"), &ORDERS);
            line("connect", &calls);
            for (index, turn) in turns.iter().enumerate() {
                let (side, calls) = match turn {
                    Turn::Client(bytes) => {
                        let (outcome, calls) = stream.pass_client(bytes, false);
                        (if outcome == Outcome::Closed { "client, ends" } else { "client" }, calls)
                    }
                    Turn::Server(bytes) => ("server", stream.pass_server(bytes, false).1),
                };
                line(&format!("{index} {side}"), &calls);
                if side == "client, ends" {
                    break;
                }
            }
            line("tick", &plugin.tick());
            line("close", &stream.close(Ending::ClientReset));
        }
    }
    list
}

#[test]
fn host_calls_are_those_of_the_list() {
    let path = root().join("crates/proxy-wasm/tests/abi/golden.txt");
    let found = list();
    if std::env::var_os("FIRSTWORD_BLESS").is_some() {
        fs::write(&path, &found).expect("a list");
    }
    let expected = fs::read_to_string(&path).expect("a list; write it with FIRSTWORD_BLESS=1");
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}
