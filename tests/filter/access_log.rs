//! Access-log state: names at once, counts on the tick and at the end.

use firstword::event::Sender;
use firstword_testing::packets::*;

use super::{Worker, login, query};

#[test]
fn counts_are_written_on_the_tick_and_at_the_end_and_only_if_they_changed() {
    let worker = Worker::start(r#"{"access_log": ["user", "commands", "errors"]}"#);
    let state = |key| worker.host.state(key);
    let writes = || worker.host.take_calls().iter().filter(|call| **call == "set_filter_state").count();
    let mut streams = [worker.connect()];
    worker.play(&mut streams[0], &login());
    assert_eq!((state("user").as_deref(), state("commands")), (Some("app"), None));
    worker.play(&mut streams[0], &query("SELECT 1", [err(1064)]));
    assert_eq!((state("commands"), writes()), (None, 1), "not on the data path");
    worker.tick(&mut streams, None);
    assert_eq!(
        (state("commands").as_deref(), state("errors").as_deref(), writes()),
        (Some("1"), Some("1"), 2)
    );
    worker.tick(&mut streams, None);
    assert_eq!(writes(), 0);
    worker.play(&mut streams[0], &[(Sender::Client, command(COM_QUIT, b""))]);
    streams.into_iter().for_each(|stream| worker.close(stream));
    assert_eq!((state("commands").as_deref(), writes()), (Some("2"), 1));
}

#[test]
fn a_callback_with_several_accounts_makes_the_account_unreadable() {
    let worker = Worker::start(r#"{"access_log": ["user"]}"#);
    let change = |user: &str| command(COM_CHANGE_USER, format!("{user}\0\0\0").as_bytes());
    for (callbacks, user) in [
        (vec![change("evil"), change("app")], "app"),
        (vec![[change("evil"), change("app")].concat()], "%"),
        (vec![[change("app"), change("app")].concat()], "app"),
    ] {
        let mut stream = worker.connect();
        worker.play(&mut stream, &login());
        callbacks.iter().for_each(|bytes| drop(worker.client(&mut stream, bytes)));
        assert_eq!(worker.host.state("user").as_deref(), Some(user));
    }
}

#[test]
fn nothing_is_written_unless_it_is_configured() {
    let worker = Worker::start("{}");
    let mut streams = [worker.connect()];
    worker.play(&mut streams[0], &login());
    worker.play(&mut streams[0], &query("SELECT 1", [ok()]));
    worker.tick(&mut streams, None);
    streams.into_iter().for_each(|stream| worker.close(stream));
    assert!(!worker.host.take_calls().contains(&"set_filter_state"));
}
