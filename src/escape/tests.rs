use proptest::prelude::*;
use regex::Regex;

use super::*;

/// Categories and properties, from Unicode's tables in another crate.
const NOT_TEXT: &str = r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}[\p{Zs}--\x20]]";

fn every_char() -> impl Iterator<Item = char> {
    (0..=u32::from(char::MAX)).filter_map(char::from_u32)
}

/// True if no output may contain the character.
fn is_dangerous(char: char) -> bool {
    let named = [
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{a0}',
        '\u{ad}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{2066}',
        '\u{2800}',
        '\u{3000}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e007f}',
        '\u{e0100}',
    ];
    char.is_control() || (char.is_whitespace() && char != ' ') || named.contains(&char) || char > '\u{dffff}'
}

#[test]
fn no_invisible_character_is_text() {
    let not_text = Regex::new(NOT_TEXT).unwrap();
    for char in every_char() {
        let refused = not_text.is_match(char.encode_utf8(&mut [0; 4])) || is_dangerous(char);
        assert!(!refused || !is_text(char), "{:04x}", u32::from(char));
        assert!(!is_word(char) || char.is_ascii_graphic(), "{:04x}", u32::from(char));
    }
}

#[test]
fn letters_of_all_scripts_are_text() {
    let readable = Regex::new(r"[[\p{L}\p{N}\p{P}\p{M}\p{Sc}]--\p{Default_Ignorable_Code_Point}]").unwrap();
    for char in every_char().filter(|char| readable.is_match(char.encode_utf8(&mut [0; 4]))) {
        let is_filler = char == '\u{16fe4}';
        assert!(is_text(char) || is_filler, "{:04x}", u32::from(char));
    }
    for name in ["büro", "订单数据库", "заказы", "注文 (本番)", "आदेश", "주문", "a %b% \"c\\d\"", "🐬"]
    {
        assert_eq!(text(name), name);
        assert_eq!(super::name(name.as_bytes()), name.replace('%', "%25"));
    }
}

#[test]
fn words_are_escaped_for_a_log_and_stay_different() {
    let cases: [(&[u8], &str); 8] = [
        (b"app", "app"),
        (b"", ""),
        (b"a b\n\"c\\%", "a%20b%0A%22c%5C%25"),
        ("büro".as_bytes(), "b%C3%BCro"),
        (b"MySQL Connector/J", "MySQL%20Connector/J"),
        (b"%", "%25"),
        (b"\xff\xc3", "%FF%C3"),
        ("a\u{9b}31m\u{202e}\u{2028}".as_bytes(), "a%C2%9B31m%E2%80%AE%E2%80%A8"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(word(bytes), expected);
    }
    assert_eq!(word(&[b'x'; MAX_WORD_LEN]).len(), MAX_WORD_LEN);
    assert_eq!(word(&[b'x'; MAX_WORD_LEN + 1]), format!("{}%...", "x".repeat(MAX_WORD_LEN)));
    // A character at the limit is cut.
    let border = [&[b'x'; MAX_WORD_LEN - 1], "ü".as_bytes()].concat();
    assert_eq!(word(&border), format!("{}%C3%...", "x".repeat(MAX_WORD_LEN - 1)));
}

#[test]
fn text_stays_in_one_line() {
    assert_eq!(text("a\nb\r\u{1b}[31m\u{9b}\u{3164}"), "a%0Ab%0D%1B[31m%C2%9B%E3%85%A4");
}

/// Reverses [`word`] and [`name`].
fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

/// Bytes of all kinds: text, text with dangerous characters, and arbitrary bytes.
fn foreign() -> impl Strategy<Value = Vec<u8>> {
    let char = prop_oneof![
        any::<char>(),
        prop::sample::select(every_char().filter(|char| is_dangerous(*char)).collect::<Vec<_>>())
    ];
    prop_oneof![
        prop::collection::vec(char, 0..40).prop_map(|chars| chars.iter().collect::<String>().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #[test]
    fn no_output_is_dangerous(bytes in foreign()) {
        prop_assert!(word(&bytes).chars().all(|char| is_word(char) || char == '%'));
        prop_assert!(!name(&bytes).contains(is_dangerous), "{}", name(&bytes));
        let text = text(&String::from_utf8_lossy(&bytes));
        prop_assert!(!text.contains(is_dangerous), "{text:?}");
        prop_assert_eq!(&super::text(&text), &text);
        prop_assert_eq!(&lines(&format!("{text}\n{text}")), &format!("{text}\n{text}"));
        let value = serde_json::json!({ "key": String::from_utf8_lossy(&bytes) });
        for serialised in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let json = json(&serialised);
            prop_assert!(!json.contains(|char| is_dangerous(char) && char != '\n'), "{json:?}");
            prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&json).unwrap(), &value);
        }
    }

    #[test]
    fn different_words_stay_different(bytes in prop::collection::vec(any::<u8>(), 0..=MAX_WORD_LEN)) {
        prop_assert_eq!(&unescape(&word(&bytes)), &bytes);
        prop_assert_eq!(&unescape(&name(&bytes)), &bytes);
    }
}
