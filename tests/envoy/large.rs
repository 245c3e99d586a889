//! Chunks of a megabyte, and packets of more than 16.

use firstword::event::Sender;
use serde_json::json;

use crate::bootstrap::{MYSQL, configured};
use crate::ledger::Ledger;
use crate::support::envoy::Envoy;
use crate::support::peer::Server;
use crate::traffic::{Pair, login, noise, packet, result_set, sent};

const MIB: usize = 1 << 20;
const OK: &[u8] = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
const QUIT: &[u8] = b"\x01\0\0\0\x01";

/// A COM_QUERY with so many bytes of text.
fn query(length: usize) -> (Vec<u8>, u8) {
    let mut payload = b"\x03".to_vec();
    payload.extend_from_slice(&noise(length));
    packet(0, &payload)
}

/// An OK packet that answers a command of several fragments.
fn ok(sequence_id: u8) -> Vec<u8> {
    let mut packet = OK.to_vec();
    packet[3] = sequence_id;
    packet
}

#[test]
fn forty_megabytes_in_one_packet_each_way() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    let (command, next) = query(40 * MIB);
    let result = result_set(40 * MIB);
    assert_eq!(next, 3, "the command has three fragments");

    pair.play_large(Sender::Client, &command);
    pair.play_large(Sender::Server, &ok(next));
    let (small, _) = query(8);
    pair.play_large(Sender::Client, &small);
    pair.play_large(Sender::Server, &result);
    pair.play_large(Sender::Client, QUIT);
    pair.close();

    let client = sent(&login(), Sender::Client) + command.len() + small.len() + QUIT.len();
    let server = sent(&login(), Sender::Server) + OK.len() + result.len();
    ledger.expect(&format!(
        "connections_total{{protocol=mysql}} 1
         connections_closed_total{{by=client,phase=command}} 1
         greeting_duration_seconds_count 1
         greetings_total{{flavor=mariadb,release=10.11}} 1
         handshakes_total{{result=ok}} 1
         commands_total{{command=query}} 2
         commands_total{{command=quit}} 1
         rows_total 1
         result_sets_total 1
         bytes_total{{sender=client}} {client}
         bytes_total{{sender=server}} {server}
         packets_total{{sender=client}} 6
         packets_total{{sender=server}} 10",
    ));
    ledger.finish();
}

/// A payload of exactly the largest fragment is followed by an empty one.
#[test]
fn a_megabyte_at_a_time_and_the_border_of_a_fragment() {
    const FRAGMENT: usize = 0xff_ffff;
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({"metrics": {"profile": "full"}})));
    let mut ledger = Ledger::new(&envoy, MYSQL);
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    let mut client = sent(&login(), Sender::Client) + QUIT.len();
    let mut received = sent(&login(), Sender::Server);
    for (length, fragments) in [(MIB - 1, 1), (MIB, 1), (FRAGMENT - 1, 2), (FRAGMENT, 2)] {
        let (command, next) = query(length);
        assert_eq!(next, fragments);
        for chunk in command.chunks(MIB) {
            pair.play_large(Sender::Client, chunk);
        }
        pair.play_large(Sender::Server, &ok(next));
        client += command.len();
        received += OK.len();
    }
    for length in [MIB, FRAGMENT - 9] {
        let (command, _) = query(1);
        pair.play_large(Sender::Client, &command);
        let result = result_set(length);
        for chunk in result.chunks(MIB) {
            pair.play_large(Sender::Server, chunk);
        }
        client += command.len();
        received += result.len();
    }
    pair.play_large(Sender::Client, QUIT);
    pair.close();
    ledger.expect(&format!(
        "connections_total{{protocol=mysql}} 1
         connections_closed_total{{by=client,phase=command}} 1
         greeting_duration_seconds_count 1
         greetings_total{{flavor=mariadb,release=10.11}} 1
         handshakes_total{{result=ok}} 1
         commands_total{{command=query}} 6
         commands_total{{command=quit}} 1
         rows_total 2
         result_sets_total 2
         bytes_total{{sender=client}} {client}
         bytes_total{{sender=server}} {received}
         packets_total{{sender=client}} 10
         packets_total{{sender=server}} 17",
    ));
    ledger.finish();
}
