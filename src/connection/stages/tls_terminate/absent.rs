//! The stage in WebAssembly, where no partner exists: it is always absent, so it costs neither code nor memory.

use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::Rewrite;
use crate::connection::stages::Stage;
use crate::rules::Rules;

/// The end of the client's TLS, of no connection.
#[derive(Debug)]
pub(in crate::connection) enum TlsTerminator {}

impl Stage for TlsTerminator {
    fn new(_: &Rules, _: Timestamp) -> Option<Self> {
        None
    }
}

impl TlsTerminator {
    pub(in crate::connection) fn requested(&mut self) {
        match *self {}
    }

    pub(in crate::connection) fn renumber_reply<C: Chunk>(&self, _: &mut Rewrite<C>) {
        match *self {}
    }
}
