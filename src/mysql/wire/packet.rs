//! Packet framing: a 3-byte little-endian payload length, a sequence id, the payload.
//!
//! A payload of 2^24-1 bytes or more is sent in fragments of 0xffffff bytes. A shorter fragment ends it, and can be empty
//! (MySQL manual, "MySQL Packets"; MariaDB knowledge base, "0 - Packet"). The first byte of the first fragment identifies
//! the packet; later fragments contain only data.
//!
//! The [`Framer`] accepts a stream that is cut anywhere. It stores a bounded prefix of each packet and counts the rest, so
//! a 1 GiB row takes no more memory than an empty one.

/// Length of a packet header, in bytes.
pub(crate) const HEADER_LEN: usize = 4;

/// Maximum memory for a prefix that is kept between packets, in bytes.
const MAX_IDLE: usize = 256;

/// Maximum payload length of a fragment. A fragment of this length announces a further one.
pub const MAX_FRAGMENT_LEN: u32 = 0xff_ffff;

/// Length of a packet's payload, or of a fragment of it, from its header.
pub(crate) fn payload_len([l0, l1, l2, _]: [u8; HEADER_LEN]) -> usize {
    usize::try_from(u32::from_le_bytes([l0, l1, l2, 0])).unwrap_or(usize::MAX)
}

/// Returns a whole packet. `payload`: shorter than 64 KiB.
#[must_use]
pub fn whole(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&[l0, l1, 0, sequence_id], payload].concat()
}

/// The beginning of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Payload length of the first fragment, in bytes.
    pub length: u32,
    /// Sequence id of the first fragment.
    pub sequence_id: u8,
    /// The first bytes of the payload: all of it, or the framer's maximum.
    pub prefix: &'a [u8],
    /// True if the whole packet has arrived. Then no [`Framed::End`] follows.
    pub complete: bool,
}

impl Packet<'_> {
    /// The packet with a prefix of at most `prefix_len` bytes.
    #[must_use]
    pub fn shortened(&self, prefix_len: usize) -> Self {
        Self { prefix: self.prefix.get(..prefix_len).unwrap_or(self.prefix), ..*self }
    }

    /// The payload's first byte; `None` for an empty packet.
    #[must_use]
    pub fn first(&self) -> Option<u8> {
        self.prefix.first().copied()
    }
}

/// The next part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// The prefix of a packet has arrived.
    Head(Packet<'a>),
    /// The last byte of a packet has arrived, after its prefix.
    End {
        /// Sequence id of the last fragment.
        sequence_id: u8,
    },
    /// A continuation fragment does not have the next sequence id, so the stream does not consist of packets.
    Broken,
}

/// Cuts one direction of a connection into packets.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// Sequence id of the newest fragment.
    sequence_id: u8,
    /// The last fragment had the maximum length, so the next header continues its packet.
    continued: bool,
    /// Maximum length of the prefix of a packet, in bytes.
    prefix_len: usize,
    /// The prefix of a packet that arrives in several chunks; empty otherwise.
    prefix: Vec<u8>,
    /// Number of headers since [`Framer::take_count`].
    count: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `have` bytes of the header are in `bytes`.
    Header { bytes: [u8; HEADER_LEN], have: usize },
    /// `Framer::prefix` needs `want` bytes of a fragment of `length`.
    Prefix { length: u32, want: usize },
    /// `remaining` payload bytes of the fragment have not arrived. `last`: true if the fragment ends its packet.
    Rest { remaining: u32, last: bool },
}

const START: State = State::Header { bytes: [0; HEADER_LEN], have: 0 };

/// Removes at most `n` bytes from the beginning of `input`.
fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = input.split_at_checked(n).unwrap_or((input, &[]));
    *input = tail;
    head
}

impl Framer {
    /// A framer at the boundary between two packets. `prefix_len`: maximum length of the prefix of a packet.
    #[must_use]
    pub fn new(prefix_len: usize) -> Self {
        Self { state: START, sequence_id: 0, continued: false, prefix_len, prefix: Vec::new(), count: 0 }
    }

    /// Sets the maximum length of the prefix of packets that begin from now on.
    pub fn set_prefix_len(&mut self, prefix_len: usize) {
        if self.prefix.capacity() > MAX_IDLE && !matches!(self.state, State::Prefix { .. }) {
            // Release the memory that one long packet needed.
            self.prefix = Vec::new();
        }
        self.prefix_len = prefix_len;
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.prefix.capacity()
    }

    /// Returns the number of packet headers since the last call. Each fragment of a long packet has one.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// Sequence id of the newest packet header.
    #[must_use]
    pub fn sequence_id(&self) -> u8 {
        self.sequence_id
    }

    /// True if the next byte begins a packet.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. }) && !self.continued
    }

    /// Number of bytes of the current packet that have arrived, including its header; 0 at a boundary. `None` after the
    /// prefix, where bytes are not read.
    #[must_use]
    pub fn received_len(&self) -> Option<usize> {
        match self.state {
            State::Header { have, .. } => Some(have),
            State::Prefix { .. } => Some(HEADER_LEN.saturating_add(self.prefix.len())),
            State::Rest { .. } => None,
        }
    }

    /// True if a packet has begun whose first byte is `first` or has not arrived.
    #[must_use]
    pub fn may_begin_with(&self, first: u8) -> bool {
        match self.state {
            State::Header { have, .. } => have > 0 && !self.continued,
            State::Prefix { .. } => self.prefix.first().is_none_or(|byte| *byte == first),
            State::Rest { .. } => false,
        }
    }

    /// Number of the next bytes that need not be read, because they are payload after a prefix.
    #[must_use]
    pub fn skippable(&self) -> usize {
        match self.state {
            State::Rest { remaining, .. } => remaining as usize,
            State::Header { .. } | State::Prefix { .. } => 0,
        }
    }

    /// Skips `n` bytes without reading them, at most [`Framer::skippable`].
    pub fn skip(&mut self, n: usize) {
        if let State::Rest { remaining, .. } = &mut self.state {
            *remaining = remaining.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    /// Removes a packet of one fragment from `input`, if all of it is there.
    fn whole<'i>(&mut self, input: &mut &'i [u8]) -> Option<Packet<'i>> {
        let ([l0, l1, l2, sequence_id], rest) = input.split_first_chunk::<HEADER_LEN>()?;
        let length = u32::from_le_bytes([*l0, *l1, *l2, 0]);
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        if length == MAX_FRAGMENT_LEN || !self.is_at_boundary() {
            return None;
        }
        (*input, self.sequence_id) = (rest, *sequence_id);
        self.count = self.count.saturating_add(1);
        let prefix = payload.get(..self.prefix_len).unwrap_or(payload);
        Some(Packet { length, sequence_id: *sequence_id, prefix, complete: true })
    }

    /// Removes bytes from `input` up to the next prefix or end of a packet. `None` if all of `input` is removed.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Framed<'s>> {
        // Nearly all packets arrive in one piece.
        if let Some(packet) = self.whole(input) {
            return Some(Framed::Head(packet));
        }
        loop {
            match self.state {
                State::Header { .. } => {
                    let [l0, l1, l2, sequence_id] = self.header(input)?;
                    self.count = self.count.saturating_add(1);
                    let length = u32::from_le_bytes([l0, l1, l2, 0]);
                    let expected = self.sequence_id.wrapping_add(1);
                    self.sequence_id = sequence_id;
                    if self.continued {
                        if sequence_id != expected {
                            return Some(Framed::Broken);
                        }
                        self.start_rest(length);
                        continue;
                    }
                    let want = self.prefix_len.min(length as usize);
                    if input.len() >= want {
                        let prefix = take(input, want);
                        let complete = self.skip_available(length, want, input);
                        return Some(Framed::Head(Packet { length, sequence_id, prefix, complete }));
                    }
                    self.prefix.clear();
                    self.state = State::Prefix { length, want };
                }
                State::Prefix { length, want } => {
                    let more = take(input, want.saturating_sub(self.prefix.len()));
                    self.reserve(more.len(), want);
                    self.prefix.extend_from_slice(more);
                    if self.prefix.len() < want {
                        return None;
                    }
                    let complete = self.skip_available(length, want, input);
                    let (sequence_id, prefix) = (self.sequence_id, self.prefix.as_slice());
                    return Some(Framed::Head(Packet { length, sequence_id, prefix, complete }));
                }
                State::Rest { remaining, last } => {
                    let taken = take(input, remaining as usize).len();
                    self.skip(taken);
                    if self.skippable() > 0 {
                        return None;
                    }
                    self.state = START;
                    self.continued = !last;
                    if last {
                        return Some(Framed::End { sequence_id: self.sequence_id });
                    }
                }
            }
        }
    }

    /// Reserves memory for `more` bytes of a prefix of `want` bytes. Doubles the capacity, but not beyond `want`.
    fn reserve(&mut self, more: usize, want: usize) {
        let needed = self.prefix.len().saturating_add(more);
        if needed > self.prefix.capacity() {
            let capacity = self.prefix.capacity().saturating_mul(2).min(want).max(needed);
            self.prefix.reserve_exact(capacity.saturating_sub(self.prefix.len()));
        }
    }

    fn header(&mut self, input: &mut &[u8]) -> Option<[u8; HEADER_LEN]> {
        let State::Header { bytes, have } = &mut self.state else { return None };
        if *have == 0 {
            if let Some((header, rest)) = input.split_first_chunk::<HEADER_LEN>() {
                *input = rest;
                return Some(*header);
            }
        }
        while *have < HEADER_LEN {
            let (byte, rest) = input.split_first()?;
            *input = rest;
            *bytes.get_mut(*have)? = *byte;
            *have = have.saturating_add(1);
        }
        Some(*bytes)
    }

    /// Skips the bytes in `input` of a fragment, of which `seen` bytes have been removed. True if the packet is complete.
    fn skip_available(&mut self, length: u32, seen: usize, input: &mut &[u8]) -> bool {
        self.start_rest(length);
        self.skip(seen);
        let taken = take(input, self.skippable()).len();
        self.skip(taken);
        let complete = length < MAX_FRAGMENT_LEN && self.skippable() == 0;
        if complete {
            self.state = START;
        }
        complete
    }

    fn start_rest(&mut self, length: u32) {
        self.state = State::Rest { remaining: length, last: length < MAX_FRAGMENT_LEN };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One packet, split into fragments as the protocol requires.
    fn packet(payload: &[u8], first_id: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut id = first_id;
        let mut chunks = payload.chunks(MAX_FRAGMENT_LEN as usize).collect::<Vec<_>>();
        if payload.len() % MAX_FRAGMENT_LEN as usize == 0 {
            chunks.push(&[]);
        }
        for chunk in chunks {
            bytes.extend_from_slice(&(chunk.len() as u32).to_le_bytes()[..3]);
            bytes.push(id);
            bytes.extend_from_slice(chunk);
            id = id.wrapping_add(1);
        }
        bytes
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Packet { length: u32, id: u8, prefix: Vec<u8>, last_id: u8 },
        Broken,
    }

    /// Frames `chunks`. A prefix and the end of its packet make one entry.
    fn frame(prefix_len: usize, chunks: &[&[u8]]) -> Vec<Seen> {
        let mut framer = Framer::new(prefix_len);
        let mut seen = Vec::new();
        let mut open = None;
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(framed) = framer.next(&mut input) {
                match framed {
                    Framed::Head(p) => {
                        let id = p.sequence_id;
                        let prefix = p.prefix.to_vec();
                        let packet = Seen::Packet { length: p.length, id, prefix, last_id: id };
                        if p.complete { seen.push(packet) } else { open = Some(packet) }
                    }
                    Framed::End { sequence_id } => {
                        if let Some(Seen::Packet { length, id, prefix, .. }) = open.take() {
                            seen.push(Seen::Packet { length, id, prefix, last_id: sequence_id });
                        }
                    }
                    Framed::Broken => {
                        seen.push(Seen::Broken);
                        return seen;
                    }
                }
            }
            assert!(input.is_empty(), "the framer takes all of a chunk");
        }
        assert!(open.is_none(), "a head without an end");
        seen
    }

    #[test]
    fn every_cut_gives_the_same_packets() {
        let mut stream = packet(b"", 0);
        stream.extend(packet(b"abc", 1));
        stream.extend(packet(&[7; 40], 255));
        let whole = frame(16, &[&stream]);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[1], Seen::Packet { length: 3, id: 1, prefix: b"abc".to_vec(), last_id: 1 });
        assert_eq!(whole[2], Seen::Packet { length: 40, id: 255, prefix: vec![7; 16], last_id: 255 });
        for cut in 0..=stream.len() {
            assert_eq!(frame(16, &[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frame(16, &bytes), whole);
    }

    #[test]
    fn a_long_packet_is_one_packet_with_many_headers() {
        let full = MAX_FRAGMENT_LEN as usize;
        for (len, headers) in [(full - 1, 1), (full, 2), (full + 1, 2), (2 * full, 3)] {
            let stream = packet(&vec![0xfe; len], 250);
            let mut framer = Framer::new(8);
            let mut input = stream.as_slice();
            let mut ends = Vec::new();
            while let Some(framed) = framer.next(&mut input) {
                match framed {
                    Framed::Head(p) if p.complete => ends.push(p.sequence_id),
                    Framed::Head(_) => {}
                    Framed::End { sequence_id } => ends.push(sequence_id),
                    Framed::Broken => panic!("broken"),
                }
            }
            assert_eq!(framer.take_count(), headers, "{len} bytes");
            assert_eq!(ends, [250 + headers as u8 - 1], "{len} bytes");
        }
    }

    #[test]
    fn a_continuation_out_of_sequence_is_broken_framing() {
        let mut stream = packet(&vec![1; MAX_FRAGMENT_LEN as usize + 1], 3);
        let continuation = HEADER_LEN + MAX_FRAGMENT_LEN as usize;
        stream[continuation + 3] = 9;
        assert_eq!(frame(8, &[&stream]), [Seen::Broken]);
    }

    #[test]
    fn payload_after_the_prefix_can_be_skipped() {
        let stream = packet(&[5; 1000], 0);
        let mut framer = Framer::new(10);
        let mut input = &stream[..14];
        assert!(matches!(framer.next(&mut input), Some(Framed::Head(Packet { complete: false, .. }))));
        assert_eq!(framer.skippable(), 990);
        framer.skip(990);
        assert_eq!(framer.next(&mut [].as_slice()), Some(Framed::End { sequence_id: 0 }));
        assert_eq!(framer.next(&mut [].as_slice()), None);
    }

    #[test]
    fn a_prefix_takes_no_more_memory_than_it_has_bytes() {
        let stream = packet(&[5; 20_000], 0);
        let mut framer = Framer::new(16 << 10);
        for piece in stream[..16_000].chunks(100) {
            assert_eq!(framer.next(&mut &piece[..]), None);
        }
        assert_eq!(framer.memory(), 16 << 10);
        assert!(framer.next(&mut &stream[16_000..]).is_some());
        framer.set_prefix_len(16 << 10);
        assert_eq!(framer.memory(), 0, "released after the packet");
    }

    #[test]
    fn a_new_prefix_length_does_not_affect_the_current_packet() {
        let stream = packet(b"abcdefgh", 0);
        let mut framer = Framer::new(6);
        assert_eq!(framer.next(&mut &stream[..7]), None);
        framer.set_prefix_len(2);
        let mut rest = &stream[7..];
        assert!(matches!(framer.next(&mut rest), Some(Framed::Head(Packet { prefix: b"abcdef", .. }))));
    }
}
