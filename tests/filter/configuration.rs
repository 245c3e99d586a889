//! Configurations: refused or effective, their ticks and their end.

use std::cell::RefCell;
use std::time::Duration;

use firstword::filter::Filter;
use firstword::filter::budget::connection_state;
use firstword::filter::rejection::ProxyState;
use firstword_testing::fake_host::{FakeHost, FakeMetrics};
use log::Level;

use super::Worker;

const TYPO: &str = r#"{"mode": "on", "rules": [{"prots": []}]}"#;
const NEW: ProxyState = ProxyState { always_refuses: false, has_accepted: false, has_rejected: false };

/// Returns the filter, and its lines at level error.
fn configure(text: &[u8], proxy: ProxyState) -> (Option<Filter>, Vec<String>) {
    let host = FakeHost::default();
    let filter = Filter::configure(text, || proxy, &host);
    let line = |(level, line)| {
        assert_eq!(level, Level::Error, "{line}");
        line
    };
    (filter, host.take_log().into_iter().map(line).collect())
}

#[test]
fn a_new_proxy_runs_with_the_defaults_and_each_problem_is_logged() {
    for proxy in [NEW, ProxyState { has_accepted: true, has_rejected: true, ..NEW }] {
        let (filter, log) = configure(TYPO.as_bytes(), proxy);
        assert!(filter.is_some_and(|filter| filter.is_rejected()));
        assert_eq!(log.len(), 3, "{log:?}");
        for (line, path) in log.iter().zip(["$.mode", "$.rules[0].prots"]) {
            assert!(line.starts_with(&format!("configuration rejected: {path}: ")), "{line}");
        }
        assert!(log[2].starts_with("event=config_rejected problems=2 "), "{log:?}");
    }
    assert!(!Worker::start("{}").filter.is_rejected());
}

#[test]
fn a_proxy_that_keeps_an_older_configuration_or_always_refuses_logs_each_problem_only() {
    for proxy in [
        ProxyState { has_accepted: true, ..NEW },
        ProxyState { always_refuses: true, ..NEW },
        ProxyState { always_refuses: true, has_accepted: true, has_rejected: true },
    ] {
        let (filter, log) = configure(TYPO.as_bytes(), proxy);
        assert!(filter.is_none(), "{proxy:?}");
        assert_eq!(log.len(), 2, "{log:?}");
        for (line, path) in log.iter().zip(["$.mode", "$.rules[0].prots"]) {
            assert!(line.starts_with(&format!("configuration refused: {path}: ")), "{line}");
        }
    }
}

#[test]
fn a_new_proxy_refuses_a_text_with_a_protecting_word() {
    for (text, word) in [
        (r#"{"mode": "on", "rules": [{"proxy_protocol": {}}]}"#, Some("proxy_protocol")),
        (r#"{"mode": "on", "rules": [{"tls": {}}]}"#, Some("tls")),
        (
            r#"{"mode": "on", "rules": [{"mysql": {"clear_capabilities": ["zstd"]}}]}"#,
            Some("clear_capabilities"),
        ),
        (r#"{"mode": "on", "rules": [{"mysql": {"block_local_infile": true}}]}"#, Some("block_local_infile")),
        (r#"{"mode": "on", "access_log": ["user"]}"#, Some("user")),
        (r#"{"mode": "on", "access_log": ["schema"]}"#, Some("schema")),
        (r#"{"mode": "on", "access_log": ["source"]}"#, Some("source")),
        (r#"{"mode": "on", "access_log": ["opaque_reason"]}"#, Some("opaque_reason")),
        // A typo in the protecting word itself.
        (r#"{"rules": [{"match": {"ports": [3306]}, "proxy_protocl": {}}]}"#, Some("proxy_protocol")),
        // Text that is not JSON has no quotes.
        ("rules: [{mysql: {block_local_infile: true}}]", Some("block_local_infile")),
        (r#"{"rules": [{"tls": "#, Some("tls")),
        ("\n\x0e\n\x0eproxy_protocol\x12\x00", Some("proxy_protocol")),
        (r#"{"mode": "on", "username": "the user"}"#, None),
        (r#"{"mode": "on", "rules": [{"name": "users-tls"}]}"#, None),
        ("mode: on", None),
        ("{", None),
    ] {
        let (filter, log) = configure(text.as_bytes(), NEW);
        assert_eq!(filter.is_none(), word.is_some(), "{text}");
        let named = word.map(|word| format!("event=config_refused word={word} "));
        let last = log.last().unwrap();
        assert!(last.starts_with(&named.unwrap_or_else(|| "event=config_rejected ".to_owned())), "{log:?}");
        let verb = if word.is_some() { "refused" } else { "rejected" };
        assert!(log[0].starts_with(&format!("configuration {verb}: $")), "{log:?}");
    }
}

#[test]
fn the_gauge_of_rejected_configurations_is_exported_on_the_next_tick() {
    let (filter, _) = configure(TYPO.as_bytes(), NEW);
    let (filter, mut metrics) = (filter.unwrap(), FakeMetrics::default());
    let mut tick = |expected| {
        filter.end_tick(None, &mut metrics);
        assert_eq!(metrics.sum("config_rejected", &[]), expected);
    };
    tick(1);
    filter.count_as_rejected(true);
    tick(1);
    filter.count_as_rejected(false);
    tick(0);
    filter.count_as_rejected(true);
    tick(1);
    filter.end(None, &mut metrics);
    assert_eq!(metrics.sum("config_rejected", &[]), 0);
    // A connection ends later.
    filter.count_as_rejected(true);
    filter.end(None, &mut metrics);
    assert_eq!(metrics.sum("config_rejected", &[]), 0);

    let worker = Worker::start("{}");
    worker.filter.count_as_rejected(true);
    worker.flush();
    assert_eq!(worker.sum("config_rejected", &[]), 0, "a good configuration is never counted");
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
    let line = "event=host_refused call=declare key=user status=REFUSED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\"".to_owned();
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
