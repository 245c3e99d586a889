//! PROXY headers before the client's own bytes.

use firstword::proxy_protocol::{Header, MAX_V2_LEN, Probe, probe};

use super::capture::Capture;
use super::report::ProxyHeader;
use super::segment::Ends;
use super::stream::Piece;

/// Maximum number of headers that are read on a connection, because each of them costs a pass over all held bytes.
const MAX_HEADERS: usize = 16;

/// The client's bytes while they can be a PROXY header.
#[derive(Debug, Default)]
pub(super) struct ProxyHeaders {
    held: Vec<Piece>,
    /// The bytes of `held`.
    bytes: Vec<u8>,
    /// Number of bytes that were headers.
    passed: u64,
    is_over: bool,
}

impl ProxyHeaders {
    /// Takes the client's next bytes. Adds headers to `found`, and returns the bytes after them.
    pub(super) fn take(
        &mut self,
        piece: Piece,
        ends: Ends,
        capture: &Capture,
        found: &mut Vec<ProxyHeader>,
    ) -> Vec<Piece> {
        if self.is_over {
            return vec![piece];
        }
        self.is_over = !piece.is_whole();
        self.bytes.extend_from_slice(&piece.bytes);
        self.held.push(piece);
        while !self.is_over {
            let mut header = ProxyHeader { at_byte: self.passed, ..ProxyHeader::default() };
            let len = match probe(&self.bytes, MAX_V2_LEN) {
                Probe::Incomplete { .. } => return Vec::new(),
                Probe::NoHeader => break,
                Probe::Malformed(error) => {
                    header.format = error.format.label();
                    header.result = "malformed";
                    header.problem = Some(error.to_string());
                    0
                }
                Probe::Complete { header: read, len } => {
                    describe(&read, len, ends, &mut header);
                    len
                }
            };
            if let Some(first) = self.held.first() {
                header.location = capture.location(first.packet, first.at);
            }
            found.push(header);
            self.is_over = len == 0 || found.len() >= MAX_HEADERS;
            self.cut(len);
        }
        self.flush()
    }

    /// Memory in addition to the size of the type, in bytes.
    pub(super) fn memory(&self) -> usize {
        let pieces = self.held.len().saturating_mul(size_of::<Piece>());
        self.bytes.len().saturating_mul(2).saturating_add(pieces)
    }

    fn cut(&mut self, len: usize) {
        self.bytes.drain(..len.min(self.bytes.len()));
        self.passed = self.passed.saturating_add(len as u64);
        let mut left = len;
        self.held.retain_mut(|piece| {
            let taken = left.min(piece.len);
            left = left.saturating_sub(taken);
            *piece = piece.skip(taken);
            piece.len > 0
        });
    }

    /// Returns the held bytes, because no header can follow.
    pub(super) fn flush(&mut self) -> Vec<Piece> {
        self.is_over = true;
        self.bytes = Vec::new();
        std::mem::take(&mut self.held)
    }
}

fn describe(read: &Header, len: usize, ends: Ends, header: &mut ProxyHeader) {
    header.format = read.format.label();
    header.result = "complete";
    header.length = len as u64;
    header.local = read.local;
    header.sender = "client";
    if let Some(named) = read.endpoints() {
        header.source = Some(named.source.to_string());
        header.destination = Some(named.destination.to_string());
        if (named.source, named.destination) != (ends.client, ends.server) {
            header.sender = "proxy";
        }
    }
}
