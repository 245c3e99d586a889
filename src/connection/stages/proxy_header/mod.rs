//! PROXY headers: received, sent, and refused where they do not belong.

mod guard;
pub(in crate::connection) mod receive;
pub(in crate::connection) mod refusal;
