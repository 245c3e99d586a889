//! The stage in WebAssembly, where no host can start TLS: it is always absent, so it costs neither code nor memory.

use crate::clock::Timestamp;
use crate::connection::stages::Stage;
use crate::rules::Rules;

/// TLS to the server of no connection.
#[derive(Debug)]
pub(in crate::connection) enum TlsOriginator {}

impl Stage for TlsOriginator {
    fn new(_: &Rules, _: Timestamp) -> Option<Self> {
        None
    }
}
