//! Where greetings lose capabilities and requests for files are judged, everything else of every capture leaves as it came.

use firstword::event::{Event, HazardKind, Sender};
use firstword::rules::ClearCapabilities;

use std::collections::BTreeSet;

use firstword_testing::replay::{Captured, Changes, captures, is_blocked, parts, replay_changed, whole};

/// More than the longest packet that is no row, a public key, in bytes.
const LONGEST_HELD: usize = 500;

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
fn only_the_flags_of_greetings_change() {
    let clear_capabilities = ClearCapabilities { compress: true, zstd: true, ssl: true };
    let changes = Changes { clear_capabilities, ..Changes::default() };
    let mut changed = 0;
    for Captured { name, chunks, .. } in captures() {
        let by_bytes = parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect());
        for chunks in [whole(&chunks).collect(), by_bytes] {
            let (mut come, mut left) = (Vec::new(), Vec::new());
            replay_changed(changes, chunks, |bytes, now| {
                assert_eq!(bytes.len(), now.len(), "{name}: nothing waits");
                come.extend_from_slice(bytes);
                left.extend_from_slice(now);
            });
            assert_eq!(left, cleared(&come), "{name}");
            changed += usize::from(left != come);
        }
    }
    assert!(changed >= 200, "greetings with such flags: {changed}");
}

/// Captures of servers and clients whose packets cannot be followed, so that no request could be judged on them.
pub(crate) const CANNOT_BE_FOLLOWED: [&str; 2] = ["by-hand-greeting-v9", "mysql-cursor-and-none-classic"];

/// The clients of the captures wanted every file they were asked for.
#[test]
fn wanted_files_pass_and_nothing_waits_but_a_packet_that_is_no_row() {
    let changes = Changes { block_local_infile: true, ..Changes::default() };
    let mut asked = 0;
    let mut cut = BTreeSet::new();
    for Captured { name, chunks, .. } in captures() {
        let by_bytes = parts(&chunks, |_, len| (0..len).map(|at| at..at + 1).collect());
        let whole: Vec<_> = whole(&chunks).collect();
        for chunks in [&whole, &by_bytes] {
            let (mut come, mut left) = (Vec::new(), Vec::new());
            let mut waited = 0;
            let events = replay_changed(changes, chunks.iter().copied(), |bytes, now| {
                come.extend_from_slice(bytes);
                left.extend_from_slice(now);
                // What refuses can be longer than what it takes the place of.
                waited = waited.max(come.len().saturating_sub(left.len()));
            });
            if is_blocked(&events) {
                cut.insert(name.clone());
                continue;
            }
            assert_eq!(left, come, "{name}");
            assert!(waited < LONGEST_HELD, "{name}: {waited} bytes waited");
            assert_eq!(count(&events, Event::LocalInfileBlocked), 0, "{name}");
            let undecidable = Event::Hazard(HazardKind::LocalInfileUndecidable);
            assert_eq!(count(&events, undecidable), 0, "{name}");
            asked += count(&events, Event::LocalInfile);
        }
        // With nothing of the kind in a rule, nothing waits.
        let of_server = whole.iter().filter(|(sender, _)| *sender == Sender::Server);
        let mut passed = Vec::new();
        replay_changed(Changes::default(), whole.iter().copied(), |bytes, now| {
            assert_eq!(bytes, now, "{name}");
            passed.push(bytes.len());
        });
        assert_eq!(passed.len(), of_server.count(), "{name}");
    }
    assert!(asked >= 20, "requests for files: {asked}");
    assert_eq!(cut.iter().map(String::as_str).collect::<Vec<_>>(), CANNOT_BE_FOLLOWED);
}
