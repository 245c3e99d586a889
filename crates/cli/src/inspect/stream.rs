//! One direction of a TCP connection: takes segments in any order, and returns pieces in the order of their bytes.
//!
//! A piece holds the new bytes of one segment, so that the borders of segments stay. Bytes that the capture lacks are a piece
//! without bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::chunk::Chunk;

use super::segment::Segment;

/// Maximum size of a window (RFC 7323, section 2.2). Bytes farther away do not belong to this connection.
const MAX_WINDOW: u32 = 1 << 30;

/// Bytes in the order in which they were sent.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Number of the packet that carried them; for lost bytes, of the packet that showed the loss.
    pub(super) packet: u64,
    /// Time of their arrival, or of the bytes before them if these arrived later.
    pub(super) at: Timestamp,
    /// The first bytes. Further ones were not captured.
    pub(super) bytes: Bytes,
    /// Number of bytes.
    pub(super) len: usize,
}

impl Piece {
    /// Whether all bytes were captured.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.len() == self.len
    }

    /// Approximate memory in bytes.
    fn cost(&self) -> usize {
        self.bytes.len().saturating_add(size_of::<Self>())
    }

    /// The piece without its first `n` bytes.
    pub(super) fn skip(&self, n: usize) -> Self {
        let rest = self.bytes.get(n.min(self.bytes.len())..).unwrap_or_default();
        // A slice would keep all of the segment in memory.
        let bytes = if n == 0 { self.bytes.clone() } else { Bytes::copy_from_slice(rest) };
        Self { bytes, len: self.len.saturating_sub(n), ..self.clone() }
    }
}

/// Bytes that were not captured cannot be read, like those that a host does not provide.
impl Chunk for Piece {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        let end = start.saturating_add(max).min(self.bytes.len());
        (start < end).then(|| self.bytes.slice(start..end))
    }
}

/// One direction. A position is the number of bytes before it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Sequence number of the next byte; `None` until it is known.
    next_seq: Option<u32>,
    /// Position of the next byte.
    next: u64,
    /// Pieces that arrived before earlier ones, by their position.
    ahead: BTreeMap<u64, Piece>,
    /// Memory of these pieces in bytes.
    pub(super) held: usize,
    /// Position of the FIN.
    end: Option<u64>,
    ended: bool,
    /// The peer has acknowledged one byte that is not in the capture: a FIN, or a byte if others follow it.
    one_more: Option<Piece>,
    /// Number of segments with no new bytes.
    pub(super) retransmitted: u64,
    /// Number of bytes that the capture lacks.
    pub(super) lost: u64,
}

impl Stream {
    /// Whether the sequence number of the next byte is known.
    pub(super) fn is_known(&self) -> bool {
        self.next_seq.is_some()
    }

    /// Sets the sequence number of the next byte.
    pub(super) fn begin(&mut self, seq: u32) {
        self.next_seq = Some(seq);
    }

    /// Number of bytes before `ack` that the peer has acknowledged and the capture has not shown.
    pub(super) fn behind(&self, ack: u32) -> Option<u32> {
        let behind = ack.wrapping_sub(self.next_seq?);
        (1..MAX_WINDOW).contains(&behind).then_some(behind)
    }

    /// Whether the FIN and all bytes before it have arrived. True only once.
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
        // Of two pieces at the same position the longer one wins, and of equal ones the first.
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

    /// The next piece; `None` if bytes before it are missing. `now`: time of the packet that completed them.
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

    /// A piece for missing bytes, which count as lost: those before the next piece, or before `ack`, which the peer has
    /// acknowledged. `None` if no bytes are known to be missing.
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
