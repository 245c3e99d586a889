//! Connections that end without a COM_QUIT.

use crate::counts::{QUIET, address, on_both_servers, start_envoy, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::Database;
use firstword_testing::envoy::Envoy;
use firstword_testing::wait_for;
use std::time::Duration;

on_both_servers! {
    a_killed_idle_session_is_closed_by_the_server a_killed_busy_session_is_closed_by_the_server
    an_idle_session_is_closed_by_the_server a_connection_over_the_maximum_is_counted
}

fn client(envoy: &Envoy) -> Client {
    Client::login(address(envoy), &Login::new(CLASSIC))
}

fn assert_closed_by_server(envoy: &Envoy, count: u64) {
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    assert_eq!(sum(&metrics, "connections_closed_total", &[("closed_by", "server")]), count);
    assert_eq!(sum(&metrics, "connections_active", &[]), 0);
    assert_eq!(sum(&metrics, "commands_in_flight", &[]), 0);
}

fn a_killed_idle_session_is_closed_by_the_server(database: &Database) {
    let envoy = start_envoy(database);
    let mut victim = client(&envoy);
    database.sql(&format!("KILL {}", victim.thread_id));
    // MariaDB sends an error (1927), MySQL only closes.
    while let Some(packet) = victim.next_packet() {
        assert_eq!(packet[0], 0xff);
    }
    drop(victim);
    assert_closed_by_server(&envoy, 1);
}

fn a_killed_busy_session_is_closed_by_the_server(database: &Database) {
    let envoy = start_envoy(database);
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
    assert_closed_by_server(&envoy, 1);
}

fn an_idle_session_is_closed_by_the_server(database: &Database) {
    database.sql("SET GLOBAL wait_timeout = 1");
    let envoy = start_envoy(database);
    let mut idle = client(&envoy);
    let last = idle.next_packet();
    let notice = last.map(|packet| u16::from_le_bytes([packet[1], packet[2]]));
    drop(idle);
    assert_closed_by_server(&envoy, 1);
    let metrics = envoy.stable(QUIET);
    let notices = sums_by(&metrics, "server_notices_total", "errno");
    // MySQL sends an unsolicited error 4031, MariaDB only closes.
    let expected = notice.into_iter().map(|errno| (errno.to_string(), 1)).collect();
    assert_eq!(notices, expected);
}

fn a_connection_over_the_maximum_is_counted(database: &Database) {
    database.sql("SET GLOBAL max_connections = 10");
    let envoy = start_envoy(database);
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
