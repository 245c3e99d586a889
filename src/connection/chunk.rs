//! What a callback brings, and what is to be done with it.

use bytes::Bytes;

/// Bytes that pass in one callback. They stay with the host until they are asked for: every read
/// costs, whatever its size.
pub trait Chunk {
    /// How many bytes pass.
    fn len(&self) -> usize;

    /// No byte passes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `max` bytes from `start` on. None: the host does not give them.
    fn read(&self, start: usize, max: usize) -> Option<Bytes>;
}

impl Chunk for Bytes {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        let end = start.saturating_add(max).min(Self::len(self));
        (start <= end).then(|| self.slice(start..end))
    }
}

/// What is to be done with the bytes of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They go on as they are.
    Pass,
    /// They wait, and are handed over again together with those that follow. Never said of the server's.
    Hold,
    /// They go on changed.
    Edit(Edit),
    /// They go nowhere, and the connection is closed.
    Close,
}

/// A change at the front of a callback's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// So many bytes are removed, which all are there.
    pub drain: usize,
    /// These are put in their place.
    pub prepend: Vec<u8>,
}

/// All of a chunk in one read. None: the host does not give it.
pub(super) fn whole(chunk: &impl Chunk) -> Option<Bytes> {
    if chunk.is_empty() {
        return Some(Bytes::new());
    }
    chunk.read(0, chunk.len()).filter(|bytes| bytes.len() == chunk.len())
}

/// None of a chunk goes on.
pub(super) fn drop_all(chunk: &impl Chunk) -> Verdict {
    match chunk.len() {
        0 => Verdict::Pass,
        drain => Verdict::Edit(Edit { drain, prepend: Vec::new() }),
    }
}
