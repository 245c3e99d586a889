//! Chunks of a megabyte, and packets of more than 16 MiB, which have several fragments.

use firstword::event::Sender::{self, Client, Server as Upstream};
use serde_json::json;

use crate::bootstrap::{MYSQL, configured};
use crate::counter_diff::CounterDiff;
use crate::session_counts::{LOGIN, LOGIN_FULL_PROFILE, with_full_profile};
use crate::traffic::Pair;
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::{
    AUTOCOMMIT, COM_QUERY, COM_QUIT, MAX_FRAGMENT, column_def, command, eof, ok, packet, packets,
};
use firstword_testing::peer::Server;

const MIB: usize = 1 << 20;

/// Pseudo-random bytes, in which no part equals another.
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

/// A COM_QUERY with a text of this length and without a verb, and the OK in response.
fn query(length: usize) -> (Vec<u8>, Vec<u8>) {
    let fragments = (1 + length) / MAX_FRAGMENT + 1;
    let response = packet(u8::try_from(fragments).expect("few fragments"), &ok());
    (command(COM_QUERY, &noise(length)), response)
}

/// A result set of one row with one column of this length, from a server like that of [`crate::traffic::login`].
fn result_set(length: usize) -> Vec<u8> {
    // In MariaDB, a byte after the count says that definitions follow.
    let column_count = vec![1, 1];
    // Servers encode a length in the fewest bytes.
    let bytes = (length as u64).to_le_bytes();
    let written =
        if length < 1 << 24 { [&[0xfd], &bytes[..3]].concat() } else { [&[0xfe], &bytes[..]].concat() };
    let row = [written, noise(length)].concat();
    packets(1, [column_count, column_def("a"), eof(AUTOCOMMIT), row, eof(AUTOCOMMIT)])
}

/// Plays the chunks after a login, in pieces of this length, and expects these counts in addition to the bytes.
fn assert_counted(chunks: &[(Sender, Vec<u8>)], piece: usize, counts: &str) {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    for (sender, bytes) in chunks {
        for bytes in bytes.chunks(piece) {
            pair.play_large(*sender, bytes);
        }
    }
    pair.close();
    let total = |sender| {
        chunks.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    let commands = with_full_profile(&format!(
        "{counts}
         commands_total{{command=quit}} 1
         bytes_total{{sender=client}} {}
         bytes_total{{sender=server}} {}
         connections_closed_total{{closed_by=client,phase=command}} 1",
        total(Client),
        total(Upstream)
    ));
    diff.expect(&format!("{LOGIN}{LOGIN_FULL_PROFILE}{commands}"));
    diff.finish();
}

#[test]
fn a_packet_of_forty_megabytes_in_each_direction_is_counted_once() {
    let (upload, response) = query(40 * MIB);
    let chunks = [
        (Client, upload),
        (Upstream, response),
        (Client, query(8).0),
        (Upstream, result_set(40 * MIB)),
        (Client, command(COM_QUIT, b"")),
    ];
    assert_counted(
        &chunks,
        usize::MAX,
        "commands_total{command=query} 2
         command_duration_seconds_count{command=query,verb=other} 2
         statements_total{verb=other} 2
         rows_total 1
         result_sets_total 1
         packets_total{sender=client} 5
         packets_total{sender=server} 8",
    );
}

/// An empty fragment follows a payload that fills the largest fragment exactly.
#[test]
fn a_payload_that_fills_a_fragment_is_counted_once() {
    let mut chunks = Vec::new();
    // The command's byte is before the text.
    for length in [MIB - 1, MIB, MAX_FRAGMENT - 2, MAX_FRAGMENT - 1] {
        let (command, response) = query(length);
        chunks.extend([(Client, command), (Upstream, response)]);
    }
    // The length of such a column has four bytes, and together they fill a fragment.
    for length in [MIB, MAX_FRAGMENT - 4] {
        chunks.extend([(Client, query(1).0), (Upstream, result_set(length))]);
    }
    chunks.push((Client, command(COM_QUIT, b"")));
    assert_counted(
        &chunks,
        MIB,
        "commands_total{command=query} 6
         command_duration_seconds_count{command=query,verb=other} 6
         statements_total{verb=other} 6
         rows_total 2
         result_sets_total 2
         packets_total{sender=client} 8
         packets_total{sender=server} 15",
    );
}
