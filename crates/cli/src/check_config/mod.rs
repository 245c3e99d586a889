//! `firstword check-config`: checks configurations inside their files, with the messages that the filter itself logs.

mod contents;
mod report;
mod warnings;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::documents;
use crate::findings::{Format, Paint};
use report::Report;

/// Check a configuration before Envoy or Istio gets it
///
/// FILE is the filter's configuration itself (one JSON object), or a file that holds it: an Envoy bootstrap, xDS
/// resource or configuration dump, an Istio EnvoyFilter, WasmPlugin or TrafficExtension, or a ConfigMap that holds one of
/// these; YAML (also several documents) or JSON. A file without a configuration is skipped, if another file has one.
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
  0  every configuration is valid; there may be warnings
  1  problems were found
  2  wrong usage, an unreadable file, or no configuration in any file

Examples:
  firstword check-config firstword.json
  find envoy istio -name '*.yaml' -exec firstword check-config {} +
  kubectl get envoyfilters,wasmplugins,configmaps -A -o yaml | firstword check-config -
  helm template CHART | firstword check-config -
  echo '{"rules": [{"match": {"ports": [3306]}, "protocol": "mysql"}]}' | firstword check-config -

JSON: an object with
  format         1; another number where a field has changed its meaning
  configurations how many were found
  findings       as those of "firstword doctor": [{severity, code, where: {file, filter, path}, why}], where filter is the place
                 of the configuration in the file and path the one in it. The codes are
                   configuration        error: a problem, as the filter reports it
                   unusable-file        error: the file cannot be read
                   no-configuration     error: no file has a configuration
                   rule-never-matches   warning: the filter sees no connection that the rule matches
                   no-trusted-networks  warning: PROXY headers are optional, and each one closes its connection
                   skipped              info: a file or Wasm filter of others"#;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::new(Paint::for_stdout());
    for path in &arguments.files {
        let file = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
        match documents::read(path).and_then(|bytes| contents::read(&bytes)) {
            Ok(contents) => report.add(&file, &contents),
            Err(why) => report.add_unusable(&file, &why),
        }
    }
    let (printed, outcome) = report.finish(arguments.output);
    // It is not an error if the reader closes its end.
    let _ = io::stdout().write_all(printed.as_bytes());
    ExitCode::from(outcome as u8)
}
