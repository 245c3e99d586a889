//! Packets and messages.
//!
//! [`packet`] cuts one direction into packets and [`types`] reads the protocol's data types. The other modules each read
//! one kind of message.

pub mod auth_plugin;
pub mod capability;
pub mod command;
pub mod errno;
pub mod handshake;
pub mod packet;
pub mod query;
pub mod response;
pub mod types;
