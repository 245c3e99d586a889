//! The budget of connection state: connections beyond it are counted and not inspected.

use firstword::connection::chunk::Edit;
use firstword::event::Sender;
use firstword::filter::budget::connection_state;
use firstword::filter::stream::Stream;
use firstword::filter::uninspected::UninspectedStream;
use firstword_testing::packets::*;

use super::{ORDERS_METRICS, Worker, login};

const MIB: usize = 1 << 20;

/// Opens connections until the budget has no room.
fn fill(worker: &Worker) -> (Vec<Stream>, UninspectedStream) {
    let mut streams = Vec::new();
    loop {
        match worker.open() {
            Ok(stream) => streams.push(stream),
            Err(connection) => return (streams, connection),
        }
        assert!(streams.len() < 10_000, "the budget has a limit");
    }
}

#[test]
fn a_connection_beyond_the_budget_is_counted_as_opaque_and_logged() {
    let worker =
        Worker::start(r#"{"limits": {"connection_state": "1MiB"}, "access_log": ["user", "opaque_reason"]}"#);
    let (streams, mut connection) = fill(&worker);
    assert!(connection_state() <= MIB && connection_state() > MIB - 4096, "{}", connection_state());
    assert!(!connection.is_refused());
    assert_eq!(worker.log(), [""; 0], "its cluster is not known yet");
    let mut data = |sender, size| connection.data(&worker.filter, sender, size, false, &worker.host);
    assert_eq!((data(Sender::Server, 70), data(Sender::Client, 30)), (None, None));
    connection.close(&worker.filter, &worker.host);
    let log = worker.log();
    assert_eq!(log.len(), 1, "{log:?}");
    let line =
        "event=opaque reason=memory direction=outbound destination=10.0.0.5:3306 cluster=orders cause=\"";
    assert!(log[0].starts_with(line), "{log:?}");
    assert_eq!(
        (worker.host.state("user").as_deref(), worker.host.state("opaque_reason").as_deref()),
        (Some("%"), Some("memory"))
    );
    worker.flush();
    assert_eq!(
        worker.metrics.borrow().counted(ORDERS_METRICS),
        [
            "bytes_total{sender=client} 30",
            "bytes_total{sender=server} 70",
            "connections_closed_total{phase=opaque,closed_by=client} 1",
            "connections_total{protocol=mysql} 1",
            "opaque_total{reason=memory} 1",
        ]
    );
    drop(streams);
    assert_eq!(connection_state(), 0);
    assert!(worker.open().is_ok());
}

#[test]
fn a_protected_connection_beyond_the_budget_is_refused_and_no_byte_of_it_is_forwarded() {
    let worker = Worker::start(
        r#"{"limits": {"connection_state": "1MiB"}, "rules": [{"mysql": {"block_local_infile": true}}]}"#,
    );
    let (_streams, mut connection) = fill(&worker);
    assert!(connection.is_refused());
    let log = worker.log();
    let fields: Vec<_> = log.iter().flat_map(|line| line.split(' ').take(2)).collect();
    assert_eq!(fields, ["event=opaque", "reason=memory", "event=protection_lost", "reason=memory"]);
    for sender in [Sender::Client, Sender::Server] {
        let verdict = connection.data(&worker.filter, sender, 30, false, &worker.host);
        assert_eq!(verdict, Some(Edit { drain: 30, prepend: Vec::new() }));
    }
    connection.close(&worker.filter, &worker.host);
    worker.flush();
    assert_eq!(worker.sum("protection_lost_total", &["reason=memory"]), 1);
    assert_eq!(worker.sum("bytes_total", &[]), 0);
}

#[test]
fn a_tick_ends_the_inspection_of_a_connection_above_its_share() {
    let worker = Worker::start(
        r#"{"limits": {"connection_state": "1MiB"}, "defaults": {"mysql": {"slow_command": "1ms"}}}"#,
    );
    let (mut streams, _) = fill(&worker);
    // The first connection needs more than the minimum share, because its statements are in flight.
    streams.truncate(streams.len() - 20);
    worker.play(&mut streams[0], &login());
    for n in 0..4 {
        worker.host.advance(std::time::Duration::from_micros(1));
        let statement = command(COM_QUERY, format!("SELECT {n:0>1016}").as_bytes());
        worker.play(&mut streams[0], &[(Sender::Client, statement)]);
    }
    assert!(connection_state() > MIB / 4 * 3 && connection_state() <= MIB, "{}", connection_state());
    worker.flush();
    assert_eq!(worker.sum("opaque_total", &[]), 0);
    worker.tick(&mut streams, None);
    worker.flush();
    assert_eq!(worker.sum("opaque_total", &["reason=memory"]), 1);
    assert_eq!(worker.sum("commands_in_flight", &[]), 0);
}
