//! Statement text: verb, digest and the files that LOAD DATA names.

pub mod digest;
pub mod load_data;
pub mod verb;
