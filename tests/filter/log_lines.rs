//! The limit of the log, and lines that are logged once.

use std::time::Duration;

use firstword::event::Sender;
use firstword::filter::stream::Stream;
use firstword_testing::packets::*;
use log::Level;

use super::{Worker, login, orders};

/// Ends the inspection of a connection, with one line.
fn desync(worker: &Worker) {
    let mut stream = worker.connect();
    worker.play(&mut stream, &login());
    worker.play(&mut stream, &[(Sender::Server, packet(7, &ok()))]);
    worker.close(stream);
}

#[test]
fn lines_are_limited_and_the_number_of_withheld_ones_is_logged() {
    let worker = Worker::start(r#"{"log": {"max_per_minute": 2}}"#);
    (0..5).for_each(|_| desync(&worker));
    let log = worker.log();
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|line| line.starts_with("event=opaque reason=desync ")), "{log:?}");
    worker.host.advance(Duration::from_secs(59));
    worker.tick(&mut [], None);
    desync(&worker);
    assert_eq!(worker.log(), [""; 0], "the minute is not over");
    worker.host.advance(Duration::from_secs(1));
    worker.tick(&mut [], None);
    assert_eq!(
        worker.host.take_log(),
        [(Level::Warn, "event=log_limit withheld=4 fix=\"raise log.max_per_minute to see them\"".to_owned())]
    );
    desync(&worker);
    assert_eq!(worker.log().len(), 1);
    worker.host.advance(Duration::from_secs(60));
    worker.tick(&mut [], None);
    assert_eq!(worker.log(), [""; 0], "nothing was withheld");
}

#[test]
fn the_level_decides_what_is_logged_and_counted() {
    for (level, lines) in [("off", 0), ("error", 0), ("warn", 1), ("info", 1)] {
        let worker = Worker::start(&format!(r#"{{"log": {{"level": "{level}", "max_per_minute": 1}}}}"#));
        desync(&worker);
        assert_eq!(worker.log().len(), lines, "{level}");
    }
}

#[test]
fn a_server_first_port_is_logged_once() {
    let worker = Worker::start("{}");
    let mut info = orders();
    let mut logged = Vec::new();
    for port in [10_000, 10_001, 10_000] {
        info.destination.as_mut().unwrap().set_port(port);
        let Ok(mut stream) = Stream::open(&worker.filter, info, &worker.host) else { panic!("no room") };
        worker.play(&mut stream, &login()[..1]);
        worker.close(stream);
        let line = format!("event=server_first_undeclared direction=outbound destination=10.0.0.5:{port} ");
        logged.push(worker.log().iter().filter(|logged| logged.starts_with(&line)).count());
    }
    assert_eq!(logged, [1, 1, 0]);
}

#[test]
fn a_silent_server_is_logged_with_its_address() {
    for (upstream, field) in [(None, "upstream=none"), (Some("10.0.0.5:3306"), "upstream=10.0.0.5:3306")] {
        let mut worker = Worker::start("{}");
        worker.host.upstream = upstream;
        let mut streams = [worker.connect()];
        worker.host.advance(Duration::from_secs(5));
        worker.tick(&mut streams, None);
        worker.tick(&mut streams, None);
        let log = worker.log();
        let line = format!(
            "event=greeting_timeout direction=outbound destination=10.0.0.5:3306 cluster=orders {field} "
        );
        assert!(log.len() == 1 && log[0].starts_with(&line), "{log:?}");
    }
}
