//! Stages: each changes, holds or drops bytes for one feature.

pub(in crate::connection) mod block_local_infile;
pub(in crate::connection) mod clear_capabilities;
pub(in crate::connection) mod hold_split_eof;
pub(in crate::connection) mod proxy_header;
