use bytes::Bytes;

use super::*;
use crate::clock::Clock;
use crate::connection::chunk::ServerVerdict;
use crate::connection::rewrite::Withheld;
use crate::event::details::Details;
use crate::rules::ClearCapabilities;

const COMPRESS: u32 = 1 << 5;
const SSL: u32 = 1 << 11;
const ZSTD: u32 = 1 << 26;
const EVERYTHING: ClearCapabilities = ClearCapabilities { compress: true, zstd: true, ssl: true };

/// Greeting with these flags, and with MariaDB's extended flags.
fn greeting(version: &str, capabilities: u32, extended: u32) -> Vec<u8> {
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut payload =
        [b"\x0a", version.as_bytes(), b"\0\xff\xff\xff\xff\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\0"].concat();
    payload.extend([a, b, 0xff, 0xff, 0xff, c, d, 21, 0, 0, 0, 0, 0, 0]);
    payload.extend(extended.to_le_bytes());
    payload.extend(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0caching_sha2_password\0");
    packet(&payload)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes(), payload].concat()
}

/// Returns the forwarded bytes of these chunks, and how often the removed offer of TLS is reported.
fn forward(clear: ClearCapabilities, chunks: &[&[u8]]) -> (Vec<u8>, usize) {
    let rules = Rules { clear_capabilities: clear, ..Rules::observe_only() };
    let stage = GreetingFilter::new(&rules, Timestamp::default());
    let mut stage = stage.expect("something to clear");
    let (mut forwarded, mut events) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        let (mut clock, mut details) = (Clock::new(&Timestamp::default), Details::default());
        let mut withheld = Withheld::default();
        let mut rewrite = Rewrite::of_server(&chunk, &withheld, 0);
        let flow = stage.server_after(
            &mut rewrite,
            &Seen::default(),
            &mut Output::new(&mut events, &mut clock, &mut details),
        );
        match rewrite.server_verdict(flow, &mut withheld) {
            ServerVerdict::Pass => forwarded.extend_from_slice(&chunk),
            verdict @ (ServerVerdict::HandOver(_) | ServerVerdict::Resume(_)) => panic!("{verdict:?}"),
            ServerVerdict::Edit(edit) => {
                assert!(edit.drain <= chunk.len() && edit.prepend.len() == edit.drain);
                forwarded.extend(edit.prepend);
                forwarded.extend_from_slice(&chunk[edit.drain..]);
            }
        }
    }
    (forwarded, events.iter().filter(|event| **event == Event::TlsCleared).count())
}

/// Asserts that `before` becomes `after` however it is cut, that no byte is held, and the number of reports of removed TLS.
fn assert_becomes(clear: ClearCapabilities, before: &[u8], after: &[u8], reports: usize) {
    for cut in 0..=before.len() {
        let (first, second) = before.split_at(cut);
        assert_eq!(forward(clear, &[first, second]), (after.to_vec(), reports), "cut at {cut}");
        assert_eq!(forward(clear, &[first]).0, after[..cut], "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = before.chunks(1).collect();
    assert_eq!(forward(clear, &bytes), (after.to_vec(), reports));
}

#[test]
fn only_the_flags_change() {
    for version in ["9.7.0", "", "5.5.5-10.11.19-MariaDB-0+deb12u1-log", &"8".repeat(300)] {
        for (compress, zstd, ssl) in
            [(true, false, false), (false, true, false), (false, false, true), (true, true, true)]
        {
            let flag = |wanted, flag| if wanted { flag } else { 0 };
            let cleared = flag(compress, COMPRESS) | flag(zstd, ZSTD) | flag(ssl, SSL);
            let before = greeting(version, u32::MAX, u32::MAX);
            let after = greeting(version, !cleared, u32::MAX);
            assert_becomes(ClearCapabilities { compress, zstd, ssl }, &before, &after, usize::from(ssl));
        }
    }
}

#[test]
fn a_greeting_without_the_flags_is_unchanged() {
    let untouched = greeting("5.7.44", !(COMPRESS | ZSTD | SSL), 0);
    assert_becomes(EVERYTHING, &untouched, &untouched, 0);
    assert!(GreetingFilter::new(&Rules::observe_only(), Timestamp::default()).is_none());
}

#[test]
fn bytes_after_the_greeting_are_unchanged() {
    let next = vec![0xff; 40];
    let before = [greeting("9.7.0", u32::MAX, 0), next.clone()].concat();
    let after = [greeting("9.7.0", !(COMPRESS | ZSTD | SSL), 0), next].concat();
    assert_becomes(EVERYTHING, &before, &after, 1);
}

/// Servers before 4.1 end their greeting after the lower flags.
#[test]
fn a_short_greeting_has_no_upper_flags() {
    let short = |lower: u8| {
        packet(
            &[b"\x0a4.0.1\0\x01\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0".as_slice(), &[lower, 0xff]].concat(),
        )
    };
    let next = [0xff; 12];
    let before = [short(0xff), next.to_vec()].concat();
    let mut after = [short(0xdf), next.to_vec()].concat();
    let ssl = after.len() - next.len() - 1;
    after[ssl] = 0xf7;
    assert_becomes(EVERYTHING, &before, &after, 1);
}

#[test]
fn bytes_that_are_not_a_greeting_of_version_10_are_unchanged() {
    let mut numbered = greeting("9.7.0", u32::MAX, 0);
    numbered[3] = 1;
    for other in [
        packet(&[b"\x095.0\0".as_slice(), &[0xff; 60]].concat()),
        packet(&[b"\xff\x10\x04".as_slice(), &[0xff; 60]].concat()),
        packet(&[&[10], [0xff; 60].as_slice()].concat()),
        packet(b""),
        numbered,
        b"220 mail ESMTP\r\n\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ] {
        assert_becomes(EVERYTHING, &other, &other, 0);
    }
}
