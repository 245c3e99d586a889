//! The report of `firstword check-config`: text for people, or JSON for programs.

use std::fmt::Write as _;

use firstword::escape;
use serde_json::json;

use super::contents::{Configuration, Contents};
use super::warnings;
use crate::findings::{Finding, Format, Location, Severity};
use crate::paint::Paint;

/// The exit status of a file; the largest is that of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    #[default]
    Right = 0,
    Problems = 1,
    Unusable = 2,
}

/// The results of all files.
pub(super) struct Report {
    text: String,
    findings: Vec<Finding>,
    configurations: usize,
    outcome: Outcome,
    paint: Paint,
}

impl Report {
    pub(super) fn new(paint: Paint) -> Self {
        Self { text: String::new(), findings: Vec::new(), configurations: 0, outcome: Outcome::Right, paint }
    }

    /// Adds a file that cannot be read.
    pub(super) fn add_unusable(&mut self, file: &str, why: &str) {
        self.outcome = Outcome::Unusable;
        let word = Severity::Error.painted(self.paint);
        self.add_line(&format!("{file}: "), &word, why);
        self.add_finding(Severity::Error, "unusable-file", of_file(file), why);
    }

    /// Adds a file that can be read.
    pub(super) fn add(&mut self, file: &str, contents: &Contents) {
        for place in &contents.others {
            let why = "this Wasm filter is not named firstword, and it is not the only one";
            self.skip(
                &format!("{file}: {place}"),
                Location { filter: Some(place.clone()), ..of_file(file) },
                why,
            );
        }
        if contents.configurations.is_empty() {
            self.skip(file, of_file(file), "it has no configuration of Firstword");
            return;
        }
        self.configurations = self.configurations.saturating_add(contents.configurations.len());
        for configuration in &contents.configurations {
            self.add_configuration(file, configuration);
        }
    }

    fn skip(&mut self, place: &str, location: Location, why: &str) {
        self.add_line("skipped: ", "", &format!("{place}: {why}"));
        self.add_finding(Severity::Info, "skipped", location, why);
    }

    fn add_configuration(&mut self, file: &str, configuration: &Configuration) {
        let Configuration { place, checked, reach, is_empty } = configuration;
        let at = place.as_ref().map_or_else(|| file.to_owned(), |place| format!("{file}: {place}"));
        let mut own = Vec::new();
        match checked {
            Ok(config) => own.extend(
                warnings::of(config, reach)
                    .into_iter()
                    .map(|warning| (Severity::Warning, warning.code, warning.path, warning.why)),
            ),
            Err(problems) => own.extend(problems.iter().map(|problem| {
                let (path, why) = problem.split_once(": ").unwrap_or(("$", problem));
                (Severity::Error, "configuration", path.to_owned(), why.to_owned())
            })),
        }
        let note = if *is_empty { ": it is empty, so the defaults apply" } else { "" };
        match checked {
            Ok(_) => self.add_line("ok: ", "", &format!("{at}{note}")),
            Err(problems) => {
                self.outcome = self.outcome.max(Outcome::Problems);
                self.add_line("", "", &format!("{at}: {}", counted(problems.len(), "problem")));
            }
        }
        for (severity, code, path, why) in own {
            let word = severity.painted(self.paint);
            self.add_line("  ", &word, &format!("{path}: {why}"));
            let location = Location { filter: place.clone(), path: Some(path), ..of_file(file) };
            self.add_finding(severity, code, location, &why);
        }
    }

    /// Prints the report. Returns the exit status.
    pub(super) fn finish(mut self, format: Format) -> (String, Outcome) {
        if self.configurations == 0 && self.outcome != Outcome::Unusable {
            self.outcome = Outcome::Unusable;
            let why = "found no configuration of Firstword, neither as one JSON object nor in a Wasm filter";
            let word = Severity::Error.painted(self.paint);
            self.add_line("", &word, why);
            self.add_finding(Severity::Error, "no-configuration", Location::default(), why);
        }
        if self.configurations > 0 {
            let summary = self.summary();
            self.add_line("", "", &summary);
        }
        let Self { text, findings, configurations, outcome, .. } = self;
        let printed = match format {
            Format::Text => text,
            Format::Json => {
                let report = json!({"format": 1, "configurations": configurations, "findings": findings});
                format!("{}\n", escape::json(&report.to_string()))
            }
        };
        (printed, outcome)
    }

    /// The numbers of configurations, problems and warnings.
    fn summary(&self) -> String {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        [
            counted(self.configurations, "configuration"),
            counted(count(Severity::Error), "problem"),
            counted(count(Severity::Warning), "warning"),
        ]
        .join(", ")
    }

    fn add_finding(&mut self, severity: Severity, code: &'static str, location: Location, why: &str) {
        self.findings.push(Finding::new(severity, code, location, escape::text(why), Vec::new()));
    }

    /// Adds a line: `word` as it is, because it may have colours, and the rest escaped.
    fn add_line(&mut self, before: &str, word: &str, after: &str) {
        let colon = if word.is_empty() { "" } else { ": " };
        let _ = writeln!(self.text, "{}{word}{colon}{}", escape::text(before), escape::text(after));
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn of_file(file: &str) -> Location {
    Location { file: Some(file.to_owned()), ..Location::default() }
}
