//! Lines of text for a terminal.

/// Maximum number of characters of a line.
const WIDTH: usize = 100;

/// Wraps a text. Line feeds count as spaces.
pub(crate) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count().saturating_add(word.chars().count()) >= WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
