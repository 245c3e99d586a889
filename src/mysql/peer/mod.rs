//! Server and client software, as each peer names itself.

pub mod bug_106252;
pub mod client;
pub mod server;
