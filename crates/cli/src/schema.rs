//! `firstword schema`: prints the JSON Schema of the configuration.

use std::io::{self, Write as _};
use std::process::ExitCode;

use firstword::config::json_schema;

/// Print the JSON Schema of the configuration
///
/// Editors use it to complete and to check settings. The schema accepts every valid configuration. It cannot compare two
/// settings, so "firstword check-config" finds more.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// What the schema describes
    #[arg(value_name = "OF", default_value = "configuration")]
    of: Of,
}

const HELP: &str = r#"Examples:
  firstword schema > firstword.schema.json
  firstword schema kubernetes > firstword.kubernetes.json

To use it in an editor with YAML's language server, make this the first line of a manifest:
  # yaml-language-server: $schema=firstword.kubernetes.json"#;

/// What a schema describes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Of {
    /// The configuration, one JSON object.
    Configuration,
    /// A Kubernetes object; of it, "pluginConfig" in a WasmPlugin and in a TrafficExtension.
    Kubernetes,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let schema = match arguments.of {
        Of::Configuration => json_schema::configuration(),
        Of::Kubernetes => json_schema::kubernetes(),
    };
    // It is not an error if the reader closes its end.
    let _ = writeln!(io::stdout(), "{schema:#}");
    ExitCode::SUCCESS
}
