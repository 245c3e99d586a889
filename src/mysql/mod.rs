//! The MySQL and MariaDB client/server protocol as values: bytes and text in, values out. No events, no time, no I/O.
//!
//! - [`wire`]: packets and messages.
//! - [`sql`]: statement text.
//! - [`peer`]: software of server and client, as they name it.
//!
//! The state machines of a connection are in [`crate::session`].
//!
//! Sources: the MySQL internals manual ("Client/Server Protocol") and the MariaDB knowledge base ("Client/Server
//! Protocol"). Where they differ from the servers, the code follows the servers and a comment says so.

pub mod peer;
pub mod sql;
pub mod wire;
