//! A host that refuses calls. The filter logs it, and traffic continues.

use std::time::Duration;

use firstword::filter::host::HostError;
use firstword_testing::link::Verdict;
use firstword_testing::packets::*;

use super::{Worker, login};

#[test]
fn a_refused_call_is_logged_once() {
    let worker = Worker::start("{}");
    worker.filter.check(Ok(()), &worker.host);
    let refused = HostError { call: "set_shared_data", status: "UNIMPLEMENTED".into() };
    worker.filter.check(Err(refused), &worker.host);
    assert_eq!(
        worker.log(),
        [
            "event=host_refused call=set_shared_data status=UNIMPLEMENTED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
        ]
    );
}

#[test]
fn refused_filter_state_is_logged_with_its_key() {
    let worker = Worker::start(r#"{"access_log": ["user"]}"#);
    worker.host.refused.borrow_mut().insert("set_filter_state");
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    assert_eq!(
        worker.log(),
        [
            "event=host_refused call=set_filter_state key=user status=REFUSED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
        ]
    );
    assert_eq!(worker.host.state("user"), None);
}

#[test]
fn refused_metrics_are_exported_later() {
    let worker = Worker::start("{}");
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    worker.metrics.borrow_mut().is_refusing = true;
    worker.flush();
    assert_eq!(worker.sum("connections_total", &[]), 0);
    worker.metrics.borrow_mut().is_refusing = false;
    worker.flush();
    assert_eq!(worker.sum("connections_total", &[]), 1);
    worker.flush();
    assert_eq!(worker.sum("connections_total", &[]), 1);
}

#[test]
fn a_connection_that_cannot_be_closed_is_closed_on_the_next_tick() {
    let worker =
        Worker::start(r#"{"rules": [{"match": {"ports": [3306]}, "mysql": {"block_local_infile": true}}]}"#);
    let mut streams = [worker.connect()];
    worker.play(&mut streams[0], &login());
    worker.client(&mut streams[0], &command(COM_QUERY, b"SELECT 1"));
    assert_ne!(worker.server(&mut streams[0], &answer([local_infile("/etc/passwd")])), Verdict::Pass);
    worker.log();
    worker.host.take_calls();
    worker.host.refused.borrow_mut().insert("close");
    worker.tick(&mut streams, None);
    assert_eq!(
        worker.log(),
        [
            "event=host_refused call=close status=REFUSED fix=\"allow it in capability_restriction_config if you have one, else report it with the version of Envoy\""
        ]
    );
    worker.host.refused.borrow_mut().clear();
    worker.host.advance(Duration::from_millis(500));
    worker.tick(&mut streams, None);
    assert_eq!(worker.log(), [""; 0]);
    assert_eq!(worker.host.take_calls(), ["close", "close"]);
}
