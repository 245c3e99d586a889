//! `firstword`: the native command line.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod check_config;
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

use clap::{Parser, Subcommand};

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
    Doctor(doctor::Arguments),
    Inspect(inspect::Arguments),
    Schema(schema::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::CheckConfig(arguments) => check_config::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
    }
}
