//! The one policy for colours of all commands.

use std::io::{self, IsTerminal as _};

/// When the output has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal that supports them, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

pub(crate) const RED: &str = "1;31";
pub(crate) const YELLOW: &str = "1;33";
pub(crate) const CYAN: &str = "1;36";
/// Bold, which is also the style of headings.
pub(crate) const BOLD: &str = "1";

/// Whether texts are coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// The setting for the standard output.
    pub(crate) fn for_stdout(colour: Colour) -> Self {
        let set = |name: &str| std::env::var(name).ok();
        Self::new(colour, io::stdout().is_terminal(), set("NO_COLOR").as_deref(), set("TERM").as_deref())
    }

    /// Without an explicit choice: colours for a terminal that supports them, unless `NO_COLOR` is set and not empty
    /// (<https://no-color.org>).
    fn new(colour: Colour, is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let can = term.is_some_and(|term| !term.is_empty() && term != "dumb");
        Self(match colour {
            Colour::Auto => is_terminal && can && no_color.is_none_or(str::is_empty),
            Colour::Always => true,
            Colour::Never => false,
        })
    }

    /// A text in a colour, by its number in ECMA-48's SGR.
    pub(crate) fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_get_colours_unless_the_user_decides() {
        let coloured = |is_terminal, no_color, term| Paint::new(Colour::Auto, is_terminal, no_color, term).0;
        assert!(coloured(true, None, Some("xterm")));
        assert!(coloured(true, Some(""), Some("xterm")));
        assert!(!coloured(false, None, Some("xterm")));
        assert!(!coloured(true, Some("1"), Some("xterm")));
        assert!(!coloured(true, None, Some("dumb")));
        assert!(!coloured(true, None, None));
        assert!(Paint::new(Colour::Always, false, Some("1"), None).0);
        assert!(!Paint::new(Colour::Never, true, None, Some("xterm")).0);
        assert_eq!(Paint(true).with(BOLD, "x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
