//! A finding as text: what is wrong, where, its cause, its fixes, and how to see whether they worked.

use firstword::escape;

use super::{Finding, Fix, Location};
use crate::explain;
use crate::paint::{BOLD, Paint};
use crate::wrap::wrapped;

/// The column at which texts begin.
const COLUMN: usize = 10;

impl Finding {
    /// The finding as text in the colours of `paint`, with a final line feed. Text from the input is escaped.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let (colour, word) = self.severity.style();
        let explained = explain::of(self.code);
        let title = match (self.title.as_str(), explained) {
            ("", Some(explained)) => explained.title,
            ("", None) => self.code,
            (title, _) => title,
        };
        let title = match &self.location.destination {
            Some(to) if self.title.is_empty() => format!("{to}: {title}"),
            _ => title.to_owned(),
        };
        let head = paint.with(colour, &format!("{word}[{}]", self.code));
        let mut text = format!("{head}: {}\n", escape::text(&title));
        let place = self.location.text();
        if !place.is_empty() {
            text.push_str(&labelled(paint, "where", &place));
        }
        text.push_str(&labelled(paint, "cause", &self.why));
        for fix in &self.fixes {
            text.push_str(&labelled(paint, &format!("fix {}", fix.number), &fix.text()));
        }
        if !self.verify.is_empty() {
            text.push_str(&labelled(paint, "verify", &self.verify));
        }
        if let Some(explained) = explained {
            let more = format!("firstword explain {}; {}", self.code, explained.docs);
            text.push_str(&labelled(paint, "more", &more));
        }
        text
    }
}

impl Fix {
    /// The instruction, its price, and the option that prints its manifest.
    fn text(&self) -> String {
        let mut lines = vec![format!("{}.", self.what)];
        let marks = match (self.security, self.last_resort) {
            (true, true) => " (lowers security, the last resort)",
            (true, false) => " (lowers security)",
            (false, true) => " (the last resort)",
            (false, false) => "",
        };
        lines.push(format!("Trade-off{marks}: {}", self.trade_off));
        if !self.yaml.is_empty() {
            lines.push(format!("--fix {} prints it, from {}.", self.number, self.from.join(" and ")));
        }
        lines.join("\n")
    }
}

impl Location {
    /// The location in one line, the widest part first; empty if only a destination is known.
    fn text(&self) -> String {
        let parts = [
            (&self.file, ""),
            (&self.listener, "listener "),
            (&self.chain, "chain "),
            (&self.filter, "filter "),
            (&self.path, ""),
            (&self.resource, "made from "),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(part, what)| part.as_ref().map(|part| format!("{what}{}", escape::text(part))));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Lines with a label before the first one. The text may have several paragraphs.
fn labelled(paint: Paint, label: &str, text: &str) -> String {
    let mut lines = String::new();
    let wrapped: Vec<_> = text.lines().flat_map(|line| wrapped(&escape::text(line))).collect();
    for (index, line) in wrapped.iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        let filler = " ".repeat(COLUMN.saturating_sub(2).saturating_sub(label.len()));
        let label = if label.is_empty() { String::new() } else { paint.with(BOLD, label) };
        lines.push_str(&format!("  {label}{filler}{line}\n"));
    }
    lines
}
