//! The PROXY protocol: headers against another author's parser.

// A panic is how a test reports.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod oracle;
