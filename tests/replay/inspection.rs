//! The reduced extents of inspection emit the same events about the phases that they inspect.

use firstword::event::{Event, HandshakeResult, OpaqueReason};
use firstword::mysql::wire::command::Command;
use firstword::rules::Inspection;

use firstword_testing::replay::{Captured, byte_by_byte, captures, replay_inspection, whole};

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

/// Events of the login, without those that depend on the cuts, and the number of bytes of each side.
fn login(events: &[Event]) -> (Vec<Event>, [u64; 2]) {
    let mut bytes = [0; 2];
    for event in events {
        if let Event::Bytes { sender, count } = event {
            bytes[*sender as usize] += count;
        }
    }
    let is_before_commands =
        |event: &&Event| !matches!(event, Event::CommandSent(_) | Event::CommandStarted(_));
    let is_login = |event: &&Event| matches!(event, Event::Greeting { .. } | Event::Handshake { .. });
    (events.iter().take_while(is_before_commands).filter(is_login).cloned().collect(), bytes)
}

#[test]
fn inspection_of_requests_emits_the_same_commands() {
    let mut compared = 0;
    for Captured { name, chunks, .. } in captures() {
        let all = replay_inspection(Inspection::Full, whole(&chunks));
        let requests = replay_inspection(Inspection::Requests, whole(&chunks));
        let cut = replay_inspection(Inspection::Requests, byte_by_byte(&chunks));
        assert_eq!(login(&requests), login(&all), "{name}");
        assert_eq!(commands(&cut), commands(&requests), "{name}");
        match opaque(&all) {
            // The server's packets cause it, or may cause it. The client's commands are still counted.
            Some(OpaqueReason::Desync | OpaqueReason::Replication) => {
                assert!(commands(&requests).starts_with(&commands(&all)), "{name}");
            }
            // A second login cannot be inspected without the server's packets.
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
fn inspection_of_the_handshake_emits_the_same_logins_and_no_commands() {
    for Captured { name, chunks, .. } in captures() {
        let all = replay_inspection(Inspection::Full, whole(&chunks));
        let handshake = replay_inspection(Inspection::Handshake, whole(&chunks));
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
