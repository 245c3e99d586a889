//! The end of an answer to COM_STMT_PREPARE, from the last column definition to the final EOF, in one piece.
//!
//! A client that has read the last definition may go on before the EOF has come: see [`crate::mysql::peer::bug_106252`]. The
//! server's bytes cannot be made to wait in Envoy, so those of an end that is not complete are taken out and put in front
//! of the server's next bytes, which the protocol promises: the EOF is one of them. What is taken out where no more come
//! is put back with the end of the stream, and lost with a reset, of which the host tells too late.

use crate::connection::chunk::whole;
use crate::connection::{Chunk, Edit, Verdict};
use crate::event::{ClosedBy, Event};

/// So much is held at the most, in bytes. A column definition is far shorter.
const MAX_HELD: usize = 64 << 10;

/// Where such an end begins, while it is not complete.
#[derive(Debug, Default)]
pub(in crate::connection) struct Tail {
    /// In the current chunk; 0 where it began before.
    start: Option<usize>,
    told: bool,
}

impl Tail {
    /// A chunk of the server begins.
    pub(in crate::connection) fn next_chunk(&mut self) {
        self.start = self.start.map(|_| 0);
    }

    /// A packet of the server, or part of one, passed up to `at` in the chunk. `left`: so many definitions are still to
    /// come in front of the final EOF; none: no such answer passes. `at_border`: a packet begins at `at`.
    pub(in crate::connection) fn passed(&mut self, left: Option<u16>, at_border: bool, at: usize) {
        match left {
            Some(1) if self.start.is_none() && at_border => self.start = Some(at),
            Some(0 | 1) => {}
            _ => *self = Self::default(),
        }
    }

    /// The chunk has ended. `of_eof`: of the end, only bytes of the EOF are still to come, of which so many have.
    pub(in crate::connection) fn chunk_ended(&mut self, of_eof: Option<usize>, events: &mut Vec<Event>) {
        let Some(passed) = of_eof.and_then(|passed| u8::try_from(passed).ok()) else { return };
        if self.start.is_some() && !std::mem::replace(&mut self.told, true) {
            events.push(Event::PrepareEofSplit { passed });
        }
    }

    /// See [`Tail::start`].
    pub(in crate::connection) fn start(&self) -> Option<usize> {
        self.start
    }
}

/// What is held of the server's bytes of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Hold {
    /// All from there on.
    pub(in crate::connection) from: usize,
    /// The end of an answer to COM_STMT_PREPARE, and not the beginning of a packet that may ask for a file.
    pub(in crate::connection) is_split_eof: bool,
}

/// The bytes that are held.
#[derive(Debug, Default)]
pub(in crate::connection) struct Held {
    bytes: Vec<u8>,
    /// They are of the end of an answer to COM_STMT_PREPARE, of which it was told.
    is_split_eof: bool,
}

impl Held {
    /// What becomes of the server's bytes of a callback. `hold`: of these, what is held; none: nothing is, and what was goes
    /// on.
    pub(in crate::connection) fn server(
        &mut self,
        chunk: &impl Chunk,
        hold: Option<Hold>,
        events: &mut Vec<Event>,
    ) -> Verdict {
        // An end that began in this chunk is that of another answer.
        let was_told = self.is_split_eof && hold.is_some_and(|hold| hold.from == 0);
        self.is_split_eof = hold.is_some_and(|hold| hold.is_split_eof);
        let hold_from = hold.map(|hold| hold.from);
        let hold_from = hold_from.filter(|start| *start < chunk.len() && self.has_room(chunk.len(), *start));
        let Some((start, bytes)) = hold_from.and_then(|start| Some((start, whole(chunk)?))) else {
            self.is_split_eof = false;
            let prepend = std::mem::take(&mut self.bytes);
            return if prepend.is_empty() {
                Verdict::Pass
            } else {
                Verdict::Edit(Edit { drain: 0, prepend })
            };
        };
        let (before, tail) = bytes.split_at_checked(start).unwrap_or((&bytes, &[]));
        let mut prepend = Vec::new();
        if start > 0 {
            prepend = std::mem::take(&mut self.bytes);
            prepend.extend_from_slice(before);
        }
        self.bytes.reserve_exact(tail.len());
        self.bytes.extend_from_slice(tail);
        if self.is_split_eof && !was_told {
            events.push(Event::PrepareEofHeld);
        }
        Verdict::Edit(Edit { drain: bytes.len(), prepend })
    }

    /// Heap memory in bytes.
    pub(in crate::connection) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    fn has_room(&self, len: usize, start: usize) -> bool {
        let before = if start > 0 { 0 } else { self.bytes.len() };
        len.saturating_sub(start).saturating_add(before) <= MAX_HELD
    }

    /// `by` takes the place of all of a callback's bytes from `start` on. Where `start` is 0, what is held is the beginning
    /// of what is replaced.
    pub(in crate::connection) fn replace(&mut self, chunk: &impl Chunk, start: usize, by: &[u8]) -> Verdict {
        let mut prepend = std::mem::take(&mut self.bytes);
        if start == 0 {
            prepend.clear();
        }
        let before = whole(chunk).unwrap_or_default();
        prepend.extend_from_slice(before.get(..start).unwrap_or_default());
        prepend.extend_from_slice(by);
        Verdict::Edit(Edit { drain: chunk.len(), prepend })
    }

    /// The connection ended.
    pub(in crate::connection) fn closed(&mut self, by: ClosedBy, events: &mut Vec<Event>) {
        let lost = !std::mem::take(&mut self.bytes).is_empty() && self.is_split_eof;
        if lost && by != ClosedBy::Client {
            events.push(Event::PrepareEofLost);
        }
    }
}

#[cfg(test)]
mod tests;
