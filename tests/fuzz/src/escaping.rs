//! Fuzz target: random bytes of a peer as text in a log, in an access log, on a terminal and in JSON. The result contains only
//! harmless characters, and different values stay different.

#![no_main]

mod packets;
mod seeds;

use firstword::escape::{MAX_WORD_LEN, escape, is_text, is_word, json, lines, name, text, word};
use libfuzzer_sys::fuzz_target;

/// Reads `%` and two hexadecimal digits as a byte. Without the mark of a cut.
fn unescape(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).expect("two digits");
        rest = after;
        let digits = std::str::from_utf8(digits).expect("ASCII");
        bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
    }
    bytes
}

/// Asserts that an escaped value is that of `bytes`, or of their beginning.
fn assert_value(escaped: &str, bytes: &[u8], is_allowed: fn(char) -> bool) {
    let value = escaped.strip_suffix("%...").unwrap_or(escaped);
    assert!(value.chars().all(|char| is_allowed(char) || char == '%'), "{value:?}");
    assert_eq!(value.len() != escaped.len(), bytes.len() > MAX_WORD_LEN);
    assert_eq!(unescape(value), bytes[..bytes.len().min(MAX_WORD_LEN)]);
}

fn any_text(bytes: &[u8]) {
    assert_value(&word(bytes), bytes, is_word);
    assert_value(&name(bytes), bytes, is_text);
    let foreign = String::from_utf8_lossy(bytes);
    let shown = text(&foreign);
    assert!(shown.chars().all(is_text), "{shown:?}");
    assert_eq!(text(&shown), shown, "a second call changes nothing");
    assert!(lines(&foreign).chars().all(|char| is_text(char) || char == '\n'));
    assert_eq!(unescape(&escape(bytes, is_word)), bytes);
    let serialised = serde_json::to_string(&foreign).expect("JSON of a text");
    let escaped = json(&serialised);
    assert!(escaped.chars().all(|char| is_text(char) || char == '\n'), "{escaped:?}");
    let value: String = serde_json::from_str(&escaped).expect("the same JSON");
    assert_eq!(value, foreign);
}

/// What servers and clients send first, and characters with an effect on terminals.
fn examples() -> Vec<Vec<u8>> {
    let hostile = "a\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}\u{85}\u{200b}\u{e0041}\u{3164}\n\r%订单\"\\";
    let greetings = packets::captures().into_iter().flat_map(|chunks| chunks.into_iter().take(2));
    greetings.map(|(_, bytes)| bytes.to_vec()).chain([hostile.into(), b"\xff\xc3\x28%41".to_vec()]).collect()
}

fuzz_target!(init: seeds::write(examples()), |bytes: &[u8]| any_text(bytes));
