//! Real clients and real servers with the filter between them: the client sees no difference, and the filter counts what
//! the server counts.

// A panic is how a test reports.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod authentication;
mod commands;
mod counts;
mod endings;
mod hazards;
mod load;
mod mysql_authentication;
mod replication;
mod transparency;
mod users;
