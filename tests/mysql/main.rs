//! Real clients and real servers with the filter between them. The client sees no difference, and the filter's counts equal
//! the server's.

// Tests report by a panic.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod certificates;
mod commands;
mod counts;
mod endings;
mod hazards;
mod judged_accounts;
mod load;
mod mariadb_authentication;
mod mysql_authentication;
mod record_relay;
mod replication;
mod tls_bridge;
mod tls_modes;
mod tls_originate;
mod tls_originate_rules;
mod tls_plugins;
mod tls_terminate;
mod transparency;
mod users;
