//! Escapes text from a peer or a document for a log, an access log or a terminal. No other code does that.
//!
//! | text                                   | function                                  |
//! |----------------------------------------|-------------------------------------------|
//! | a value in a log line or access log    | [`word`], or [`escape`] with [`is_word`]  |
//! | a peer's name on a terminal            | [`name`]                                  |
//! | a message on a terminal                | [`text`], [`lines`]                       |
//! | JSON that a terminal may show          | [`json`]                                  |

/// Maximum length of a word in bytes, before escaping. Longer words are cut. No server allows longer names.
pub const MAX_WORD_LEN: usize = 256;

/// Writes characters that `keep` refuses, and bytes that are not UTF-8, as `%` and two hexadecimal digits for each byte.
#[must_use]
pub fn escape(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if keep(char) {
                out.push(char);
            } else {
                push_bytes(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_bytes(&mut out, chunk.invalid());
    }
    out
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
    }
}

fn hex_digit(digit: u8) -> char {
    char::from_digit(digit.into(), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// Escapes a peer's bytes as one value of a log line. Different values stay different. A value that is cut ends in `%...`.
#[must_use]
pub fn word(bytes: &[u8]) -> String {
    cut(bytes, is_word)
}

/// Escapes a peer's name for one line of a terminal, with the guarantees of [`word`]. Unicode stays readable.
#[must_use]
pub fn name(bytes: &[u8]) -> String {
    cut(bytes, |char| is_text(char) && char != '%')
}

fn cut(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let kept = bytes.get(..MAX_WORD_LEN).unwrap_or(bytes);
    let mut word = escape(kept, keep);
    if kept.len() < bytes.len() {
        word.push_str("%...");
    }
    word
}

/// Escapes a message that contains foreign text, for one line of a terminal. A second call changes nothing.
#[must_use]
pub fn text(text: &str) -> String {
    escape(text.as_bytes(), is_text)
}

/// Escapes several lines for a terminal. Foreign text in them must be escaped with [`text`] before, because it may contain
/// line feeds.
#[must_use]
pub fn lines(text: &str) -> String {
    escape(text.as_bytes(), |char| is_text(char) || char == '\n')
}

/// True if a value of a log line may contain the character unescaped: printable ASCII without space, `%`, `"` and `\`.
#[must_use]
pub fn is_word(char: char) -> bool {
    char.is_ascii_graphic() && !matches!(char, '%' | '"' | '\\')
}

/// True if the character is visible on a terminal and has no other effect.
///
/// Combining marks are included, because most scripts of India need them.
#[must_use]
pub fn is_text(char: char) -> bool {
    let code = u32::from(char);
    !DANGEROUS.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// Replaces characters of serialised JSON that are not [`is_text`] by `\u` and four hexadecimal digits.
///
/// The value stays the same, because JSON is ASCII outside of strings. Line feeds between values are kept.
#[must_use]
pub fn json(serialised: &str) -> String {
    let mut out = String::with_capacity(serialised.len());
    for char in serialised.chars() {
        if is_text(char) || char == '\n' {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            let [high, low] = unit.to_be_bytes();
            out.push_str("\\u");
            for digit in [high >> 4, high & 0xf, low >> 4, low & 0xf] {
                out.push(hex_digit(digit).to_ascii_lowercase());
            }
        }
    }
    out
}

/// Ranges, as first and last character, of characters that are invisible or affect a terminal or a log.
///
/// They are the categories Cc, Cf, Zl, Zp, and Zs without the space; `Default_Ignorable_Code_Point`; blank, private and
/// undefined characters.
const DANGEROUS: [(u32, u32); 36] = [
    (0x0000, 0x001f),
    (0x007f, 0x00a0),
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    // Fillers of Hangul: letters without a visible shape.
    (0x115f, 0x1160),
    (0x1680, 0x1680),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    // Spaces, zero-width characters, marks of direction, line and paragraph separators.
    (0x2000, 0x200f),
    (0x2028, 0x202f),
    (0x205f, 0x206f),
    // The pattern of Braille without dots.
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xe000, 0xf8ff),
    (0xfdd0, 0xfdef),
    // Variation selectors.
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0xfffe, 0xffff),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x16fe4, 0x16fe4),
    (0x1bca0, 0x1bca3),
    (0x1d159, 0x1d159),
    (0x1d173, 0x1d17a),
    // No characters are defined between the ideographs and the tags.
    (0x33480, 0xdffff),
    // Tags, the supplement of variation selectors, private planes.
    (0xe0000, 0x10ffff),
];

#[cfg(test)]
mod tests;
