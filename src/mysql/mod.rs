//! The MySQL and MariaDB client/server protocol, read from both directions and never answered.
//!
//! [`packet`] cuts a direction into packets, [`types`] reads the protocol's data types,
//! [`handshake`], [`response`] and [`command`] read messages, [`reply`] follows the answer to one
//! command and [`session`] holds the whole connection together. Nothing here does I/O.
//!
//! Sources: the MySQL internals manual ("Client/Server Protocol"), the MariaDB knowledge base
//! ("Client/Server Protocol"); where they differ from the servers, the servers are right and a
//! comment says so.

pub mod auth_plugin;
pub mod capability;
pub mod command;
mod command_phase;
mod connection_phase;
pub mod connector;
pub mod digest;
pub mod errno;
pub mod handshake;
mod idle;
mod kept;
pub mod local_infile;
pub mod notes;
pub mod packet;
pub mod query;
pub mod reply;
mod requests;
pub mod response;
pub mod session;
pub mod split_eof;
pub mod statements;
pub mod trail;
pub mod types;
pub mod verb;
pub mod version;
pub mod violation;
