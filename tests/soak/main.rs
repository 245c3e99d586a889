//! `make soak`: the filter under many connections, load, hostile peers and changes of its configuration, for a long time.
//!
//! Good clients check each byte that they receive, and end with COM_QUIT. So at the end the filter's counts must equal the
//! servers' own counts and what the clients did, exactly. Other clients reset their connections in the middle, and hostile
//! peers send malformed greetings, headers and packets through the same workers. [`run`] has the phases.
//!
//! `MINUTES` of mixed load (default: seconds, so that `make test` can run it), `CONNECTIONS` that stay open, and `RECORD=1` to
//! write the results into `docs/soak.md`. They are also in `target/soak`.

// A test reports through a panic, and this one reads the clock. Counts are far below 2^53.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod cut;
mod delays;
mod exact;
mod flood;
#[allow(dead_code, reason = "tests/faults uses the rest")]
mod good;
mod options;
mod proxy;
mod report;
mod run;
mod tally;
mod tunnel;

use proxy::Subject;

#[test]
fn wasm() {
    run::run(Subject::Wasm);
}

#[test]
fn native() {
    run::run(Subject::Native);
}

/// The control, which shows what Envoy itself does under this load.
#[test]
fn plain() {
    run::run(Subject::Plain);
}
