//! Finds the headers of packets in the chunks of one direction.

use crate::mysql::wire::packet::MAX_FRAGMENT_LEN;

/// Place in the packets of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct PacketHeaders {
    /// Number of bytes of the header that have arrived.
    have: u8,
    /// Length of the packet, as far as the header has arrived.
    len: u32,
    /// Number of bytes of the payload that have not arrived.
    left: u32,
    /// True if the packet is a later fragment of a payload.
    is_continued: bool,
}

/// Part of a packet. Offsets are those of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Sequence id, the last byte of the header.
    SequenceId { at: usize, id: u8 },
    /// First byte of a payload.
    First(u8),
}

impl PacketHeaders {
    /// Returns the next part of interest in `chunk`, and moves `at` behind it. `None` at the end of the chunk.
    pub(super) fn next(&mut self, chunk: &[u8], at: &mut usize) -> Option<Found> {
        loop {
            let byte = *chunk.get(*at)?;
            if self.have < 4 {
                let index = *at;
                *at = at.saturating_add(1);
                if self.have < 3 {
                    self.len |= u32::from(byte) << self.have.saturating_mul(8);
                    self.have = self.have.saturating_add(1);
                    continue;
                }
                self.have = 4;
                self.left = self.len;
                let found = Found::SequenceId { at: index, id: byte };
                self.end_if_complete();
                return Some(found);
            }
            let is_first = self.left == self.len && !self.is_continued;
            let rest = chunk.len().saturating_sub(*at);
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
            *at = at.saturating_add(taken);
            self.left = self.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
            self.end_if_complete();
            if is_first {
                return Some(Found::First(byte));
            }
        }
    }

    /// True if the next byte begins a packet.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.have == 0 && !self.is_continued
    }

    fn end_if_complete(&mut self) {
        if self.left == 0 {
            let is_continued = self.len == MAX_FRAGMENT_LEN;
            *self = Self { is_continued, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence ids and first bytes in the chunks.
    fn find(chunks: &[&[u8]]) -> Vec<u8> {
        let mut headers = PacketHeaders::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            while let Some(next) = headers.next(chunk, &mut at) {
                match next {
                    Found::SequenceId { at, id } => {
                        assert_eq!(chunk[at], id);
                        found.push(id);
                    }
                    Found::First(byte) => found.push(byte),
                }
            }
            assert_eq!(at, chunk.len());
        }
        found
    }

    #[test]
    fn every_cut_gives_the_same_headers() {
        let stream = b"\x03\0\0\x01abc\0\0\0\x02\x01\0\0\x03z\x02\0\0\xffyx";
        let expected = [1, b'a', 2, 3, b'z', 255, b'y'];
        for cut in 0..=stream.len() {
            let (first, rest) = stream.split_at(cut);
            assert_eq!(find(&[first, rest]), expected, "{cut}");
        }
        let bytes: Vec<_> = stream.chunks(1).collect();
        assert_eq!(find(&bytes), expected);
    }

    #[test]
    fn a_later_fragment_has_no_first_byte() {
        let mut stream = b"\xff\xff\xff\x07".to_vec();
        stream.resize(4 + MAX_FRAGMENT_LEN as usize, b'-');
        stream.extend(b"\x01\0\0\x08x\x01\0\0\x09y");
        assert_eq!(find(&[&stream]), [7, b'-', 8, 9, b'y']);
    }
}
