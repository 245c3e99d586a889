//! The findings of all commands, as text and as JSON.

mod text;

use serde::Serialize;

use crate::paint::{CYAN, Paint, RED, YELLOW};

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
    /// The kind of finding. It stays the same in later versions. `firstword explain` has a text for each.
    pub(crate) code: &'static str,
    /// What is wrong in a few words. If empty, the title of the code.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) title: String,
    #[serde(rename = "where")]
    pub(crate) location: Location,
    /// The cause in one to three sentences.
    pub(crate) why: String,
    /// Fixes, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fixes: Vec<Fix>,
    /// A command or a statistic that shows whether a fix worked; empty if running the same command again is enough.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) verify: String,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// The number for `--fix`, from 1 over all findings; 0 until the report gives one.
    pub(crate) number: usize,
    /// An instruction in a few words.
    pub(crate) what: String,
    /// What the fix costs, or under which condition it is right.
    pub(crate) trade_off: String,
    /// Whether the fix lowers security.
    pub(crate) security: bool,
    /// Whether the fix is right only where no other is possible.
    pub(crate) last_resort: bool,
    /// The files of this repository from which the fix was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) from: Vec<&'static str>,
    /// YAML to review and apply, or a patch if `what` says so; may hold several documents. Empty if no manifest is the fix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) yaml: String,
}

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs; docs/commands.md describes it
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

    /// The word in its colour.
    pub(crate) fn painted(self, paint: Paint) -> String {
        let (colour, word) = self.style();
        paint.with(colour, word)
    }
}

impl Finding {
    /// A finding with the title of its code.
    pub(crate) fn new(
        severity: Severity,
        code: &'static str,
        location: Location,
        why: String,
        fixes: Vec<Fix>,
    ) -> Self {
        Self { severity, code, title: String::new(), location, why, fixes, verify: String::new() }
    }
}

impl Fix {
    /// An instruction that no manifest carries out.
    pub(crate) fn advice(what: impl Into<String>, trade_off: impl Into<String>) -> Self {
        Self { what: what.into(), trade_off: trade_off.into(), ..Self::default() }
    }

    pub(crate) fn lowering_security(self) -> Self {
        Self { security: true, ..self }
    }

    pub(crate) fn only_as_last_resort(self) -> Self {
        Self { last_resort: true, ..self }
    }

    /// Puts fixes in order: a downgrade of security after the others, a last resort at the end.
    pub(crate) fn sort(fixes: &mut [Self]) {
        fixes.sort_by_key(|fix| (fix.last_resort, fix.security));
    }
}
