//! `firstword`: the native command line.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod check_config;
mod completions;
mod doctor;
mod documents;
mod explain;
mod find;
mod findings;
mod inspect;
mod paint;
mod protobuf_json;
mod reach;
mod schema;
mod wasm_filter;
mod wrap;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use paint::{Colour, Paint};

/// Tools for the Firstword Envoy filter.
#[derive(Parser)]
#[command(name = "firstword", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// When the output has colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", alias = "colour")]
    color: Colour,
}

#[derive(Subcommand)]
enum Command {
    CheckConfig(check_config::Arguments),
    Completions(completions::Arguments),
    Doctor(doctor::Arguments),
    Explain(explain::Arguments),
    Inspect(inspect::Arguments),
    // `make man` runs it. A user reads the pages that it writes.
    #[command(hide = true)]
    Man(completions::ManArguments),
    Schema(schema::Arguments),
}

/// Whether kubectl runs the program, as the plugin `kubectl firstword`.
fn is_kubectl_plugin() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_stem().is_some_and(|name| name == "kubectl-firstword")
}

fn main() -> ExitCode {
    let is_plugin = is_kubectl_plugin();
    let mut command = Arguments::command();
    if is_plugin {
        command = command.bin_name("kubectl firstword");
    }
    let arguments = Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let paint = Paint::for_stdout(arguments.color);
    match arguments.command {
        Command::CheckConfig(arguments) => check_config::run(&arguments, paint),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Doctor(arguments) => doctor::run(&arguments, paint, is_plugin),
        Command::Explain(arguments) => explain::run(&arguments, paint),
        Command::Inspect(arguments) => inspect::run(&arguments, paint),
        Command::Man(arguments) => completions::write_manual(&arguments, Arguments::command()),
        Command::Schema(arguments) => schema::run(&arguments),
    }
}
