//! Number of instructions that the filter needs for a query or a connection, counted by valgrind's callgrind: `make instructions`.
//!
//! The program takes a scenario and a number of queries or connections, and passes these through the filter's ABI. To get the
//! cost of one, divide the difference between two runs by the difference between their numbers.

// This program reports errors by a panic.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod host;

use firstword_testing::packets::{
    CLIENT_CAPABILITIES, COM_QUIT, MARIADB_CAPABILITIES, answer, command, handshake_response, handshake_v10,
    ok, packet, result_set,
};

/// Scenarios of connections that each log in and quit, or send a packet that breaks the protocol. The others have one connection and
/// queries.
const CONNECT: &str = "connect";
const HOSTILE: &str = "hostile";

/// Settings, by the name of the scenario.
const SCENARIOS: [(&str, &str); 5] = [
    (CONNECT, ""),
    (HOSTILE, ""),
    ("default", ""),
    ("full", r#"{"metrics": {"profile": "full"}, "access_log": ["user", "schema", "commands"]}"#),
    (
        "rules",
        r#"{"rules": [{"match": {"direction": "unspecified"}, "protocol": "mysql", "mysql":
            {"block_local_infile": true, "hold_split_eof": "always", "slow_command": "1s"}}]}"#,
    ),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [scenario, count] = arguments.as_slice() else {
        return println!("usage: instructions SCENARIO COUNT; see make instructions");
    };
    let found = SCENARIOS.iter().find(|(name, _)| name == scenario);
    let names = SCENARIOS.map(|(name, _)| name);
    let (_, configuration) =
        found.unwrap_or_else(|| panic!("scenarios: {}; found {scenario}", names.join(", ")));
    let count: usize = count.parse().expect("a number of queries or connections");
    host::start(configuration);
    let greeting = packet(0, &handshake_v10("10.11.19-MariaDB", MARIADB_CAPABILITIES));
    let response = packet(1, &handshake_response(CLIENT_CAPABILITIES));
    let accepted = packet(2, &ok());
    let log_in = || {
        host::open();
        host::server(&greeting);
        host::client(&response);
        host::server(&accepted);
    };
    if [CONNECT, HOSTILE].contains(&scenario.as_str()) {
        let last = if scenario == CONNECT { command(COM_QUIT, b"") } else { packet(7, b"\x03SELECT 1") };
        for _ in 0..count {
            log_in();
            host::client(&last);
            host::close();
        }
        return;
    }
    log_in();
    let query = command(3, b"SELECT c FROM sbtest1 WHERE id = 5014");
    let response = answer(result_set(&["a row with a value of some length, as sysbench has them"]));
    for _ in 0..count {
        host::client(&query);
        host::server(&response);
    }
}
