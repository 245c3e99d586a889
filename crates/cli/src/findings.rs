//! The findings of all commands, as text and as JSON.

use std::io::{self, IsTerminal as _};

use firstword::escape;
use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know; nothing is wrong.
    Info,
    /// Something works, but with a cost or only for some clients.
    Warning,
    /// Something does not work.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The kind of finding. It stays the same in later versions.
    pub(crate) code: &'static str,
    #[serde(rename = "where")]
    pub(crate) location: Location,
    /// One or two sentences.
    pub(crate) why: String,
    /// Fixes, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fixes: Vec<Fix>,
}

/// The location of a finding. Fields that do not apply are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// A text such as `55.108.108.2:10000`. `*:10000` means any address without a listener of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<String>,
    /// The name of a filter chain, or its number in the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
    /// The name of a filter or listener filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
    /// The resource from which Istio made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    /// A JSON path in the file, or in the filter's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
}

/// A fix for a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// A description in a few words.
    pub(crate) what: String,
    /// The files of this repository from which the fix was made.
    pub(crate) from: Vec<&'static str>,
    /// YAML to review and apply, or a patch if `what` says so; may hold several documents.
    pub(crate) yaml: String,
}

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; see "JSON" below.
    Json,
}

impl Severity {
    /// The colour and the word.
    fn style(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => (RED, "error"),
            Self::Warning => (YELLOW, "warning"),
            Self::Info => (CYAN, "info"),
        }
    }
}

impl Finding {
    /// The finding as text in the colours of `paint`, with a final line feed. Text from the input is escaped.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let (colour, word) = self.severity.style();
        let mut text =
            format!("{}: {}\n", paint.with(colour, &format!("{word}[{}]", self.code)), self.location.text());
        text.push_str(&indented(&wrapped(&escape::text(&self.why))));
        if let Some(resource) = &self.location.resource {
            text.push_str(&format!("  made from {}\n", escape::text(resource)));
        }
        if let Some((first, others)) = self.fixes.split_first() {
            text.push_str(&format!(
                "  {} {} (from {})\n\n",
                paint.with(BOLD, "fix:"),
                escape::text(&first.what),
                first.from.join(", ")
            ));
            text.push_str(&indented(&indented(&escape::lines(&first.yaml))));
            for other in others {
                text.push_str(&format!(
                    "\n  or: {} (from {}; -o json has it filled in)\n",
                    escape::text(&other.what),
                    other.from.join(", ")
                ));
            }
        }
        text
    }
}

impl Location {
    /// The location in one line, the widest part first.
    pub(crate) fn text(&self) -> String {
        let parts = [
            (&self.file, ""),
            (&self.destination, "connections to "),
            (&self.listener, "listener "),
            (&self.chain, "chain "),
            (&self.filter, "filter "),
            (&self.path, ""),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(part, what)| part.as_ref().map(|part| format!("{what}{}", escape::text(part))));
        let text = parts.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "the proxy".to_owned() } else { text }
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const CYAN: &str = "1;36";
/// Bold, which is also the style of headings.
pub(crate) const BOLD: &str = "1";

/// Whether texts are coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// The setting for the standard output.
    pub(crate) fn for_stdout() -> Self {
        let set = |name: &str| std::env::var(name).ok();
        Self::new(io::stdout().is_terminal(), set("NO_COLOR").as_deref(), set("TERM").as_deref())
    }

    /// Colours for a terminal that supports them, unless `NO_COLOR` is set and not empty (<https://no-color.org>).
    fn new(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let can = term.is_some_and(|term| !term.is_empty() && term != "dumb");
        Self(is_terminal && can && no_color.is_none_or(str::is_empty))
    }

    /// The word for a severity, in its colour.
    pub(crate) fn severity(self, severity: Severity) -> String {
        let (colour, word) = severity.style();
        self.with(colour, word)
    }

    /// A text in a colour, by its number in ECMA-48's SGR.
    pub(crate) fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Indents every line by two columns. Empty lines stay empty.
fn indented(text: &str) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    text.lines().map(line).collect()
}

/// Wraps a text into lines of at most 100 characters.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
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
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_get_colours() {
        let coloured = |is_terminal, no_color, term| Paint::new(is_terminal, no_color, term).0;
        assert!(coloured(true, None, Some("xterm")));
        assert!(coloured(true, Some(""), Some("xterm")));
        assert!(!coloured(false, None, Some("xterm")));
        assert!(!coloured(true, Some("1"), Some("xterm")));
        assert!(!coloured(true, None, Some("dumb")));
        assert!(!coloured(true, None, None));
        assert_eq!(Paint(true).with(BOLD, "x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
