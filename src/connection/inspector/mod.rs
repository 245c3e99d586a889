//! Inspection: reads bytes, emits events, and cannot change a byte.

pub(crate) mod banner;
pub mod detect;
pub(in crate::connection) mod mysql;
