//! Connections from their beginning to their end, with exact metrics.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use firstword::connection::chunk::Edit;
use firstword::event::{ClosedBy, Sender};
use firstword::filter::host::ConnectionInfo;
use firstword::filter::stream::Stream;
use firstword_testing::link::Verdict;
use firstword_testing::packets::*;

use super::{ORDERS_METRICS, Worker, login, orders, query};

#[test]
fn a_session_is_counted_exactly() {
    let worker = Worker::start("{}");
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    let select = query("SELECT a", result_set(&["1", "22"]));
    worker.play(&mut stream, &select[..1]);
    worker.host.advance(Duration::from_millis(2));
    worker.play(&mut stream, &select[1..]);
    worker.play(&mut stream, &query("SELECT b", [err(1054)]));
    worker.play(&mut stream, &[(Sender::Client, command(COM_QUIT, b""))]);
    worker.close(stream);
    worker.flush();
    let bytes = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>();
    let client = bytes(&[
        packet(1, &handshake_response(CLIENT_CAPABILITIES)),
        command(COM_QUERY, b"SELECT a"),
        command(COM_QUERY, b"SELECT b"),
        command(COM_QUIT, b""),
    ]);
    let server =
        bytes(&[greeting(), packet(2, &ok()), answer(result_set(&["1", "22"])), answer([err(1054)])]);
    assert_eq!(
        worker.metrics.borrow().counted(ORDERS_METRICS),
        [
            format!("bytes_total{{sender=client}} {client}"),
            format!("bytes_total{{sender=server}} {server}"),
            "command_duration_microseconds_sum{command=query} 2000".into(),
            "command_duration_seconds_count{command=query} 2".into(),
            "commands_total{command=query} 2".into(),
            "commands_total{command=quit} 1".into(),
            "connections_closed_total{phase=command,closed_by=client} 1".into(),
            "connections_total{protocol=mysql} 1".into(),
            "errors_total{errno=1054} 1".into(),
            "greeting_duration_seconds_count 1".into(),
            "greetings_total{flavor=mariadb,release=10.11} 1".into(),
            "handshake_duration_seconds_count 1".into(),
            "handshakes_total{result=ok} 1".into(),
            "rows_total 2".into(),
            "server_first_detected_total{protocol=mysql} 1".into(),
            "statements_total{verb=select} 2".into(),
        ]
    );
    assert_eq!(worker.host.take_calls(), ["cluster"], "once");
    assert_eq!(worker.log(), [""; 0]);
}

#[test]
fn the_host_call_for_the_closing_side_is_made_only_if_the_traffic_does_not_show_it() {
    for by in [ClosedBy::Client, ClosedBy::Server, ClosedBy::Proxy] {
        let mut worker = Worker::start("{}");
        worker.host.closed_by = by;
        let closed = |worker: &Worker, by: ClosedBy| {
            worker.flush();
            worker.sum("connections_closed_total", &[&format!("closed_by={}", by.label())])
        };
        worker.close(worker.connect());
        assert_eq!(worker.host.take_calls(), ["closed_by", "cluster"]);
        assert_eq!(closed(&worker, by), 1);
        let before = closed(&worker, ClosedBy::Client);
        let mut stream = worker.connect();
        stream.client(&worker.filter, &Bytes::new(), true, &worker.host);
        worker.close(stream);
        assert_eq!(worker.host.take_calls(), ["cluster"], "the client has ended its stream");
        assert_eq!(closed(&worker, ClosedBy::Client), before + 1);
    }
}

#[test]
fn a_named_rule_saves_the_host_call_for_the_cluster() {
    let worker = Worker::start(r#"{"rules": [{"name": "db"}]}"#);
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    worker.close(stream);
    assert_eq!(worker.host.take_calls(), ["closed_by"]);
    worker.flush();
    assert_eq!(worker.sum("connections_total", &["destination=db"]), 1);
}

#[test]
fn a_connection_without_a_cluster_has_the_destination_passthrough() {
    let mut worker = Worker::start(r#"{"metrics": {"labels": ["destination", "port"]}}"#);
    worker.host.cluster = None;
    let unnamed = ConnectionInfo { destination: "10.0.0.5:10000".parse().ok(), ..orders() };
    for info in [orders(), unnamed, ConnectionInfo { destination: None, ..orders() }] {
        let Ok(stream) = Stream::open(&worker.filter, info, &worker.host) else { panic!("no room") };
        worker.close(stream);
    }
    worker.flush();
    let closed = |port| worker.sum("connections_closed_total", &["destination=passthrough", port]);
    assert_eq!((closed("port=3306"), closed("port=other")), (1, 2));
}

#[test]
fn the_address_of_the_peer_is_read_only_if_rules_handle_proxy_headers() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 3306\r\n";
    let rules = r#"{"rules": [{"match": {"ports": [3306]}, "proxy_protocol":
        {"receive": {"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}}}]}"#;
    for (peer, is_closed) in [("10.0.0.9:4000", false), ("192.0.2.9:4000", true)] {
        let mut worker = Worker::start(rules);
        worker.host.peer = peer.parse::<SocketAddr>().ok();
        let mut stream = worker.connect();
        assert_eq!(worker.host.take_calls(), ["peer"]);
        worker.play(&mut stream, &login()[..1]);
        let verdict = worker.client(&mut stream, HEADER);
        let strip = Verdict::Edit(Edit { drain: HEADER.len(), prepend: Vec::new() });
        assert_eq!(verdict, if is_closed { Verdict::Close } else { strip });
        let log = worker.log();
        assert_eq!(log.len(), usize::from(is_closed), "{log:?}");
        assert!(log.iter().all(|line| line.contains(&format!(" peer={peer} direction=outbound"))), "{log:?}");
    }
    let worker = Worker::start("{}");
    worker.connect();
    assert_eq!(worker.host.take_calls(), [""; 0]);
}

#[test]
fn a_callback_with_more_events_than_the_lists_keep_is_counted_in_full() {
    let worker = Worker::start("{}");
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    // Each command emits an event.
    let flood = command(COM_PING, b"").repeat(20_000);
    worker.play(&mut stream, &[(Sender::Client, flood)]);
    worker.flush();
    assert_eq!(worker.sum("commands_in_flight", &[]), 20_000);
    worker.close(stream);
    worker.flush();
    assert_eq!(worker.sum("commands_in_flight", &[]), 0);
}
