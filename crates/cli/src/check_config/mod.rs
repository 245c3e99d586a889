//! `firstword check-config`: checks configurations inside their files, with the messages that the filter itself logs.

mod contents;
mod report;
mod warnings;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::documents;
use crate::findings::Format;
use crate::paint::Paint;
use report::Report;

/// Check a configuration before Envoy or Istio gets it
///
/// In CI, with as many files as you like, or what a cluster or a chart has:
///   find envoy istio -name '*.yaml' -exec firstword check-config {} +
///   kubectl get envoyfilters,wasmplugins,configmaps -A -o yaml | firstword check-config -
///   helm template CHART | firstword check-config -
///   echo '{"rules": [{"match": {"ports": [3306]}, "protocol": "mysql"}]}' | firstword check-config -
///
/// A file is the filter's configuration itself (one JSON object), or a file that holds it: an Envoy bootstrap, xDS
/// resource or configuration dump, an Istio EnvoyFilter, WasmPlugin or TrafficExtension, or a ConfigMap that holds one of
/// these; YAML (also several documents) or JSON. A file without a configuration is skipped, if another file has one.
///
/// In such a file a Wasm filter is taken for Firstword if its name, root_id, vm_id, or the file name or URL of its
/// code holds "firstword". Otherwise it is taken for Firstword if it is the only network filter of this kind in the file.
#[derive(clap::Args)]
#[command(after_long_help = HELP, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The files to check; "-" is the standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Text for people or JSON for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

const HELP: &str = r#"Exit status:
  0  every configuration is valid; there may be warnings
  1  problems were found
  2  wrong usage, an unreadable file, or no configuration in any file

"firstword explain CODE" explains a finding. docs/commands.md describes the JSON and the limits."#;

pub(crate) fn run(arguments: &Arguments, paint: Paint) -> ExitCode {
    let mut report = Report::new(paint);
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
