//! Connections that end otherwise than by QUIT.

use crate::counts::{QUIET, address, between, by, on_both_servers, sum};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::Database;
use firstword_testing::envoy::Envoy;
use firstword_testing::wait_for;
use std::time::Duration;

on_both_servers! { killed_while_idle killed_while_busy idle_for_too_long too_many_connections }

fn client(envoy: &Envoy) -> Client {
    Client::login(address(envoy), &Login::new(CLASSIC))
}

fn closed_by_the_server(envoy: &Envoy, count: u64) {
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    assert_eq!(sum(&metrics, "connections_closed_total", &[("by", "server")]), count);
    assert_eq!(sum(&metrics, "connections_active", &[]), 0);
    assert_eq!(sum(&metrics, "commands_in_flight", &[]), 0);
}

fn killed_while_idle(database: &Database) {
    let envoy = between(database);
    let mut victim = client(&envoy);
    database.sql(&format!("KILL {}", victim.thread_id));
    // MariaDB says so (1927), MySQL just ends.
    while let Some(packet) = victim.next_packet() {
        assert_eq!(packet[0], 0xff);
    }
    drop(victim);
    closed_by_the_server(&envoy, 1);
}

fn killed_while_busy(database: &Database) {
    let envoy = between(database);
    let mut victim = client(&envoy);
    let payload = victim.query_payload("SELECT SLEEP(60)");
    victim.command(&payload);
    wait_for("a busy session", Duration::from_secs(20), || {
        let busy = database.sql("SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(60)'");
        (!busy.is_empty()).then_some(())
    });
    database.sql(&format!("KILL {}", victim.thread_id));
    while victim.next_packet().is_some() {}
    drop(victim);
    closed_by_the_server(&envoy, 1);
}

fn idle_for_too_long(database: &Database) {
    database.sql("SET GLOBAL wait_timeout = 1");
    let envoy = between(database);
    let mut idle = client(&envoy);
    let last = idle.next_packet();
    let notice = last.map(|packet| u16::from_le_bytes([packet[1], packet[2]]));
    drop(idle);
    closed_by_the_server(&envoy, 1);
    let metrics = envoy.stable(QUIET);
    let counted = by(&metrics, "server_notices_total", "errno");
    // MySQL sends 4031 of its own accord, MariaDB nothing.
    let expected = notice.into_iter().map(|errno| (errno.to_string(), 1)).collect();
    assert_eq!(counted, expected);
}

fn too_many_connections(database: &Database) {
    database.sql("SET GLOBAL max_connections = 10");
    let envoy = between(database);
    let mut held = Vec::new();
    let refused = loop {
        match Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC)) {
            Ok(client) => held.push(client),
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, 1040);
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "pre_handshake_errors_total", &[("errno", "1040")]), 1);
    assert_eq!(sum(&metrics, "connections_active", &[]), held.len() as u64);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
}
