//! The mode of a newer configuration reaches open connections.

use std::net::SocketAddr;
use std::time::Duration;

use firstword::config::Mode;
use firstword::filter::mode::PublishedMode;
use firstword_testing::link::Verdict;
use firstword_testing::packets::*;

use super::{Worker, login, query};

fn newest(worker: &Worker, mode: Mode) -> Option<PublishedMode> {
    worker.host.advance(Duration::from_secs(1));
    Some(PublishedMode { since: worker.now(), mode })
}

#[test]
fn only_off_ends_inspection_of_an_open_connection() {
    for (mode, opaque, commands) in [(Mode::Active, 0, 2), (Mode::Observe, 0, 2), (Mode::Off, 1, 1)] {
        let worker = Worker::start("{}");
        let mut streams = [worker.connect()];
        worker.play(&mut streams[0], &login());
        worker.play(&mut streams[0], &query("SELECT 1", result_set(&["1"])));
        let newest = newest(&worker, mode);
        worker.tick(&mut streams, newest);
        worker.tick(&mut streams, newest);
        worker.play(&mut streams[0], &query("SELECT 2", result_set(&["2"])));
        worker.flush();
        assert_eq!(worker.sum("opaque_total", &["reason=configured"]), opaque, "{mode:?}");
        assert_eq!(worker.sum("commands_total", &[]), commands, "{mode:?}");
    }
}

#[test]
fn a_mode_has_no_effect_on_connections_that_began_after_it() {
    let worker = Worker::start("{}");
    let newest = newest(&worker, Mode::Off);
    let mut streams = [worker.connect()];
    assert!(streams[0].due(&worker.filter, worker.now(), None).is_some(), "it is counted as waiting");
    worker.tick(&mut streams, newest);
    assert!(streams[0].due(&worker.filter, worker.now(), newest).is_none());
    worker.play(&mut streams[0], &login());
    worker.flush();
    assert_eq!(worker.sum("opaque_total", &[]), 0);
}

#[test]
fn held_bytes_are_resumed_once_when_rules_may_no_longer_change_bytes() {
    let mut worker = Worker::start(
        r#"{"rules": [{"proxy_protocol": {"receive": {"mode": "required", "trusted_networks": ["*"]}}}]}"#,
    );
    worker.host.peer = "10.0.0.9:4000".parse::<SocketAddr>().ok();
    let mut streams = [worker.connect()];
    worker.play(&mut streams[0], &login()[..1]);
    assert_eq!(worker.client(&mut streams[0], b"PROXY TCP4 "), Verdict::Hold);
    worker.host.take_calls();
    let newest = newest(&worker, Mode::Observe);
    worker.tick(&mut streams, newest);
    assert_eq!(worker.host.take_calls(), ["resume"]);
    worker.tick(&mut streams, newest);
    assert_eq!(worker.host.take_calls(), [""; 0]);
    assert_eq!(worker.client(&mut streams[0], &command(COM_QUERY, b"SELECT 1")), Verdict::Pass);
}

#[test]
fn observe_ends_the_protection_of_a_rule() {
    let rules = r#"{"rules": [{"match": {"ports": [3306]}, "mysql": {"block_local_infile": true}}]}"#;
    for (mode, is_blocked) in [(Mode::Active, true), (Mode::Observe, false)] {
        let worker = Worker::start(rules);
        let mut streams = [worker.connect()];
        worker.play(&mut streams[0], &login());
        let newest = newest(&worker, mode);
        worker.tick(&mut streams, newest);
        worker.client(&mut streams[0], &command(COM_QUERY, b"SELECT 1"));
        let verdict = worker.server(&mut streams[0], &answer([local_infile("/etc/passwd")]));
        assert_eq!(verdict != Verdict::Pass, is_blocked, "{mode:?}");
        worker.host.take_calls();
        worker.tick(&mut streams, newest);
        assert_eq!(worker.host.take_calls().contains(&"close"), is_blocked, "{mode:?}");
    }
}
