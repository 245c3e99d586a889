//! Files of the client that a statement allows the server to request: those that a LOAD DATA LOCAL or LOAD XML LOCAL names,
//! at any place among several statements.
//!
//! ```text
//! LOAD {DATA | XML} [LOW_PRIORITY | CONCURRENT] [FROM] LOCAL INFILE 'name'
//! ```
//! Text in comments and quotes is not code; text in `/*! */` and `/*M! */` is. A name can have either kind of quotes, with
//! the same meaning in every SQL mode. It cannot be a hexadecimal value, a variable or several strings, because no server
//! accepts those.
//!
//! In some cases the requested files cannot be known:
//! - EXECUTE and CALL, because MariaDB runs LOAD DATA LOCAL in dynamic SQL and in procedures (MySQL: error 1295);
//! - a statement of which only the beginning is known;
//! - quotes that do not end, or whose end depends on the SQL mode (NO_BACKSLASH_ESCAPES) or the character set, if that
//!   makes a difference.

use std::ops::Range;

/// Bytes that can be the second byte of a character, and have a meaning of their own: an escape, and the quote of names.
const TRAILS: [u8; 2] = [b'\\', b'`'];

/// The files that a statement allows the server to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFiles {
    names: Vec<Vec<u8>>,
    /// Further files are possible, because not all of the statement can be read.
    is_open: bool,
}

/// Judgement of a file request by the client's statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The statement names the file.
    Named,
    /// The statement does not name the file.
    NotNamed,
    /// Not known.
    Undecidable,
}

impl NamedFiles {
    /// The files of a statement that cannot be read.
    pub const UNKNOWN: Self = Self { names: Vec::new(), is_open: true };

    /// The files of a statement. `escapes`: true if a backslash is an escape character in strings; `None` if that is not
    /// known.
    #[must_use]
    pub fn of(text: &[u8], escapes: Option<bool>) -> Self {
        let ambiguous =
            |pair: &[u8]| matches!(pair, [lead, trail] if !lead.is_ascii() && TRAILS.contains(trail));
        let wide: &[bool] = if text.windows(2).any(ambiguous) { &[false, true] } else { &[false] };
        let escapes: &[bool] = match escapes {
            Some(true) => &[true],
            Some(false) => &[false],
            None if text.contains(&b'\\') => &[true, false],
            None => &[true],
        };
        let readings = escapes.iter().flat_map(|escapes| wide.iter().map(|wide| (*escapes, *wide)));
        let mut found = readings.map(|(escapes, wide)| Reading { rest: text, escapes, wide }.files());
        let first = found.next();
        first.filter(|first| found.all(|other| other == *first)).unwrap_or(Self::UNKNOWN)
    }

    /// The files of a statement of which only the beginning is known.
    #[must_use]
    pub fn of_prefix(text: &[u8], escapes: Option<bool>) -> Self {
        Self { is_open: true, ..Self::of(text, escapes) }
    }

    /// Memory of a shared value, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let list = self.names.capacity().saturating_mul(size_of::<Vec<u8>>());
        let names = self.names.iter().map(Vec::capacity);
        names.fold(list, usize::saturating_add).saturating_add(size_of::<Self>())
    }

    /// True if the server may request no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.is_open
    }

    /// Judges the request for the file of this name.
    #[must_use]
    pub fn judge(&self, name: &[u8]) -> Judgement {
        // A server whose `character_set_filesystem` is not `binary` encodes some names differently.
        let is_recoded = || self.names.iter().any(|name| !name.is_ascii());
        if self.names.iter().any(|named| named == name) {
            Judgement::Named
        } else if self.is_open || is_recoded() {
            Judgement::Undecidable
        } else {
            Judgement::NotNamed
        }
    }
}

/// One of the possible readings of a statement.
struct Reading<'a> {
    rest: &'a [u8],
    /// A backslash is an escape character in strings.
    escapes: bool,
    /// A byte that is not ASCII and the next byte are one character.
    wide: bool,
}

enum Token<'a> {
    Word(&'a [u8]),
    /// A text between these quotes, with its escapes.
    Quoted(u8, &'a [u8]),
    Other,
    /// A quoted text or a comment that does not end.
    Unfinished,
}

impl<'a> Reading<'a> {
    fn files(mut self) -> NamedFiles {
        /// The words after LOAD, in order.
        const STEPS: [&[&[u8]]; 5] =
            [&[b"DATA", b"XML"], &[b"LOW_PRIORITY", b"CONCURRENT"], &[b"FROM"], &[b"LOCAL"], &[b"INFILE"]];
        /// The steps that can be omitted.
        const OPTIONAL: Range<usize> = 1..3;
        let is = |word: &[u8], keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        let mut files = NamedFiles::default();
        // Number of steps that are done; `None` if no LOAD is in progress.
        let mut done: Option<usize> = None;
        while let Some(token) = self.token() {
            done = match token {
                Token::Word(word) if is(word, b"LOAD") => Some(0),
                Token::Word(word) => {
                    files.is_open |= is(word, b"EXECUTE") || is(word, b"CALL");
                    let matches_step = |at: &usize| {
                        STEPS.get(*at).is_some_and(|step| step.iter().any(|step| is(word, step)))
                    };
                    let next = done.and_then(|done| (done..STEPS.len()).find(matches_step));
                    let reachable =
                        |next: &usize| (done.unwrap_or(0)..*next).all(|left| OPTIONAL.contains(&left));
                    next.filter(reachable).map(|next| next.saturating_add(1))
                }
                Token::Quoted(quote @ (b'\'' | b'"'), name) if done == Some(STEPS.len()) => {
                    files.names.push(self.unescaped(quote, name));
                    None
                }
                Token::Quoted(..) | Token::Other => None,
                Token::Unfinished => {
                    files.is_open = true;
                    break;
                }
            };
        }
        files
    }

    fn token(&mut self) -> Option<Token<'a>> {
        if !self.skip_space() {
            return Some(Token::Unfinished);
        }
        let (first, after) = self.rest.split_first()?;
        if matches!(first, b'\'' | b'"' | b'`') {
            let Some(len) = self.quoted_len(*first, after) else { return Some(Token::Unfinished) };
            let (text, rest) = after.split_at_checked(len)?;
            self.rest = rest.get(1..)?;
            return Some(Token::Quoted(*first, text));
        }
        let mut len = 0_usize;
        while let Some(more) = self.rest.get(len..).and_then(|rest| self.word_character(rest)) {
            len = len.saturating_add(more);
        }
        let (word, rest) = self.rest.split_at_checked(len.max(1))?;
        self.rest = rest;
        Some(if len > 0 { Token::Word(word) } else { Token::Other })
    }

    /// Length of the character at the beginning of `rest`, in bytes; `None` if it belongs to no word.
    fn word_character(&self, rest: &[u8]) -> Option<usize> {
        let first = *rest.first()?;
        let is_word = first.is_ascii_alphanumeric() || b"_$@".contains(&first) || !first.is_ascii();
        is_word.then(|| self.len_of_character(rest))
    }

    /// Length of the character at the beginning of `rest`, in bytes.
    fn len_of_character(&self, rest: &[u8]) -> usize {
        match rest {
            [lead, trail, ..] if self.wide && !lead.is_ascii() && *trail >= 0x40 => 2,
            _ => 1,
        }
    }

    /// Length of a quoted text up to its last quote; `None` if it does not end. A doubled quote does not end it.
    fn quoted_len(&self, quote: u8, text: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        loop {
            let rest = text.get(at..)?;
            let step = match rest {
                [b'\\', _, ..] if self.escapes && quote != b'`' => 2,
                [first, second, ..] if *first == quote && *second == quote => 2,
                [first, ..] if *first == quote => return Some(at),
                [] => return None,
                _ => self.len_of_character(rest),
            };
            at = at.saturating_add(step);
        }
    }

    /// The string that a quoted text means (MySQL manual, "String Literals").
    fn unescaped(&self, quote: u8, text: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.first() {
            let (bytes, len): (&[u8], usize) = match rest {
                [b'\\', escaped, ..] if self.escapes => match escaped {
                    b'0' => (b"\0", 2),
                    b'b' => (b"\x08", 2),
                    b'n' => (b"\n", 2),
                    b'r' => (b"\r", 2),
                    b't' => (b"\t", 2),
                    b'Z' => (b"\x1a", 2),
                    // These keep the backslash.
                    b'%' | b'_' => (rest.get(..2).unwrap_or_default(), 2),
                    _ => (std::slice::from_ref(escaped), 2),
                },
                // Doubled, because a single quote would end the text.
                _ if *first == quote => (std::slice::from_ref(first), 2),
                _ => {
                    let len = self.len_of_character(rest);
                    (rest.get(..len).unwrap_or_default(), len)
                }
            };
            name.extend_from_slice(bytes);
            rest = rest.get(len..).unwrap_or_default();
        }
        name
    }

    /// Skips white space and comments. False if a comment does not end.
    fn skip_space(&mut self) -> bool {
        loop {
            let rest = self.rest;
            self.rest = match rest {
                // The white space of MySQL's character sets, and the end of a comment that is code.
                [b'\t'..=b'\r' | b' ', rest @ ..] | [b'*', b'/', rest @ ..] => rest,
                [b'#', ..] | [b'-', b'-'] => line(rest),
                [b'-', b'-', next, ..] if *next <= b' ' || *next == 0x7f => line(rest),
                [b'/', b'*', b'!', code @ ..] | [b'/', b'*', b'M', b'!', code @ ..] => {
                    // The number after the mark is the lowest version that runs the code.
                    let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    code.get(digits..).unwrap_or_default()
                }
                [b'/', b'*', comment @ ..] => {
                    let Some(end) = comment.windows(2).position(|pair| pair == b"*/") else { return false };
                    comment.get(end.saturating_add(2)..).unwrap_or_default()
                }
                _ => return true,
            };
        }
    }
}

/// Returns the text after the line.
fn line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.and_then(|end| text.get(end..)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
