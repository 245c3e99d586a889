//! `firstword check-config`: checks configurations inside their files, with the messages that the filter itself logs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firstword::config::MAX_BYTES;
use firstword::escape;
use serde_json::json;

use crate::findings::{Finding, Format, Location, Severity};
use crate::wasm_filter::{WasmFilter, check};
use crate::{documents, find};

/// Check a configuration before Envoy or Istio gets it
///
/// FILE is the filter's configuration itself (one JSON object), or a file that holds it: an Envoy bootstrap, xDS
/// resource or configuration dump, an Istio EnvoyFilter, WasmPlugin or TrafficExtension; YAML (also several documents)
/// or JSON.
///
/// In such a file a Wasm filter is taken for Firstword if its name, root_id, vm_id, or the file name or URL of its
/// code holds "firstword". Otherwise it is taken for Firstword if it is the only network filter of this kind in the file.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The files to check; "-" is the standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Text for people or JSON for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

const HELP: &str = r#"Limits, which hold whatever is in a file:
  files of 64 MiB; values that take 64 MiB, and 8 bytes more for each byte of the file, when all aliases of YAML are replaced
  (a value and a key count 64 bytes and their text; the command takes up to five times as much); 10000 open brackets;
  10000 Wasm filters in a document. A configuration: 1 MiB, 1000 rules; 1000 problems of it are listed.
  The time grows with the size of the file.

Exit status:
  0  every configuration is right
  1  problems were found
  2  wrong usage, an unreadable file, or a file without a configuration

Examples:
  firstword check-config firstword.json
  firstword check-config envoy/*.yaml istio/*.yaml
  kubectl get envoyfilters,wasmplugins -A -o yaml | firstword check-config -
  echo '{"rules": [{"match": {"ports": [3306]}, "protocol": "mysql"}]}' | firstword check-config -

JSON: an object with
  format         1; another number where a field has changed its meaning
  configurations how many were found
  findings       as those of "firstword doctor": [{severity, code, where: {file, filter, path}, why}], where filter is the place
                 of the configuration in the file and path the one in it. The codes are configuration and unusable-file."#;

/// The exit status of one file; the largest is that of the command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Right = 0,
    Problems = 1,
    Unusable = 2,
}

/// The output. As text, results go to the standard output and problems to the standard error. As JSON, all goes to the
/// standard output.
#[derive(Default)]
struct Report {
    results: String,
    problems: String,
    findings: Vec<Finding>,
    configurations: usize,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut outcome = Outcome::Right;
    let mut all = Report::default();
    for file in &arguments.files {
        let mut report = Report::default();
        outcome = outcome.max(check_file(file, &mut report));
        if arguments.output == Format::Text {
            // It is not an error if the reader closes its end.
            let _ = io::stdout().write_all(report.results.as_bytes());
            let _ = io::stderr().write_all(report.problems.as_bytes());
        }
        all.findings.append(&mut report.findings);
        all.configurations = all.configurations.saturating_add(report.configurations);
    }
    if arguments.output == Format::Json {
        let Report { configurations, findings, .. } = all;
        let report = json!({"format": 1, "configurations": configurations, "findings": findings});
        let _ = writeln!(io::stdout(), "{}", escape::json(&report.to_string()));
    }
    ExitCode::from(outcome as u8)
}

fn check_file(path: &Path, report: &mut Report) -> Outcome {
    let file = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
    match documents::read(path).and_then(|bytes| configurations(&bytes, report, &file)) {
        Ok(configurations) => report.add(&file, &configurations),
        Err(problem) => {
            report.add_problem(&format!("{file}: {problem}"));
            report.add_finding(
                "unusable-file",
                Location { file: Some(file.into_owned()), ..Location::default() },
                &problem,
            );
            Outcome::Unusable
        }
    }
}

/// A configuration in a file, with its problems.
struct Configuration {
    location: Option<String>,
    problems: Vec<String>,
}

fn configurations(bytes: &[u8], report: &mut Report, file: &str) -> Result<Vec<Configuration>, String> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let problems = || check(bytes).err().unwrap_or_default();
    let alone = || Ok(vec![Configuration { location: None, problems: problems() }]);
    if bytes.trim_ascii().is_empty() {
        return alone();
    }
    let documents = match documents::parse(bytes) {
        Ok(documents) => documents,
        // The filter's own message about a syntax error is better.
        Err(_) if is_object && bytes.len() <= MAX_BYTES => return alone(),
        Err(error) => return Err(error),
    };
    let mut filters: Vec<(usize, WasmFilter)> = Vec::new();
    for (document, number) in documents.iter().zip(1..) {
        filters.extend(find::wasm_filters(document)?.into_iter().map(|filter| (number, filter)));
    }
    if filters.is_empty() && is_object && !documents.iter().any(find::is_of_another_tool) {
        return alone();
    }
    let only = filters.len() == 1;
    let (ours, others): (Vec<_>, Vec<_>) = filters.into_iter().partition(|(_, filter)| filter.named || only);
    for (document, filter) in &others {
        let why = "not named firstword, and not the only one";
        report.add_result(&format!("skipped: {file}: document {document}: {}: {why}", filter.at));
    }
    if ours.is_empty() {
        return Err(
            "found no configuration of Firstword, neither as one JSON object nor in a Wasm filter".to_owned()
        );
    }
    let configuration = |(document, filter): (usize, WasmFilter)| Configuration {
        location: Some(format!("document {document}: {}", filter.at)),
        problems: filter.problems,
    };
    Ok(ours.into_iter().map(configuration).collect())
}

impl Report {
    fn add(&mut self, file: &str, configurations: &[Configuration]) -> Outcome {
        let count = configurations.len();
        self.configurations = count;
        self.add_result(&format!("{file}: found {count} configuration{}", plural(count)));
        let mut outcome = Outcome::Right;
        for Configuration { location, problems } in configurations {
            for problem in problems {
                let (path, why) = problem.split_once(": ").unwrap_or(("$", problem));
                let at = Location {
                    file: Some(file.to_owned()),
                    filter: location.clone(),
                    path: Some(path.to_owned()),
                    ..Location::default()
                };
                self.add_finding("configuration", at, why);
            }
            let location =
                location.as_ref().map_or_else(|| file.to_owned(), |location| format!("{file}: {location}"));
            if problems.is_empty() {
                self.add_result(&format!("ok: {location}"));
                continue;
            }
            outcome = Outcome::Problems;
            let count = problems.len();
            self.add_problem(&format!("{location}: {count} problem{}", plural(count)));
            for problem in problems {
                self.add_problem(&format!("  {problem}"));
            }
        }
        outcome
    }

    fn add_finding(&mut self, code: &'static str, location: Location, why: &str) {
        let (severity, fixes) = (Severity::Error, Vec::new());
        self.findings.push(Finding { severity, code, location, why: escape::text(why), fixes });
    }

    /// Adds a line of results, escaped.
    fn add_result(&mut self, line: &str) {
        let _ = writeln!(self.results, "{}", escape::text(line));
    }

    /// Adds a line of problems, escaped.
    fn add_problem(&mut self, line: &str) {
        let _ = writeln!(self.problems, "{}", escape::text(line));
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
