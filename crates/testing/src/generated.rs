//! Files, and parts of documents, that tests generate from the code. `FIRSTWORD_BLESS=1` writes them.

/// Asserts that the file has the text that `expected` makes of its present one. `path` is relative to the repository.
pub fn assert_file(path: &str, expected: impl Fn(&str) -> String) {
    let file = super::root().join(path);
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let expected = expected(&found);
    if std::env::var_os("FIRSTWORD_BLESS").is_some() {
        // Bless with `--test-threads=1`, because another test may write another part of this file.
        std::fs::write(&file, expected).unwrap_or_else(|e| panic!("{path}: {e}"));
    } else {
        assert!(found == expected, "{path} is old. FIRSTWORD_BLESS=1 writes it. It should be:\n{expected}");
    }
}

/// Asserts that the document has this text between the comments `NAME: begin` and `NAME: end`.
pub fn assert_section(path: &str, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    assert_file(path, |document| {
        let parts =
            document.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
        let (before, after) = parts.unwrap_or_else(|| panic!("{path} has no section {name}"));
        [before, &begin, text, &end, after].concat()
    });
}

/// A table in Markdown. The first row is the header.
pub fn table(rows: &[Vec<String>]) -> String {
    let line = |cells: &Vec<String>| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&rows[0]) + &"|---".repeat(rows[0].len()) + "|\n";
    text.extend(rows[1..].iter().map(line));
    text
}
