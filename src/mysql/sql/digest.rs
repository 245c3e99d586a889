//! Digests: statements without literals. The digest of `SELECT * FROM t WHERE id IN (1, 2)` is
//! `SELECT * FROM t WHERE id IN (?+)`.
//!
//! | in the statement                                  | in the digest                      |
//! |---------------------------------------------------|------------------------------------|
//! | strings, numbers, hexadecimal and bit values, TRUE, FALSE, NULL | `?`                  |
//! | a list of literals; rows of such lists            | `?+`; the first row                |
//! | white space, comments, optimizer hints            | a space, or nothing                |
//! | the content of `/*! */`                           | the same as outside a comment      |
//! | a word that begins with a digit, even a name      | `?`                                |
//! | text in double quotes, which can be a name        | `?`                                |
//! | a name in backticks that contains quotes or a backslash | `?`                          |
//! | a backslash outside strings and names             | `?`                                |
//! | names, keywords, operators                        | unchanged, in printable ASCII      |
//!
//! In names, bytes that are not printable ASCII are written as `%C3`, and so is `%` in backticks (`%25`).
//!
//! The end of a literal can depend on facts that are not known here: the SQL mode, the character set, the version of the
//! server. If two readings differ, the digest ends with `...`. It also ends so after the first statement, after 256 bytes,
//! and at other ambiguous text. A digest contains no text that is a literal in one of the readings.

use crate::escape::{escape, is_word};

/// Maximum length of a digest without [`CUT`], in bytes.
const MAX_LEN: usize = 256;
/// Replaces the omitted end of a statement.
const CUT: &str = "...";

/// Returns the digest of a statement that begins with `text`, and the `traceparent` in its comments. `escapes`: true if a
/// backslash is an escape character in strings (no SQL mode NO_BACKSLASH_ESCAPES); `None` if that is not known.
#[must_use]
pub fn digest(text: &[u8], escapes: Option<bool>) -> (String, Option<String>) {
    // Servers differ in the effect of a NUL.
    let len = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let mut lexer = Lexer {
        text: text.get(..len).unwrap_or_default(),
        at: 0,
        escapes,
        in_version: false,
        spaced: false,
        is_full: false,
        out: String::new(),
        traceparent: None,
    };
    let is_whole = lexer.run().is_some() && len == text.len() && !lexer.is_full;
    if !is_whole {
        lexer.out.push_str(CUT);
    }
    (lexer.out, lexer.traceparent)
}

/// Reads the value of `traceparent` (W3C Trace Context, section 3.2) at the beginning of `text`.
#[must_use]
pub fn traceparent(text: &[u8]) -> Option<String> {
    const LEN: usize = 55;
    let value = text.get(..LEN)?;
    let is_valid = value.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
    });
    let ends = text.get(LEN).is_none_or(|next| !next.is_ascii_alphanumeric());
    (is_valid && ends).then(|| value.iter().map(|byte| char::from(*byte)).collect())
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    escapes: Option<bool>,
    /// Inside `/*! */`.
    in_version: bool,
    /// Text was omitted before the next token.
    spaced: bool,
    is_full: bool,
    out: String,
    traceparent: Option<String>,
}

impl<'a> Lexer<'a> {
    /// Reads the statement. `None` if the rest is ambiguous.
    fn run(&mut self) -> Option<()> {
        while let Some(first) = self.byte(0) {
            match (first, self.byte(1)) {
                (b'#', _) => self.line_comment(),
                (b'-', Some(b'-')) if self.byte(2).is_none_or(|next| next <= b' ' || next == 0x7f) => {
                    // White space after two minus signs makes a comment. Servers differ in the bytes that are white space.
                    self.byte(2)
                        .is_none_or(|next| next.is_ascii_whitespace())
                        .then(|| self.line_comment())?;
                }
                (b'/', Some(b'*')) => self.comment()?,
                (b'*', Some(b'/')) if self.in_version => {
                    self.in_version = false;
                    self.skip(2);
                }
                (..=b' ', _) => self.skip(1),
                (b'\'' | b'"', _) => {
                    self.string(first)?;
                    self.push("?");
                }
                (b'`', _) => self.name()?,
                (b';', _) => {
                    self.at = self.at.saturating_add(1);
                    return self.rest().iter().all(|byte| *byte <= b' ').then_some(());
                }
                // MySQL reads `$$` as a quote.
                (b'$', _) => return None,
                _ if is_word_byte(first) => self.word(first)?,
                _ => {
                    self.at = self.at.saturating_add(1);
                    // A backslash would escape the quote after the digest in a log line.
                    let is_plain = first.is_ascii_graphic() && first != b'\\';
                    let symbol = if is_plain { char::from(first) } else { '?' };
                    self.push(symbol.encode_utf8(&mut [0; 4]));
                }
            }
        }
        Some(())
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The byte `ahead` bytes after the current one.
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.rest().get(ahead).copied()
    }

    /// True if a byte can be the second half of a character, because of the byte before it. In sjis, gbk and big5 the second
    /// half can be a backslash or a backtick.
    fn is_ambiguous(&self, at: usize) -> bool {
        at.checked_sub(1).and_then(|before| self.text.get(before)).is_some_and(|byte| !byte.is_ascii())
    }

    /// Omits `len` bytes.
    fn skip(&mut self, len: usize) {
        self.at = self.at.saturating_add(len);
        self.spaced = true;
    }

    fn line_comment(&mut self) {
        let rest = self.rest();
        let comment = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.look_for_traceparent(comment);
        self.skip(comment.len());
    }

    fn comment(&mut self) -> Option<()> {
        let inside = self.rest().get(2..)?;
        let len = inside.windows(2).position(|end| end == b"*/")?;
        let (inside, _) = inside.split_at_checked(len)?;
        let code = inside.strip_prefix(b"!").or_else(|| inside.strip_prefix(b"M!"));
        if code.is_some() || inside.starts_with(b"+") {
            // Some servers read this as a comment and others as code. Both have to find the same end.
            let breaks = |two: &[u8]| two == b"--" || two == b"/*";
            let quotes = |byte: &u8| b"'\"`\\#$;".contains(byte) || !byte.is_ascii();
            if inside.iter().any(quotes) || inside.windows(2).any(breaks) {
                return None;
            }
        }
        if let Some(code) = code {
            self.in_version = true;
            let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
            self.skip(len.saturating_sub(code.len()).saturating_add(digits).saturating_add(2));
        } else {
            self.look_for_traceparent(inside);
            self.skip(len.saturating_add(4));
        }
        Some(())
    }

    /// Looks for `traceparent='...'`, as sqlcommenter writes it, or without the quotes.
    fn look_for_traceparent(&mut self, comment: &[u8]) {
        const KEY: &[u8] = b"traceparent=";
        let found = comment.windows(KEY.len()).position(|window| window == KEY);
        let value = found.and_then(|at| comment.get(at.saturating_add(KEY.len())..));
        if let (Some(value), None) = (value, &self.traceparent) {
            self.traceparent = traceparent(value.strip_prefix(b"'").unwrap_or(value));
        }
    }

    /// Skips a string. `None` if its end is ambiguous.
    fn string(&mut self, quote: u8) -> Option<()> {
        let mut at = self.at.saturating_add(1);
        while let Some(byte) = self.text.get(at).copied() {
            let next = self.text.get(at.saturating_add(1)).copied();
            if byte == quote && next != Some(quote) {
                self.at = at.saturating_add(1);
                return Some(());
            } else if byte == quote {
                at = at.saturating_add(2);
            } else if byte == b'\\' {
                let run = self.text.get(at..).unwrap_or_default();
                let len = run.iter().take_while(|byte| **byte == b'\\').count();
                let end = at.saturating_add(len);
                let is_quote = self.text.get(end) == Some(&quote);
                if is_quote && self.is_ambiguous(at) {
                    return None;
                }
                let escaped = is_quote && len % 2 == 1;
                // Text in double quotes can be a name (ANSI_QUOTES), and names have no escapes.
                let skips = escaped && if quote == b'"' { return None } else { self.escapes? };
                at = end.saturating_add(usize::from(skips));
            } else {
                at = at.saturating_add(1);
            }
        }
        // The known part of the statement ends in the string.
        self.at = self.text.len();
        Some(())
    }

    /// Reads a name in backticks. `None` if its end is ambiguous.
    fn name(&mut self) -> Option<()> {
        let start = self.at;
        let mut at = start;
        loop {
            if self.is_ambiguous(at) {
                return None;
            }
            let next = at.saturating_add(1);
            let len = self.text.get(next..)?.iter().position(|byte| *byte == b'`')?;
            let end = next.saturating_add(len);
            if self.is_ambiguous(end) {
                return None;
            }
            at = end.saturating_add(1);
            if self.text.get(at) != Some(&b'`') {
                break;
            }
        }
        self.at = at;
        let name = self.text.get(start..at)?;
        let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f && !b"'\"\\".contains(byte);
        if name.iter().all(plain) {
            self.push(&escape(name, |char| is_word(char) || char == ' '));
        } else {
            self.push("?");
        }
        Some(())
    }

    fn word(&mut self, first: u8) -> Option<()> {
        let is_number = first.is_ascii_digit();
        let belongs = |byte: &&u8| is_word_byte(**byte) || is_number && **byte == b'.';
        let len = self.rest().iter().take_while(belongs).count();
        let (word, rest) = self.rest().split_at_checked(len)?;
        self.at = self.at.saturating_add(len);
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        let marks_string = (is(b"x") || is(b"b") || is(b"n")) && matches!(rest.first(), Some(b'\'' | b'"'));
        if is_number || is(b"true") || is(b"false") || is(b"null") {
            self.push("?");
        } else if !marks_string {
            self.push(&escape(word, is_word));
        }
        Some(())
    }

    fn push(&mut self, token: &str) {
        self.is_full |= self.out.len().saturating_add(token.len()) > MAX_LEN;
        if self.is_full {
            return;
        }
        let out = &mut self.out;
        if token == "?" && (out.ends_with("?,") || out.ends_with("?+,")) {
            out.pop();
            if !out.ends_with('+') {
                out.push('+');
            }
        } else {
            let glued = out.is_empty() || out.ends_with('(') || matches!(token, "," | ")");
            if out.ends_with(',') || self.spaced && !glued {
                out.push(' ');
            }
            out.push_str(token);
            for (rows, again) in [("(?), (?)", ", (?)"), ("(?+), (?+)", ", (?+)")] {
                if out.ends_with(rows) {
                    out.truncate(out.len().saturating_sub(again.len()));
                }
            }
        }
        self.spaced = false;
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

#[cfg(test)]
mod tests;
