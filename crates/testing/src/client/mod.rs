//! A client that implements the protocol itself. It can have any capabilities, and send any packets in any order and with any
//! cuts. It reads responses with its own code, independent of the core.

mod capability;
mod connection;
mod login;
mod response;
mod statement;
mod tls;

pub use capability::*;
pub use connection::Client;
pub use login::Login;
pub use response::Response;
pub use tls::{Hello, Tls};
