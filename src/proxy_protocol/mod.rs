//! The PROXY protocol: the header in front of a connection that says who really connected.

pub mod networks;
