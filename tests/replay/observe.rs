//! Where less is looked at, what is looked at tells the same.

use firstword::event::{Event, HandshakeResult, OpaqueReason, Sender};
use firstword::mysql::wire::command::Command;
use firstword::rules::Inspection;

use firstword_testing::capture::Chunks;
use firstword_testing::replay::{Captured, captures, parts, replay_observed, whole};

/// The commands, in order.
fn commands(events: &[Event]) -> Vec<Command> {
    let command = |event: &Event| match event {
        Event::CommandSent(command) | Event::CommandStarted(command) => Some(*command),
        _ => None,
    };
    events.iter().filter_map(command).collect()
}

fn opaque(events: &[Event]) -> Option<OpaqueReason> {
    events.iter().find_map(|event| match event {
        Event::Opaque(reason) => Some(*reason),
        _ => None,
    })
}

/// What is told before the first command, without what depends on the cuts, and the bytes of each sender.
fn login(events: &[Event]) -> (Vec<Event>, [u64; 2]) {
    let mut bytes = [0; 2];
    for event in events {
        if let Event::Bytes { sender, count } = event {
            bytes[*sender as usize] += count;
        }
    }
    let is_command = |event: &&Event| !matches!(event, Event::CommandSent(_) | Event::CommandStarted(_));
    let told = events.iter().take_while(is_command).filter(|event| {
        let phase = |event: &&Event| matches!(event, Event::Greeting { .. } | Event::Handshake { .. });
        phase(event)
    });
    (told.cloned().collect(), bytes)
}

fn byte_by_byte(chunks: &Chunks) -> Vec<(Sender, &[u8])> {
    parts(chunks, |_, len| (0..len).map(|at| at..at + 1).collect())
}

#[test]
fn requests_alone_tell_the_same_commands() {
    let mut compared = 0;
    for Captured { name, chunks, .. } in captures() {
        let all = replay_observed(Inspection::Full, whole(&chunks));
        let requests = replay_observed(Inspection::Requests, whole(&chunks));
        let cut = replay_observed(Inspection::Requests, byte_by_byte(&chunks));
        assert_eq!(login(&requests), login(&all), "{name}");
        assert_eq!(commands(&cut), commands(&requests), "{name}");
        match opaque(&all) {
            // What makes it so is the server's, or may be, and the client's commands go on.
            Some(OpaqueReason::Desync | OpaqueReason::Replication) => {
                assert!(commands(&requests).starts_with(&commands(&all)), "{name}");
            }
            // Without the server's packets a second login cannot be followed.
            None if opaque(&requests) == Some(OpaqueReason::Desync) => {
                assert!(name.starts_with("mariadb-greeted-again"), "{name}");
                assert!(commands(&all).starts_with(&commands(&requests)), "{name}");
            }
            reason => {
                assert_eq!(commands(&requests), commands(&all), "{name}");
                assert_eq!(opaque(&requests), reason, "{name}");
                compared += commands(&all).len();
            }
        }
    }
    assert!(compared > 1000, "{compared} commands");
}

#[test]
fn handshakes_alone_tell_the_same_logins_and_no_command() {
    for Captured { name, chunks, .. } in captures() {
        let all = replay_observed(Inspection::Full, whole(&chunks));
        let handshake = replay_observed(Inspection::Handshake, whole(&chunks));
        assert_eq!(login(&handshake), login(&all), "{name}");
        assert_eq!(commands(&handshake), [], "{name}");
        let accepted =
            all.iter().any(|event| matches!(event, Event::Handshake { result: HandshakeResult::Ok, .. }));
        match opaque(&all) {
            Some(reason @ (OpaqueReason::Tls | OpaqueReason::Compressed | OpaqueReason::NotMysql)) => {
                assert_eq!(opaque(&handshake), Some(reason), "{name}");
            }
            _ => assert_eq!(opaque(&handshake), accepted.then_some(OpaqueReason::Configured), "{name}"),
        }
    }
}
