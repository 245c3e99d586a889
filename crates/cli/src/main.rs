//! `firstword`: the native command line.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod check_config;
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

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Doctor(doctor::Arguments),
    Explain(explain::Arguments),
    Inspect(inspect::Arguments),
    Schema(schema::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let paint = Paint::for_stdout(arguments.color);
    match arguments.command {
        Command::CheckConfig(arguments) => check_config::run(&arguments, paint),
        Command::Doctor(arguments) => doctor::run(&arguments, paint),
        Command::Explain(arguments) => explain::run(&arguments, paint),
        Command::Inspect(arguments) => inspect::run(&arguments, paint),
        Command::Schema(arguments) => schema::run(&arguments),
    }
}
