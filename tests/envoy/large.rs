//! Chunks of a megabyte, and packets of more than 16.

use firstword::event::Sender::{Client, Server as Upstream};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured};
use crate::counted::{LOGIN, LOGIN_IN_FULL, measured_in_full};
use crate::ledger::Ledger;
use crate::traffic::Pair;
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::{
    AUTOCOMMIT, COM_QUERY, COM_QUIT, MAX_FRAGMENT, column_def, command, eof, ok, packet, packets,
};
use firstword_testing::peer::Server;

const MIB: usize = 1 << 20;

/// Bytes in which no part is like another.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A COM_QUERY with so many bytes of text that begins with no verb, and the OK that answers it.
fn query(length: usize) -> (Vec<u8>, Vec<u8>) {
    let fragments = (1 + length) / MAX_FRAGMENT + 1;
    let answered = packet(u8::try_from(fragments).expect("few fragments"), &ok());
    (command(COM_QUERY, &noise(length)), answered)
}

/// A result set of one row with so many bytes in its one column, as the server of [`login`] sends it.
fn result_set(length: usize) -> Vec<u8> {
    // MariaDB says behind the count that definitions follow.
    let column_count = vec![1, 1];
    // Servers write a length in as few bytes as it needs.
    let bytes = (length as u64).to_le_bytes();
    let written =
        if length < 1 << 24 { [&[0xfd], &bytes[..3]].concat() } else { [&[0xfe], &bytes[..]].concat() };
    let row = [written, noise(length)].concat();
    packets(1, [column_count, column_def("a"), eof(AUTOCOMMIT), row, eof(AUTOCOMMIT)])
}

#[test]
fn forty_megabytes_in_one_packet_each_way() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    let (upload, answered) = query(40 * MIB);
    let (small, _) = query(8);
    let result = result_set(40 * MIB);
    let quit = command(COM_QUIT, b"");
    let chunks =
        [(Client, &upload), (Upstream, &answered), (Client, &small), (Upstream, &result), (Client, &quit)];
    for (sender, bytes) in chunks {
        pair.play_large(sender, bytes);
    }
    pair.close();

    let client = upload.len() + small.len() + quit.len();
    let server = answered.len() + result.len();
    let commands = measured_in_full(&format!(
        "commands_total{{command=query}} 2
         command_duration_seconds_count{{command=query,verb=other}} 2
         commands_total{{command=quit}} 1
         statements_total{{verb=other}} 2
         rows_total 1
         result_sets_total 1
         bytes_total{{sender=client}} {client}
         bytes_total{{sender=server}} {server}
         packets_total{{sender=client}} 5
         packets_total{{sender=server}} 8
         connections_closed_total{{by=client,phase=command}} 1",
    ));
    ledger.expect(&format!("{LOGIN}{LOGIN_IN_FULL}{commands}"));
    ledger.finish();
}

/// A payload of exactly the largest fragment is followed by an empty one.
#[test]
fn a_megabyte_at_a_time_and_the_border_of_a_fragment() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    let mut chunks = Vec::new();
    // The command's byte is in front of the text.
    for length in [MIB - 1, MIB, MAX_FRAGMENT - 2, MAX_FRAGMENT - 1] {
        let (command, answered) = query(length);
        chunks.extend([(Client, command), (Upstream, answered)]);
    }
    // The length of a column that long takes four bytes, and with them the row fills a fragment.
    for length in [MIB, MAX_FRAGMENT - 4] {
        chunks.extend([(Client, query(1).0), (Upstream, result_set(length))]);
    }
    chunks.push((Client, command(COM_QUIT, b"")));
    for (sender, bytes) in &chunks {
        for chunk in bytes.chunks(MIB) {
            pair.play_large(*sender, chunk);
        }
    }
    pair.close();
    let total = |sender| {
        chunks.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    let (client, server) = (total(Client), total(Upstream));
    let commands = measured_in_full(&format!(
        "commands_total{{command=query}} 6
         command_duration_seconds_count{{command=query,verb=other}} 6
         commands_total{{command=quit}} 1
         statements_total{{verb=other}} 6
         rows_total 2
         result_sets_total 2
         bytes_total{{sender=client}} {client}
         bytes_total{{sender=server}} {server}
         packets_total{{sender=client}} 8
         packets_total{{sender=server}} 15
         connections_closed_total{{by=client,phase=command}} 1",
    ));
    ledger.expect(&format!("{LOGIN}{LOGIN_IN_FULL}{commands}"));
    ledger.finish();
}
