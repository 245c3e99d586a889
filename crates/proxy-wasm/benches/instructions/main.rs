//! Number of instructions that the filter needs for a query, counted by valgrind's callgrind: `make instructions`.
//!
//! The program takes a scenario and a number of queries, and passes these queries through the filter's ABI. The difference
//! between two runs with different numbers of queries is the cost of the additional queries.

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
    CLIENT_CAPABILITIES, MARIADB_CAPABILITIES, answer, command, handshake_response, handshake_v10, ok,
    packet, result_set,
};

/// Settings, by the name of the scenario.
const SCENARIOS: [(&str, &str); 3] = [
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
    let [scenario, queries] = arguments.as_slice() else {
        return println!("usage: instructions SCENARIO QUERIES; see make instructions");
    };
    let found = SCENARIOS.iter().find(|(name, _)| name == scenario);
    let (_, configuration) =
        found.unwrap_or_else(|| panic!("scenarios: default, full, rules; found {scenario}"));
    let queries: usize = queries.parse().expect("a number of queries");
    host::start(configuration);
    host::server(&packet(0, &handshake_v10("10.11.19-MariaDB", MARIADB_CAPABILITIES)));
    host::client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    host::server(&packet(2, &ok()));
    let query = command(3, b"SELECT c FROM sbtest1 WHERE id = 5014");
    let response = answer(result_set(&["a row with a value of some length, as sysbench has them"]));
    for _ in 0..queries {
        host::client(&query);
        host::server(&response);
    }
}
