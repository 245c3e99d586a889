//! Tables in Markdown files that a test compares with its measurements.

/// The text before the table with the header row `| first | ...`, the table, and the rest.
fn split<'t>(text: &'t str, first: &str) -> Option<(&'t str, &'t str, &'t str)> {
    let (before, table) = text.split_at(text.find(&format!("\n| {first} |"))? + 1);
    let (table, rest) = table.split_at(table.find("\n\n").map_or(table.len(), |end| end + 1));
    Some((before, table, rest))
}

/// Asserts that the table in the file equals `rows`, which include the header. With `FIRSTWORD_BLESS` set, writes it instead.
/// `path` is relative to the repository.
pub fn assert_says(path: &str, rows: &[Vec<String>]) {
    let path = super::root().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut measured = line(&rows[0]) + &"|---".repeat(rows[0].len()) + "|\n";
    measured.extend(rows[1..].iter().map(line));
    let first = &rows[0][0];
    let Some((before, found, rest)) = split(&text, first) else {
        panic!("{} has no table `| {first} |`; it should be:\n{measured}", path.display());
    };
    if std::env::var_os("FIRSTWORD_BLESS").is_some() {
        // Bless with `--test-threads=1`, because another test may write another table of this file.
        let blessed = [before, &measured, rest].concat();
        std::fs::write(&path, blessed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    } else {
        let path = path.display();
        assert_eq!(found, measured, "{path} differs (FIRSTWORD_BLESS=1 writes the table):\n{measured}");
    }
}
