//! `clear_capabilities` changes only flags of the greeting, and `block_local_infile` blocks only unsolicited file requests.

use std::collections::BTreeSet;

use firstword::event::{Event, HazardKind, Sender};
use firstword::rules::ClearCapabilities;

use firstword_testing::replay::{
    Captured, Changes, byte_by_byte, captures, is_blocked, replay_changed, whole,
};

/// Maximum number of bytes that are held. The longest packet that is not a row is a public key.
const MAX_HELD: usize = 500;

/// The server's bytes with the flags of COMPRESS, SSL and ZSTD cleared in the greeting.
pub(crate) fn cleared(server: &[u8]) -> Vec<u8> {
    let mut bytes = server.to_vec();
    if bytes.get(3..5) == Some(&[0, 10]) {
        let version = bytes.iter().skip(5).position(|byte| *byte == 0).expect("the end of the version");
        let flags = 5 + version + 1 + 4 + 8 + 1;
        bytes[flags] &= !0x20;
        bytes[flags + 1] &= !0x08;
        bytes[flags + 6] &= !0x04;
    }
    bytes
}

fn count(events: &[Event], wanted: Event) -> usize {
    events.iter().filter(|event| **event == wanted).count()
}

#[test]
fn clearing_changes_only_flags_of_the_greeting() {
    let clear_capabilities = ClearCapabilities { compress: true, zstd: true, ssl: true };
    let changes = Changes { clear_capabilities, ..Changes::default() };
    let mut changed = 0;
    for Captured { name, chunks, .. } in captures() {
        for chunks in [whole(&chunks).collect(), byte_by_byte(&chunks)] {
            let (mut arrived, mut left) = (Vec::new(), Vec::new());
            replay_changed(changes, chunks, |bytes, now| {
                assert_eq!(bytes.len(), now.len(), "{name}: nothing is held");
                arrived.extend_from_slice(bytes);
                left.extend_from_slice(now);
            });
            assert_eq!(left, cleared(&arrived), "{name}");
            changed += usize::from(left != arrived);
        }
    }
    assert!(changed >= 200, "greetings with such flags: {changed}");
}

/// Captures whose packets the filter cannot inspect, so that it cannot judge file requests on them.
pub(crate) const NOT_INSPECTABLE: [&str; 2] = ["by-hand-greeting-v9", "mysql-cursor-and-none-classic"];

/// In the captures, the client's statement named each file that the server requested.
#[test]
fn solicited_file_requests_pass_and_only_packets_that_are_not_rows_are_held() {
    let changes = Changes { block_local_infile: true, ..Changes::default() };
    let mut requests = 0;
    let mut blocked = BTreeSet::new();
    for Captured { name, chunks, .. } in captures() {
        let by_bytes = byte_by_byte(&chunks);
        let whole: Vec<_> = whole(&chunks).collect();
        for chunks in [&whole, &by_bytes] {
            let (mut arrived, mut left) = (Vec::new(), Vec::new());
            let mut held = 0;
            let events = replay_changed(changes, chunks.iter().copied(), |bytes, now| {
                arrived.extend_from_slice(bytes);
                left.extend_from_slice(now);
                // The error can be longer than the request that it replaces.
                held = held.max(arrived.len().saturating_sub(left.len()));
            });
            if is_blocked(&events) {
                blocked.insert(name.clone());
                continue;
            }
            assert_eq!(left, arrived, "{name}");
            assert!(held < MAX_HELD, "{name}: {held} bytes held");
            assert_eq!(count(&events, Event::LocalInfileBlocked), 0, "{name}");
            let undecidable = Event::Hazard(HazardKind::LocalInfileUndecidable);
            assert_eq!(count(&events, undecidable), 0, "{name}");
            requests += count(&events, Event::LocalInfile);
        }
        // Without such a rule, nothing is held.
        let of_server = whole.iter().filter(|(sender, _)| *sender == Sender::Server);
        let mut passed = Vec::new();
        replay_changed(Changes::default(), whole.iter().copied(), |bytes, now| {
            assert_eq!(bytes, now, "{name}");
            passed.push(bytes.len());
        });
        assert_eq!(passed.len(), of_server.count(), "{name}");
    }
    assert!(requests >= 20, "file requests: {requests}");
    assert_eq!(blocked.iter().map(String::as_str).collect::<Vec<_>>(), NOT_INSPECTABLE);
}
