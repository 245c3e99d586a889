//! `firstword completions` and `firstword man`: what a shell and `man` know about the command, made from its arguments.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the completions of a shell
///
/// The shell then completes commands, options and their values after Tab.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The shell that reads them
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

const HELP: &str = r#"Examples:
  firstword completions bash | sudo tee /usr/share/bash-completion/completions/firstword
  firstword completions zsh > "${fpath[1]}/_firstword"
  firstword completions fish > ~/.config/fish/completions/firstword.fish"#;

pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> ExitCode {
    let mut completions = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "firstword", &mut completions);
    // It is not an error if the reader closes its end.
    let _ = io::stdout().write_all(&completions);
    ExitCode::SUCCESS
}

/// Write the manual pages into a directory
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// An existing directory
    directory: PathBuf,
}

pub(crate) fn write_manual(arguments: &ManArguments, command: clap::Command) -> ExitCode {
    match clap_mangen::generate_to(command, &arguments.directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firstword man: {}: {error}", arguments.directory.display());
            ExitCode::from(2)
        }
    }
}
