use proptest::prelude::*;

use super::*;

fn of(text: &str) -> String {
    digest(text.as_bytes(), Some(true)).0
}

#[test]
fn literals_and_comments_are_removed() {
    let cases = [
        ("SELECT * FROM t WHERE id = 7 AND name = 'x'", "SELECT * FROM t WHERE id = ? AND name = ?"),
        ("select a  ,b\n\tfrom `my db`.`t``x`", "select a, b from `my db`.`t``x`"),
        ("SELECT 1", "SELECT ?"),
        ("SELECT -1.5e-10, .5, 0xAF, x'AF', B'01', N'x', _utf8'x', 0b1", "SELECT -?-?, .?+, _utf8?+"),
        ("SELECT * FROM t WHERE a IN (1, 'b' ,NULL)", "SELECT * FROM t WHERE a IN (?+)"),
        ("INSERT INTO t (a,b) VALUES (1,2),(3,4), (5,6)", "INSERT INTO t (a, b) VALUES (?+)"),
        ("INSERT INTO t VALUES (1),(3)", "INSERT INTO t VALUES (?)"),
        ("INSERT t VALUES (1, now()), (2, now())", "INSERT t VALUES (?, now()), (?, now())"),
        ("UPDATE t SET a='it''s' WHERE b=TRUE;", "UPDATE t SET a=? WHERE b=?"),
        ("SELECT 1 -- secret\n+ 2 # secret\n+3 /* secret */ + 4", "SELECT ? + ? +? + ?"),
        ("SELECT 1--2", "SELECT ?--?"),
        ("SELECT /*!40001 SQL_NO_CACHE */ a /*M!100100 b*/", "SELECT SQL_NO_CACHE a b"),
        ("SELECT /*+ MAX_EXECUTION_TIME(1000) */ a", "SELECT a"),
        ("SELECT a->>'$.b', @x:='y', @'v', @@global.v", "SELECT a->>?, @x:=?, @?, @@global.v"),
        ("SELECT \"a\"\"b\", a\u{e9}", "SELECT ?, a%C3%A9"),
        ("SELECT `\u{8ba2}x`.`a b%`, a % b", "SELECT `%E8%AE%A2x`.`a b%25`, a % b"),
        ("SELECT `a'b`, `c\"d`, `e\\f` FROM t", "SELECT ?+ FROM t"),
        ("SELECT * FROM 2024_orders, orders_2024", "SELECT * FROM ?, orders_2024"),
        ("CALL p(1, 2)", "CALL p(?+)"),
        ("", ""),
        ("   ", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn a_digest_ends_at_ambiguous_text() {
    let cases: [(&[u8], Option<bool>, &str); 20] = [
        (b"SELECT 'a\\' , secret , 'b'", Some(false), "SELECT ?, secret, ?"),
        (b"SELECT 'a\\' , secret , 'b'", Some(true), "SELECT ??"),
        (b"SELECT 'a\\' , secret , 'b'", None, "SELECT..."),
        (b"SELECT 'a\\\\', b", None, "SELECT ?, b"),
        (b"SELECT \"a\\\" , secret , \"b\"", Some(true), "SELECT..."),
        (b"SELECT '\x95\\' , secret , 'b'", Some(true), "SELECT..."),
        (b"SELECT '\x95\\\\' , secret , 'b'", Some(false), "SELECT..."),
        (b"SELECT \x83` , 'secret' , \x83`", Some(true), "SELECT %83..."),
        (b"SELECT `\x83` , 'secret', `\x83`", Some(true), "SELECT..."),
        (b"SELECT a; SELECT 'b'", Some(true), "SELECT a..."),
        (b"SELECT a\0'", Some(true), "SELECT a..."),
        (b"SELECT a # \0 ' \n secret '", Some(true), "SELECT a..."),
        (b"SELECT a /*!99999 it's */ 'secret'", Some(true), "SELECT a..."),
        (b"SELECT a /*!40101 /* */ b", Some(true), "SELECT a..."),
        (b"SELECT a /*+ SET_VAR(x='b*/') */", Some(true), "SELECT a..."),
        (b"CREATE FUNCTION f() AS $$ secret $$", Some(true), "CREATE FUNCTION f() AS..."),
        (b"SELECT a --\x01 it's\n 'secret'", Some(true), "SELECT a..."),
        (b"SELECT `a WHERE b='secret'", Some(true), "SELECT..."),
        (b"SELECT a /* it's", Some(true), "SELECT a..."),
        (b"SELECT 'not all of it", Some(true), "SELECT ?"),
    ];
    for (text, escapes, expected) in cases {
        assert_eq!(digest(text, escapes).0, expected, "{}", text.escape_ascii());
    }
}

#[test]
fn a_digest_is_bounded_and_safe_in_a_log_line() {
    let long = format!("SELECT {}", "a_long_name , ".repeat(100));
    let digest = of(&long);
    assert!(digest.len() < MAX_LEN + 20 && digest.ends_with(CUT), "{digest}");
    assert_eq!(of("a\u{1}b\u{7f}c \\N"), "a b?c ?N");
    assert_eq!(of("SELECT \\"), "SELECT ?");
    for (name, expected) in
        [("a\u{9b}31m", "a%C2%9B31m"), ("a\u{85}b", "a%C2%85b"), ("a\u{202e}b", "a%E2%80%AEb")]
    {
        assert_eq!(of(name), expected);
        assert_eq!(of(&format!("`{name}`")), format!("`{expected}`"));
    }
    let one_name = format!("`{}`", "x".repeat(10_000));
    assert!(of(&one_name).len() < MAX_LEN + 20);
}

#[test]
fn a_traceparent_is_read_from_comments_only() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let found = |text: String| digest(text.as_bytes(), Some(true)).1;
    for comment in [
        format!("/*db_driver='x',traceparent='{parent}',tracestate='y'*/"),
        format!("/* traceparent={parent} */"),
        format!("-- traceparent={parent}\n"),
        format!("{} /*traceparent='{parent}'*/", "b, ".repeat(200)),
    ] {
        assert_eq!(found(format!("SELECT a {comment}")).as_deref(), Some(parent), "{comment}");
    }
    for text in [
        format!("SELECT 'traceparent={parent}'"),
        format!("SELECT a /* traceparent={parent}0 */"),
        format!("SELECT a /* traceparent={} */", parent.to_uppercase()),
        format!("SELECT a /* traceparent={} */", parent.trim_end_matches('1')),
        "SELECT a /* traceparent='secret' */".to_owned(),
    ] {
        assert_eq!(found(text.clone()), None, "{text}");
    }
}

/// A piece of a statement as bytes. Only literals and comments contain `Z` and `9`.
fn piece(escapes: bool) -> impl Strategy<Value = Vec<u8>> {
    // Characters of one byte, of utf8, and of sjis or gbk with a second byte that is also an ASCII character.
    let chars = prop::sample::select(vec![
        &b"Z"[..],
        b"9",
        b" ",
        b"-- ",
        b"#",
        b"/*Z",
        b";",
        b",",
        b"(",
        b"\n",
        b"\xc3\xa9",
        b"\x95\\",
        b"\x83`",
    ]);
    let inner = prop::collection::vec(chars, 0..6).prop_map(|chars| chars.concat());
    let string = (inner.clone(), inner.clone(), 0_usize..5).prop_map(move |(a, b, kind)| {
        let middle: &[u8] = match (kind, escapes) {
            (0, true) => b"\\'",
            (1, true) => b"\\\\",
            (2, _) => b"''",
            (3, false) => b"\\",
            _ => b"",
        };
        // A backslash at the end of the first part must only be followed by a whole character.
        [b"'", a.as_slice(), middle, &b, b"'"].concat()
    });
    let names = prop::sample::select(vec![
        "SELECT",
        "a",
        "tbl_1",
        "`q n`",
        "`d``q`",
        "FROM",
        "@v",
        "x.y",
        "IN",
        "(",
        ")",
        ",",
        "=",
        "->>",
        "*",
        "+",
        "\u{e8}t\u{e8}",
        "/*!40101 SET */",
        "/*+ hint */",
    ]);
    let comment = inner.clone().prop_map(|text| {
        let text: Vec<u8> = text.into_iter().filter(|byte| !b"*/\n".contains(byte)).collect();
        [b"/*", text.as_slice(), b"*/"].concat()
    });
    let line = inner.prop_map(|text| {
        let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
        [b"-- ", text.as_slice(), b"\n"].concat()
    });
    let number = prop::sample::select(vec!["99", "9.9e9", "9e-9", "0x99", "x'99'", "b'9'", ".9", "9_9Z"]);
    prop_oneof![
        4 => names.prop_map(|name| name.as_bytes().to_vec()),
        4 => string,
        2 => number.prop_map(|number| number.as_bytes().to_vec()),
        1 => comment,
        1 => line,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// For every length of the known part of the statement, and in both SQL modes.
    #[test]
    fn a_digest_contains_no_literal_and_no_comment(
        (escapes, pieces) in any::<bool>().prop_flat_map(|escapes| {
            (Just(escapes), prop::collection::vec(piece(escapes), 0..12))
        }),
        known: bool,
        cut in 0_usize..100,
    ) {
        let text = pieces.join(&b' ');
        let text = &text[..text.len().saturating_sub(cut)];
        let (digest, _) = digest(text, known.then_some(escapes));
        prop_assert!(!digest.contains(['Z', '9']), "{} -> {digest}", text.escape_ascii());
    }

    #[test]
    fn any_bytes_have_a_printable_digest(text: Vec<u8>, escapes: Option<bool>) {
        let (digest, _) = digest(&text, escapes);
        prop_assert!(digest.chars().all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\'' | '\\')), "{digest}");
    }

    /// Names of any characters, which random bytes seldom contain.
    #[test]
    fn any_name_has_a_printable_digest(name: String, quoted: bool) {
        let text = if quoted { format!("SELECT `{name}`") } else { format!("SELECT x{name}") };
        let digest = of(&text);
        prop_assert!(digest.chars().all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')), "{digest}");
    }
}
