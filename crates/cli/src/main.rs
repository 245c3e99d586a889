//! `firstword`: the native command line.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod check_config;
mod completions;
mod doctor;
mod documents;
mod find;
mod findings;
mod inspect;
mod protobuf_json;
mod reach;
mod schema;
mod wasm_filter;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Tools for the Firstword Envoy filter.
#[derive(Parser)]
#[command(name = "firstword", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    CheckConfig(check_config::Arguments),
    Completions(completions::Arguments),
    Doctor(doctor::Arguments),
    Inspect(inspect::Arguments),
    // `make man` runs it. A user reads the pages that it writes.
    #[command(hide = true)]
    Man(completions::ManArguments),
    Schema(schema::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::CheckConfig(arguments) => check_config::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Man(arguments) => completions::write_manual(&arguments, Arguments::command()),
        Command::Schema(arguments) => schema::run(&arguments),
    }
}
