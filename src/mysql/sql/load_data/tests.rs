use super::*;

fn names(text: &str) -> Option<Vec<String>> {
    let NamedFiles { names, is_open } = NamedFiles::of(text.as_bytes(), Some(true));
    let names = names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
    (!is_open).then_some(names)
}

#[test]
fn files_of_load_data_local_are_found() {
    let none: &[&str] = &[];
    let cases = [
        ("LOAD DATA LOCAL INFILE 'f' INTO TABLE t", ["f"].as_slice()),
        ("load xml local infile 'f.xml' into table t", &["f.xml"]),
        ("LOAD DATA LOW_PRIORITY LOCAL INFILE \"f\" INTO TABLE t", &["f"]),
        ("LOAD DATA CONCURRENT FROM LOCAL INFILE'f'INTO TABLE t", &["f"]),
        ("LOAD\x0bDATA\rLOCAL\tINFILE\n'f'", &["f"]),
        ("/* x */ LOAD DATA -- LOCAL\nLOCAL # INFILE 'x'\nINFILE /* 'y' */ 'f'", &["f"]),
        ("LOAD DATA/*!40000 LOCAL */INFILE 'f'", &["f"]),
        ("/*M!100000 LOAD DATA LOCAL INFILE 'f' */", &["f"]),
        ("LOAD DATA LOCAL /* a /* b */ INFILE 'f'", &["f"]),
        ("SELECT 1; INSERT t VALUES ('a;''b\\'c'); LOAD DATA LOCAL INFILE 'f' INTO TABLE t; DO 1", &["f"]),
        ("LOAD DATA LOCAL INFILE 'f' INTO TABLE t; LOAD XML LOCAL INFILE 'g' INTO TABLE t", &["f", "g"]),
        ("SET STATEMENT max_statement_time=1 FOR LOAD DATA LOCAL INFILE 'f' INTO TABLE t", &["f"]),
        ("LOAD LOAD DATA LOCAL INFILE 'f'", &["f"]),
        ("LOAD DATA LOCAL INFILE ''", &[""]),
        // Not the client's file.
        ("LOAD DATA INFILE 'f' INTO TABLE t", none),
        ("LOAD DATA LOW_PRIORITY INFILE 'f' INTO TABLE t", none),
        ("LOAD DATA S3 LOCAL INFILE 'f'", none),
        ("LOAD LOCAL INFILE 'f'", none),
        ("DATA LOCAL INFILE 'f'", none),
        ("LOAD DATA FROM LOW_PRIORITY LOCAL INFILE 'f'", none),
        ("LOAD DATA LOCAL LOCAL INFILE 'f'", none),
        ("LOAD DATA LOCAL INFILE; 'f'", none),
        // No server accepts these as a name.
        ("LOAD DATA LOCAL INFILE x'66'", none),
        ("LOAD DATA LOCAL INFILE N'f'", none),
        ("LOAD DATA LOCAL INFILE @f", none),
        ("LOAD DATA LOCAL INFILE `f`", none),
        ("LOAD DATA LOCAL INFILE CONCAT('f')", none),
        // Not code.
        ("SELECT 'LOAD DATA LOCAL INFILE ''f'''", none),
        ("SELECT \"LOAD DATA LOCAL INFILE 'f'\"", none),
        ("SELECT `LOAD DATA LOCAL INFILE 'f'`", none),
        ("SELECT `a\\`, 'LOAD DATA LOCAL INFILE ''f'''", none),
        ("-- LOAD DATA LOCAL INFILE 'f'\nSELECT 1", none),
        ("# LOAD DATA LOCAL INFILE 'f'", none),
        ("/* LOAD DATA LOCAL INFILE 'f' */ SELECT 1", none),
        ("SELECT @load, data_local, @@local_infile", none),
        ("SELECT 1--1", none),
        ("", none),
        ("--", none),
    ];
    for (text, expected) in cases {
        assert_eq!(names(text), Some(expected.iter().map(ToString::to_string).collect()), "{text}");
    }
}

#[test]
fn statements_that_cannot_be_read_leave_files_open() {
    for text in [
        "EXECUTE s",
        "CALL p()",
        "EXECUTE IMMEDIATE \"LOAD DATA LOCAL INFILE 'f' INTO TABLE t\"",
        "BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'x'; END",
        "SET STATEMENT max_statement_time=1 FOR call p()",
        "SELECT 'a",
        "SELECT `a",
        "SELECT 1 /* a",
    ] {
        assert_eq!(names(text), None, "{text}");
    }
    let files = NamedFiles::of(b"LOAD DATA LOCAL INFILE 'f'; CALL p()", Some(true));
    assert_eq!(files.judge(b"f"), Judgement::Named);
    assert_eq!(files.judge(b"g"), Judgement::Undecidable);
}

#[test]
fn escapes_and_quotes_in_names_are_read_as_servers_do() {
    for (quoted, name) in [
        (r"'C:\\data\\f.csv'", "C:\\data\\f.csv"),
        (r"'/tmp/\f'", "/tmp/f"),
        (r"'\0\b\n\r\t\Z\%\_'", "\0\x08\n\r\t\x1a\\%\\_"),
        ("'it''s'", "it's"),
        ("'it\\'s'", "it's"),
        ("\"it's\"", "it's"),
        ("\"a\"\"b\"", "a\"b"),
        ("'a\"\"b'", "a\"\"b"),
        ("'bü'", "bü"),
    ] {
        let text = format!("LOAD DATA LOCAL INFILE {quoted} INTO TABLE t");
        assert_eq!(names(&text), Some(vec![name.to_owned()]), "{quoted}");
    }
    let unescaped = NamedFiles::of(br"LOAD DATA LOCAL INFILE 'C:\new'", Some(false));
    assert_eq!(unescaped.judge(br"C:\new"), Judgement::Named);
}

#[test]
fn files_that_depend_on_sql_mode_or_character_set_are_undecidable() {
    let judge = |text: &[u8], escapes, name: &[u8]| NamedFiles::of(text, escapes).judge(name);
    // One string or, if a backslash is no escape character, a string before a LOAD.
    let text = br"SELECT 'a\'; LOAD DATA LOCAL INFILE 'f' INTO TABLE t -- '";
    assert_eq!(judge(text, Some(false), b"f"), Judgement::Named);
    assert_eq!(judge(text, None, b"f"), Judgement::Undecidable);
    // A backslash that makes no difference is not ambiguous.
    let text = br"SELECT '\n'; LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    assert_eq!(judge(text, None, b"f"), Judgement::Named);
    assert_eq!(judge(text, None, b"g"), Judgement::NotNamed);
    // In GBK the backslash is part of a character and the string ends; in UTF-8 the string continues.
    let text = b"SELECT '\xb5\\', LOAD DATA LOCAL INFILE 'f' -- '";
    assert_eq!(judge(text, Some(true), b"f"), Judgement::Undecidable);
    let text = b"SELECT '\xb5\\\\'; LOAD DATA LOCAL INFILE 'f'";
    assert_eq!(judge(text, Some(true), b"f"), Judgement::Undecidable);
    let text = b"SELECT '\xb5\\n'; LOAD DATA LOCAL INFILE 'f'";
    assert_eq!(judge(text, Some(true), b"g"), Judgement::NotNamed);
}

#[test]
fn only_exact_names_are_named() {
    let files = NamedFiles::of(b"LOAD DATA LOCAL INFILE 'f'", None);
    assert!(!files.is_empty());
    assert_eq!(files.judge(b"f"), Judgement::Named);
    for other in [b"".as_slice(), b"F", b"f ", b"/etc/passwd"] {
        assert_eq!(files.judge(other), Judgement::NotNamed);
    }
    let recoded = NamedFiles::of("LOAD DATA LOCAL INFILE 'bü'".as_bytes(), None);
    assert_eq!(recoded.judge("bü".as_bytes()), Judgement::Named);
    assert_eq!(recoded.judge(b"b\xfc"), Judgement::Undecidable);
    assert_eq!(NamedFiles::of(b"SELECT 1", None).judge("bü".as_bytes()), Judgement::NotNamed);
    let long = NamedFiles::of_prefix(b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a, `b", None);
    assert_eq!(long.judge(b"f"), Judgement::Named);
    assert_eq!(long.judge(b"g"), Judgement::Undecidable);
    assert_eq!(NamedFiles::UNKNOWN.judge(b"f"), Judgement::Undecidable);
    assert!(NamedFiles::of(b"SELECT 1", None).is_empty());
    assert_eq!(NamedFiles::default().judge(b""), Judgement::NotNamed);
}
