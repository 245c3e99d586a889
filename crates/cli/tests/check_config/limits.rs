//! Limits: what is in a file cannot exhaust the machine.

use super::*;

#[test]
fn malformed_input_is_refused_with_one_line() {
    let aliases: String =
        (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    for input in [
        vec![0; 1 << 20],
        vec![0xff; 1000],
        b"\x0a\x0d\x0a\x04mode\x12\x05\x1a\x03off".to_vec(),
        "[".repeat(1 << 20).into_bytes(),
        "a: {".repeat(1 << 16).into_bytes(),
        "- ".repeat(1 << 12).into_bytes(),
        format!("a0: &a0 x\n{aliases}").into_bytes(),
        b"a: *b".to_vec(),
        b"<<: 1".to_vec(),
        b"? {a: b}\n: c".to_vec(),
        b"a: 1\na: 2".to_vec(),
    ] {
        let start: Vec<u8> = input.iter().take(20).copied().collect();
        let (code, report) = check(input);
        assert!(report.starts_with("standard input: error: "), "{start:?}: {report}");
        assert_eq!((code, report.lines().count()), (2, 1), "{start:?}: {report}");
    }
    assert_eq!(check("{".repeat(1 << 20)).0, 1);
    assert_check_of(vec![b' '; (64 << 20) + 1], 2, "standard input: error: larger than 64 MiB\n");
}

/// With aliases and merges, a few bytes of a file can take a megabyte in memory.
#[test]
fn a_small_file_cannot_become_a_large_document() {
    let long = "x".repeat(1_000_000);
    let aliases = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 2500].join(", "));
    let keys: Vec<_> = (0..100).map(|n| format!("k{n}: {}", "x".repeat(10_000))).collect();
    let merges = format!("a: &a {{{}}}\nb:\n{}", keys.join(", "), "- {<<: *a}\n".repeat(2500));
    let tagged = format!("a: &a !t {long}\nb: [{}]\n", vec!["*a"; 2500].join(", "));
    let key = format!("a: &a {long}\nb: [{}]\n", vec!["{*a : 1}"; 2500].join(", "));
    for (input, place) in [(aliases, "b["), (merges, "b["), (tagged, "b["), (key, "b[")] {
        let (code, problems) = check(input);
        assert_eq!(code, 2);
        let expected = "standard input: error: document 1: ";
        assert!(problems.starts_with(&format!("{expected}{place}")), "{problems}");
        let what =
            "expected values that take at most 71 MiB when all aliases are replaced, found more at line ";
        assert!(problems.contains(what), "{problems}");
    }
    // JSON has no aliases, but its brackets and numbers also count as values.
    let numbers = format!("[{}0]", "0,".repeat(2_000_000));
    let (code, problems) = check(numbers);
    let what = "standard input: error: expected values that take at most 94 MiB when all aliases are replaced, found more at line 1 ";
    assert!(code == 2 && problems.starts_with(what), "{problems}");
    // A long key counts only once, not for each value under it.
    assert_check_of(
        format!("{{\"mode\": {{\"{long}\": [{}0]}}}}", "0,".repeat(1_000_000)),
        1,
        &format!(
            "standard input: 1 problem\n  error: $: expected at most 1048576 bytes, found 3000019\n{ONE_PROBLEM}"
        ),
    );
    assert_check_of(
        format!("[{}]", vec![wasm("other", "{}"); 10_001].join(",")),
        2,
        "standard input: error: expected at most 10000 Wasm filters in a document, found more\n",
    );
}

/// A realistic use of aliases and merges, and a realistic number of values for the size of the file.
#[test]
fn a_large_realistic_file_is_read() {
    let filter = wasm("firstword", &string_value("{}"));
    let shared = format!(
        "a: &a {{x: {}}}\nb: [{}]\nc: {filter}\n",
        "x".repeat(1000),
        vec!["{<<: *a, y: 1}"; 5000].join(", ")
    );
    let ok = |at: &str| format!("ok: standard input: document 1: {at}.config.configuration\n{ONE_RIGHT}");
    assert_check_of(shared, 0, &ok("$.c"));
    let cluster = r#"{"name": "outbound|3306||mysql.db.svc.cluster.local", "address": {"port": 3306}, "metadata": {"a": {"b": [{"c": "d"}]}}}"#;
    let dump =
        format!("{{\"kind\": \"x\", \"all\": [{}], \"c\": {filter}}}", vec![cluster; 30_000].join(",\n"));
    assert!(dump.len() > 3_500_000);
    assert_check_of(dump, 0, &ok("$.c"));
}
