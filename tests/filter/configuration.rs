//! Configurations: refused or effective, their ticks and their end.

use std::cell::RefCell;
use std::time::Duration;

use firstword::filter::Filter;
use firstword::filter::budget::connection_state;
use firstword_testing::fake_host::{FakeHost, FakeMetrics};
use log::Level;

use super::Worker;

#[test]
fn each_problem_of_a_refused_configuration_is_logged() {
    let host = FakeHost::default();
    assert!(Filter::configure(br#"{"mode": "on", "rules": [{"prots": []}]}"#, &host).is_none());
    let log = host.take_log();
    assert_eq!(log.len(), 2, "{log:?}");
    for path in ["$.mode", "$.rules[0].prots"] {
        let problem = format!("configuration refused: {path}: ");
        assert!(log.iter().any(|(level, line)| *level == Level::Error && line.starts_with(&problem)));
    }
}

#[test]
fn the_start_is_logged_at_level_info() {
    for (level, lines) in [("info", 1), ("warn", 0)] {
        let worker = Worker::start(&format!(r#"{{"log": {{"level": "{level}"}}}}"#));
        assert_eq!(
            worker.log(),
            [""; 0],
            "no line before the shell reports that the configuration is effective"
        );
        worker.filter.log_start(&worker.host);
        let line = format!("event=configured version={} commit={}", firstword::VERSION, firstword::COMMIT);
        assert_eq!(worker.log(), vec![line; lines]);
    }
}

#[test]
fn a_flush_is_due_after_the_interval_and_a_tick_takes_half_a_second_at_most() {
    for (interval, period, ticks) in
        [(100, 100, 1), (500, 500, 1), (1000, 500, 2), (1250, 500, 3), (60_000, 500, 120)]
    {
        let worker = Worker::start(&format!(r#"{{"metrics": {{"flush_interval": "{interval}ms"}}}}"#));
        assert_eq!(worker.filter.tick_period(), Duration::from_millis(period));
        for flush in 1..=2 {
            for _ in 1..ticks {
                worker.tick(&mut [], None);
                assert_eq!(worker.sum("heartbeat_total", &[]), (flush - 1) * ticks, "{interval} ms");
            }
            worker.tick(&mut [], None);
            assert_eq!(worker.sum("heartbeat_total", &[]), flush * ticks, "{interval} ms");
        }
    }
}

#[test]
fn keys_of_filter_state_are_declared_and_refusals_logged_at_level_info() {
    let worker = Worker::start(r#"{"access_log": ["user", "commands"], "log": {"level": "info"}}"#);
    let declared = RefCell::new(Vec::new());
    worker.filter.declare_filter_state(&worker.host, |key| {
        declared.borrow_mut().push(key.to_owned());
        let error = firstword::filter::host::HostError { call: "declare", status: "REFUSED".into() };
        if key.ends_with("user") { Err(error) } else { Ok(()) }
    });
    assert_eq!(declared.take(), ["firstword.user", "firstword.commands"]);
    let line = "event=host_refused call=declare key=user status=REFUSED".to_owned();
    assert_eq!(worker.host.take_log(), [(Level::Info, line)]);
    Worker::start("{}").filter.declare_filter_state(&worker.host, |key| panic!("{key} is declared"));
}

#[test]
fn the_end_subtracts_the_gauges_of_the_worker() {
    let worker = Worker::start("{}");
    let mut streams = [worker.connect()];
    worker.filter.end_tick(Some(1 << 20), &mut *worker.metrics.borrow_mut());
    worker.flush();
    assert_eq!(worker.sum("vm_memory_bytes", &[]), 1 << 20);
    assert_eq!(worker.sum("connection_state_bytes", &[]), connection_state() as i64);
    assert!(!worker.filter.has_ended());
    worker.filter.end(Some(-(1 << 20)), &mut *worker.metrics.borrow_mut());
    assert!(worker.filter.has_ended());
    let is_zero = |gauge: &&str| worker.sum(gauge, &[]) == 0;
    let gauges = ["vm_memory_bytes", "connection_state_bytes", "series"];
    assert_eq!(gauges.iter().filter(|gauge| is_zero(gauge)).count(), 3);
    // A connection that ends later is still counted.
    worker.tick(&mut streams, None);
    streams.into_iter().for_each(|stream| worker.close(stream));
    worker.filter.end(None, &mut *worker.metrics.borrow_mut());
    assert_eq!(gauges.iter().filter(|gauge| is_zero(gauge)).count(), 3);
    assert_eq!(worker.sum("connections_closed_total", &[]), 1);
}

#[test]
fn without_a_vm_its_memory_is_zero() {
    let mut metrics = FakeMetrics::default();
    let worker = Worker::start("{}");
    worker.filter.end_tick(None, &mut metrics);
    worker.filter.flush(&mut metrics);
    assert_eq!(metrics.sum("vm_memory_bytes", &[]), 0);
    assert_eq!(metrics.sum("heartbeat_total", &[]), 1);
}
