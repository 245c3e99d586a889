//! Texts that several parts of the configuration share.

/// `"a", "b" or "c"`.
pub(super) fn alternatives(words: &[&str]) -> String {
    let Some((last, others)) = words.split_last() else { return String::new() };
    if others.is_empty() { quoted(&[last]) } else { format!("{} or {last:?}", quoted(others)) }
}

/// `"a", "b", "c"`.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
