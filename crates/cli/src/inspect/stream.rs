//! One direction of a TCP connection: segments in any order in, pieces in the order of their bytes out.
//!
//! A piece is what came in one segment and had not come before: borders of segments stay what they are. What the capture
//! lacks is a piece without bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::chunk::Chunk;

use super::segment::Segment;

/// No window is larger (RFC 7323, section 2.2): what lies farther away is not of this connection.
const MAX_WINDOW: u32 = 1 << 30;

/// Bytes in the order in which they were sent.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The number of the packet they came in; of lost ones, of that in which it was noticed.
    pub(super) packet: u64,
    /// When they came, or when those in front of them did, if that was later.
    pub(super) at: Timestamp,
    /// The first of them; those behind were not captured.
    pub(super) bytes: Bytes,
    /// How many they are.
    pub(super) len: usize,
}

impl Piece {
    /// All its bytes were captured.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.len() == self.len
    }

    /// How much memory it takes, about.
    fn cost(&self) -> usize {
        self.bytes.len().saturating_add(size_of::<Self>())
    }

    /// Without its first `n` bytes.
    pub(super) fn skip(&self, n: usize) -> Self {
        let rest = self.bytes.get(n.min(self.bytes.len())..).unwrap_or_default();
        // A slice would keep all of the segment in memory.
        let bytes = if n == 0 { self.bytes.clone() } else { Bytes::copy_from_slice(rest) };
        Self { bytes, len: self.len.saturating_sub(n), ..self.clone() }
    }
}

/// Bytes that were not captured cannot be read, like those a host does not give.
impl Chunk for Piece {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        let end = start.saturating_add(max).min(self.bytes.len());
        (start < end).then(|| self.bytes.slice(start..end))
    }
}

/// One direction. Positions count its bytes from the first.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The sequence number of the next byte; none: nothing is known yet.
    next_seq: Option<u32>,
    /// The position of the next byte.
    next: u64,
    /// What came ahead of its turn, by its position.
    ahead: BTreeMap<u64, Piece>,
    /// How much memory that takes, in bytes.
    pub(super) held: usize,
    /// Where the stream ends, by a FIN.
    end: Option<u64>,
    ended: bool,
    /// The peer has got one byte more than the capture has: a FIN, or a byte if others follow it.
    one_more: Option<Piece>,
    /// Segments all of whose bytes had come before.
    pub(super) retransmitted: u64,
    /// Bytes the capture lacks.
    pub(super) lost: u64,
}

impl Stream {
    /// The sequence number of the next byte is known.
    pub(super) fn is_known(&self) -> bool {
        self.next_seq.is_some()
    }

    /// The next byte has this sequence number.
    pub(super) fn begin(&mut self, seq: u32) {
        self.next_seq = Some(seq);
    }

    /// The peer has got bytes in front of `ack` that have not come here: how many.
    pub(super) fn behind(&self, ack: u32) -> Option<u32> {
        let behind = ack.wrapping_sub(self.next_seq?);
        (1..MAX_WINDOW).contains(&behind).then_some(behind)
    }

    /// The FIN and all in front of it has come; told once.
    pub(super) fn take_end(&mut self) -> bool {
        let ends = !self.ended && self.end == Some(self.next);
        if ends {
            self.ended = true;
            self.advance(1);
        }
        ends
    }

    fn advance(&mut self, n: usize) {
        self.next = self.next.saturating_add(n as u64);
        // Sequence numbers wrap.
        self.next_seq = self.next_seq.map(|seq| seq.wrapping_add(n as u32));
    }

    /// Takes a segment.
    pub(super) fn push(&mut self, segment: &Segment) {
        let seq = segment.seq.wrapping_add(u32::from(segment.syn));
        let next_seq = *self.next_seq.get_or_insert(seq);
        let ahead = seq.wrapping_sub(next_seq);
        let late = next_seq.wrapping_sub(seq);
        let (start, skip) = if ahead < MAX_WINDOW {
            (self.next.saturating_add(u64::from(ahead)), 0)
        } else if late < MAX_WINDOW {
            (self.next, late as usize)
        } else {
            return;
        };
        if segment.fin && skip <= segment.len {
            self.end.get_or_insert(start.saturating_add(segment.len.saturating_sub(skip) as u64));
        }
        if segment.len <= skip {
            self.retransmitted = self.retransmitted.saturating_add(u64::from(segment.len > 0));
            return;
        }
        let piece =
            Piece { packet: segment.packet, at: segment.at, bytes: segment.bytes.clone(), len: segment.len };
        let piece = piece.skip(skip);
        // Of two that begin at the same place the longer one, and of equal ones the first.
        match self.ahead.get_mut(&start) {
            Some(known) if known.len >= piece.len => {
                self.retransmitted = self.retransmitted.saturating_add(1);
            }
            Some(known) => {
                self.held = self.held.saturating_sub(known.cost()).saturating_add(piece.cost());
                *known = piece;
            }
            None => {
                self.held = self.held.saturating_add(piece.cost());
                self.ahead.insert(start, piece);
            }
        }
    }

    /// The next piece, if it is its turn. `now`: of the packet that made it so.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Piece> {
        while let Some(first) = self.ahead.first_entry().filter(|first| *first.key() <= self.next) {
            let (start, piece) = first.remove_entry();
            self.held = self.held.saturating_sub(piece.cost());
            let skip = usize::try_from(self.next.saturating_sub(start)).unwrap_or(usize::MAX);
            if skip >= piece.len {
                self.retransmitted = self.retransmitted.saturating_add(1);
                continue;
            }
            if let Some(one_more) = self.one_more.take() {
                self.lost = self.lost.saturating_add(1);
                self.held = self.held.saturating_add(piece.cost());
                self.ahead.insert(start, piece);
                return Some(one_more);
            }
            let piece = piece.skip(skip);
            self.advance(piece.len);
            self.lost = self.lost.saturating_add(piece.len.saturating_sub(piece.bytes.len()) as u64);
            return Some(Piece { at: piece.at.max(now), ..piece });
        }
        None
    }

    /// What is not there will not come: a piece for the bytes between here and what came ahead, or up to `ack`, which the
    /// peer has got. None: nothing is known to be missing.
    pub(super) fn lose(&mut self, ack: Option<u32>, packet: u64, at: Timestamp) -> Option<Piece> {
        let to_ahead = self.ahead.first_key_value().map(|(start, _)| start.saturating_sub(self.next));
        let to_end = self.end.map(|end| end.saturating_sub(self.next));
        let to_ack = ack.and_then(|ack| self.behind(ack)).map(u64::from);
        let gap = [to_ahead, to_end, to_ack].into_iter().flatten().min().filter(|gap| *gap > 0)?;
        let len = usize::try_from(gap).ok()?;
        self.advance(len);
        let piece = Piece { packet, at, bytes: Bytes::new(), len };
        if (to_ahead, to_end, to_ack) == (None, None, Some(1)) {
            self.one_more = Some(piece);
            return None;
        }
        self.lost = self.lost.saturating_add(gap);
        Some(piece)
    }
}
