//! The verb of a statement, read from its first words. The text itself is not stored.

use crate::labels::labels;

labels! {
    /// The verb of a statement.
    Verb {
        /// SELECT, VALUES, TABLE, also after WITH and EXPLAIN.
        Select = "select",
        /// INSERT.
        Insert = "insert",
        /// UPDATE.
        Update = "update",
        /// DELETE.
        Delete = "delete",
        /// REPLACE.
        Replace = "replace",
        /// CALL.
        Call = "call",
        /// SET.
        Set = "set",
        /// BEGIN, START TRANSACTION.
        Begin = "begin",
        /// COMMIT.
        Commit = "commit",
        /// ROLLBACK.
        Rollback = "rollback",
        /// CREATE, ALTER, DROP, RENAME, TRUNCATE.
        Ddl = "ddl",
        /// SHOW, and DESCRIBE of a table.
        Show = "show",
        /// USE.
        Use = "use",
        /// LOAD.
        Load = "load",
        /// Any other statement, also if its verb is not in the inspected part.
        Other = "other",
    }
}

/// The keywords that are verbs, in upper case.
const VERBS: &[(&[u8], Verb)] = &[
    (b"SELECT", Verb::Select),
    (b"VALUES", Verb::Select),
    (b"TABLE", Verb::Select),
    (b"INSERT", Verb::Insert),
    (b"UPDATE", Verb::Update),
    (b"DELETE", Verb::Delete),
    (b"REPLACE", Verb::Replace),
    (b"CALL", Verb::Call),
    (b"SET", Verb::Set),
    (b"BEGIN", Verb::Begin),
    (b"COMMIT", Verb::Commit),
    (b"ROLLBACK", Verb::Rollback),
    (b"CREATE", Verb::Ddl),
    (b"ALTER", Verb::Ddl),
    (b"DROP", Verb::Ddl),
    (b"RENAME", Verb::Ddl),
    (b"TRUNCATE", Verb::Ddl),
    (b"SHOW", Verb::Show),
    (b"USE", Verb::Use),
    (b"LOAD", Verb::Load),
];

/// Returns the verb of a statement that begins with `text`.
#[must_use]
pub fn verb(text: &[u8]) -> Verb {
    let mut words = Words { rest: text };
    let Some(Token::Word(word)) = words.next() else { return Verb::Other };
    // Nearly all statements begin with their verb.
    if let Some(verb) = lookup(word) {
        return verb;
    }
    match word {
        _ if is(word, b"WITH") => words.verb_after_with(),
        _ if is(word, b"EXPLAIN") || is(word, b"DESCRIBE") || is(word, b"DESC") => words.verb_after_explain(),
        // MariaDB's ANALYZE runs a statement; ANALYZE TABLE does not.
        _ if is(word, b"ANALYZE") => words.verb_after_explain_or(Verb::Other),
        _ if is(word, b"START") => match words.next() {
            Some(Token::Word(word)) if is(word, b"TRANSACTION") => Verb::Begin,
            _ => Verb::Other,
        },
        _ => Verb::Other,
    }
}

/// Returns the schema that a USE requests; `None` if it cannot be read. `text`: the beginning of the statement.
#[must_use]
pub fn schema_of_use(text: &[u8]) -> Option<&[u8]> {
    let mut words = Words { rest: text };
    words.next()?;
    words.skip_space();
    match words.rest.strip_prefix(b"`") {
        Some(quoted) => quoted.split(|byte| *byte == b'`').next(),
        None => match words.token()? {
            Token::Word(word) => Some(word),
            _ => None,
        },
    }
}

fn is(word: &[u8], keyword: &[u8]) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn lookup(word: &[u8]) -> Option<Verb> {
    VERBS.iter().find(|(keyword, _)| is(word, keyword)).map(|(_, verb)| *verb)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Open,
    Close,
    Comma,
    /// A quoted text, a number, an operator.
    Other,
}

/// The tokens of a statement, without white space and comments. The content of `/*! */` is code.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next token, except opening parentheses: `(SELECT 1) UNION ...` is a SELECT.
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.token()? {
                Token::Open => {}
                token => return Some(token),
            }
        }
    }

    fn token(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let first = *self.rest.first()?;
        match first {
            b'(' => self.take(1, Token::Open),
            b')' => self.take(1, Token::Close),
            b',' => self.take(1, Token::Comma),
            b'\'' | b'"' | b'`' => {
                self.skip_quoted(first);
                Some(Token::Other)
            }
            _ if is_word(first) => {
                let len = self.rest.iter().take_while(|byte| is_word(**byte)).count();
                let (word, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Some(Token::Word(word))
            }
            _ => self.take(1, Token::Other),
        }
    }

    fn take(&mut self, len: usize, token: Token<'a>) -> Option<Token<'a>> {
        self.rest = self.rest.get(len..)?;
        Some(token)
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest.trim_ascii_start();
            // A line comment: `#`, or `--` with white space after it.
            let line = match rest {
                [b'#', ..] | [b'-', b'-'] => true,
                [b'-', b'-', next, ..] => next.is_ascii_whitespace() || next.is_ascii_control(),
                _ => false,
            };
            self.rest = if line {
                after(rest, b"\n")
            } else if let Some(code) = rest.strip_prefix(b"/*!").or_else(|| rest.strip_prefix(b"/*M!")) {
                // The number after the mark is the lowest version that runs the code.
                let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
                code.get(digits..).unwrap_or_default()
            } else if let Some(end) = rest.strip_prefix(b"*/") {
                end
            } else if let Some(comment) = rest.strip_prefix(b"/*") {
                after(comment, b"*/")
            } else {
                self.rest = rest;
                return;
            };
        }
    }

    /// Skips a quoted text. A doubled quote in it counts as the end of one text and the beginning of the next.
    fn skip_quoted(&mut self, quote: u8) {
        let mut bytes = self.rest.get(1..).unwrap_or_default();
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            if *byte == b'\\' && quote != b'`' {
                bytes = bytes.get(1..).unwrap_or_default();
            } else if *byte == quote {
                break;
            }
        }
        self.rest = bytes;
    }

    /// The verb after the common table expressions: `name [(columns)] AS (query)`, with commas between them.
    fn verb_after_with(&mut self) -> Verb {
        let mut depth: usize = 0;
        let mut had_query = false;
        while let Some(token) = self.token() {
            match token {
                Token::Open => depth = depth.saturating_add(1),
                Token::Close => {
                    depth = depth.saturating_sub(1);
                    had_query |= depth == 0;
                }
                Token::Comma if depth == 0 => had_query = false,
                Token::Word(word) if depth == 0 && had_query => {
                    // The parentheses were a list of columns if AS follows.
                    match lookup(word) {
                        Some(verb) => return verb,
                        None => had_query = false,
                    }
                }
                Token::Word(_) | Token::Comma | Token::Other => {}
            }
        }
        Verb::Other
    }

    /// The verb after EXPLAIN: that of a statement, which can follow options, or `Show` for a table.
    fn verb_after_explain(&mut self) -> Verb {
        self.verb_after_explain_or(Verb::Show)
    }

    fn verb_after_explain_or(&mut self, otherwise: Verb) -> Verb {
        const OPTIONS: [&[u8]; 8] =
            [b"EXTENDED", b"PARTITIONS", b"FORMAT", b"ANALYZE", b"JSON", b"TREE", b"TRADITIONAL", b"INTO"];
        const STATEMENTS: [Verb; 5] = [Verb::Select, Verb::Insert, Verb::Update, Verb::Delete, Verb::Replace];
        while let Some(token) = self.next() {
            match token {
                Token::Word(word) if is(word, b"WITH") => return self.verb_after_with(),
                Token::Word(word) if OPTIONS.iter().any(|option| is(word, option)) => {}
                Token::Word(word) if is(word, b"TABLE") => return otherwise,
                Token::Word(word) => {
                    return lookup(word).filter(|verb| STATEMENTS.contains(verb)).unwrap_or(otherwise);
                }
                // The sign and the value of FORMAT.
                Token::Other => {}
                Token::Open | Token::Close | Token::Comma => return otherwise,
            }
        }
        otherwise
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// The text after `mark`; empty if there is no `mark`.
fn after<'a>(text: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let at = text.windows(mark.len()).position(|window| window == mark);
    at.and_then(|at| text.get(at.saturating_add(mark.len())..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_use_is_read() {
        for (text, schema) in [
            ("USE shop", Some("shop")),
            ("/* x */ use `my shop`;", Some("my shop")),
            ("use shop;SELECT 1", Some("shop")),
            ("USE", None),
            ("USE 'x'", None),
        ] {
            assert_eq!(schema_of_use(text.as_bytes()), schema.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn the_verb_of_a_statement_is_read() {
        let cases = [
            ("SELECT 1", Verb::Select),
            ("select", Verb::Select),
            ("  \t\n insert INTO t VALUES (1)", Verb::Insert),
            ("/* app:web */ UPDATE t SET a=1", Verb::Update),
            ("/*!40101 SET NAMES utf8 */", Verb::Set),
            ("/*M!100100 DELETE FROM t */", Verb::Delete),
            ("-- note\nREPLACE t VALUES (1)", Verb::Replace),
            ("# note\nCALL p()", Verb::Call),
            ("(SELECT 1) UNION (SELECT 2)", Verb::Select),
            ("((SELECT 1))", Verb::Select),
            ("BEGIN", Verb::Begin),
            ("START TRANSACTION READ ONLY", Verb::Begin),
            ("START SLAVE", Verb::Other),
            ("COMMIT", Verb::Commit),
            ("rollback to savepoint s", Verb::Rollback),
            ("CREATE TABLE t (a INT)", Verb::Ddl),
            ("TRUNCATE t", Verb::Ddl),
            ("SHOW TABLES", Verb::Show),
            ("DESC t", Verb::Show),
            ("EXPLAIN t", Verb::Show),
            ("EXPLAIN SELECT 1", Verb::Select),
            ("EXPLAIN FORMAT=JSON UPDATE t SET a=1", Verb::Update),
            ("EXPLAIN FORMAT = 'tree' SELECT 1", Verb::Select),
            ("ANALYZE FORMAT=JSON DELETE FROM t", Verb::Delete),
            ("ANALYZE TABLE t", Verb::Other),
            ("WITH a AS (SELECT 1) SELECT * FROM a", Verb::Select),
            (
                "WITH RECURSIVE a (n) AS (SELECT 1 UNION SELECT n+1 FROM a), b AS (SELECT ')') DELETE FROM t",
                Verb::Delete,
            ),
            ("WITH `a)` AS (SELECT '\\'(' ) UPDATE t SET a=1", Verb::Update),
            ("USE db", Verb::Use),
            ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", Verb::Load),
            ("KILL 3", Verb::Other),
            ("SELECTED", Verb::Other),
            ("", Verb::Other),
            ("/* never closed", Verb::Other),
            ("WITH a AS (SELECT", Verb::Other),
            ("--1", Verb::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(verb(text.as_bytes()), expected, "{text}");
        }
    }
}
