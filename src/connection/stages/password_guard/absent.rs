//! The stage in WebAssembly, where no client's TLS ends before the filter: it is always absent, so it costs neither code nor
//! memory.

use crate::clock::Timestamp;
use crate::connection::stages::Stage;
use crate::rules::Rules;

/// Guard of the passwords of no connection.
#[derive(Debug)]
pub(in crate::connection) enum PasswordGuard {}

impl Stage for PasswordGuard {
    fn new(_: &Rules, _: Timestamp) -> Option<Self> {
        None
    }
}
