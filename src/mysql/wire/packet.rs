//! Packet framing: a 3-byte little-endian payload length, a sequence id, the payload.
//!
//! A payload of 2^24-1 bytes or more travels in fragments of 0xffffff bytes, ended by a shorter one,
//! which may be empty (MySQL manual, "MySQL Packets"; MariaDB knowledge base, "0 - Packet"). Only the
//! first fragment's first byte says what the packet is; what follows a continuation header is data.
//!
//! The [`Framer`] takes a stream cut anywhere. It keeps a bounded prefix of each packet and counts
//! the rest, so a 1 GiB row costs the same memory as an empty one.

/// The length of a packet header.
const HEADER_LEN: usize = 4;

/// Maximum memory of a prefix that is kept between packets, in bytes.
const MAX_IDLE: usize = 256;

/// The payload length that announces a further fragment.
pub const MAX_FRAGMENT_LEN: u32 = 0xff_ffff;

/// The start of a packet: all that is needed to know what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Payload length of the first fragment, in bytes.
    pub length: u32,
    /// Sequence id of the first fragment.
    pub sequence_id: u8,
    /// The first bytes of the payload: all of it, or as many as the framer keeps.
    pub prefix: &'a [u8],
    /// The whole packet has passed: no [`Framed::End`] follows.
    pub complete: bool,
}

impl Packet<'_> {
    /// As if the framer kept no more than this.
    #[must_use]
    pub fn shortened(&self, keep: usize) -> Self {
        Self { prefix: self.prefix.get(..keep).unwrap_or(self.prefix), ..*self }
    }

    /// The payload's first byte; none for an empty packet.
    #[must_use]
    pub fn first(&self) -> Option<u8> {
        self.prefix.first().copied()
    }
}

/// What the framer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A packet began, and as much of it as is kept has arrived.
    Head(Packet<'a>),
    /// The last byte of a packet passed whose head came before.
    End {
        /// Sequence id of the last fragment.
        sequence_id: u8,
    },
    /// A continuation fragment does not carry the next sequence id: this is not packet framing.
    Broken,
}

/// Cuts one direction of a connection into packets.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// Of the newest fragment.
    sequence_id: u8,
    /// The fragment before was a full one: the next header continues its packet.
    continued: bool,
    /// How many payload bytes of each packet are kept, at the most.
    keep: usize,
    /// The prefix of a packet that straddles chunks; empty otherwise.
    kept: Vec<u8>,
    /// Headers seen since [`Framer::take_count`].
    count: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `have` bytes of the header are in `bytes`.
    Header { bytes: [u8; HEADER_LEN], have: usize },
    /// `Framer::kept` waits to hold `want` bytes of a fragment of `length`.
    Prefix { length: u32, want: usize },
    /// `remaining` payload bytes of the fragment are still to be counted.
    Rest { remaining: u32, last: bool },
}

const START: State = State::Header { bytes: [0; HEADER_LEN], have: 0 };

/// Takes at most `n` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = input.split_at_checked(n).unwrap_or((input, &[]));
    *input = tail;
    head
}

impl Framer {
    /// A framer at a packet border that keeps up to `keep` payload bytes of each packet.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { state: START, sequence_id: 0, continued: false, keep, kept: Vec::new(), count: 0 }
    }

    /// How many payload bytes are kept of the packets that begin from now on.
    pub fn set_prefix_len(&mut self, keep: usize) {
        if self.kept.capacity() > MAX_IDLE && !matches!(self.state, State::Prefix { .. }) {
            // What one long packet needed is not held for the connection's life.
            self.kept = Vec::new();
        }
        self.keep = keep;
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// The number of packet headers since the last call. Each fragment of a long packet has one.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// Sequence id of the newest packet header.
    #[must_use]
    pub fn sequence_id(&self) -> u8 {
        self.sequence_id
    }

    /// The next byte begins a packet.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. }) && !self.continued
    }

    /// How many bytes of the packet that is passing have come, its header among them; 0 at a border. None: nobody looks
    /// at its coming bytes.
    #[must_use]
    pub fn received_len(&self) -> Option<usize> {
        match self.state {
            State::Header { have, .. } => Some(have),
            State::Prefix { .. } => Some(HEADER_LEN.saturating_add(self.kept.len())),
            State::Rest { .. } => None,
        }
    }

    /// A packet has begun, and as far as is known its first byte may be this one.
    #[must_use]
    pub fn may_begin_with(&self, first: u8) -> bool {
        match self.state {
            State::Header { have, .. } => have > 0 && !self.continued,
            State::Prefix { .. } => self.kept.first().is_none_or(|byte| *byte == first),
            State::Rest { .. } => false,
        }
    }

    /// How many of the coming bytes are known to be payload that nobody looks at.
    #[must_use]
    pub fn skippable(&self) -> usize {
        match self.state {
            State::Rest { remaining, .. } => remaining as usize,
            State::Header { .. } | State::Prefix { .. } => 0,
        }
    }

    /// Passes over `n` bytes without seeing them; at most [`Framer::skippable`] are passed over.
    pub fn skip(&mut self, n: usize) {
        if let State::Rest { remaining, .. } = &mut self.state {
            *remaining = remaining.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    /// Takes bytes off `input` up to the next thing to tell. None: all of `input` is taken.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Framed<'s>> {
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
                        self.rest(length);
                        continue;
                    }
                    let want = self.keep.min(length as usize);
                    if input.len() >= want {
                        let prefix = take(input, want);
                        let complete = self.pass(length, want, input);
                        return Some(Framed::Head(Packet { length, sequence_id, prefix, complete }));
                    }
                    self.kept.clear();
                    self.state = State::Prefix { length, want };
                }
                State::Prefix { length, want } => {
                    let more = take(input, want.saturating_sub(self.kept.len()));
                    self.reserve(more.len(), want);
                    self.kept.extend_from_slice(more);
                    if self.kept.len() < want {
                        return None;
                    }
                    let complete = self.pass(length, want, input);
                    let (sequence_id, prefix) = (self.sequence_id, self.kept.as_slice());
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

    /// Makes room for `more` bytes of a prefix of `want` bytes. It may double, but takes no more than the prefix needs.
    fn reserve(&mut self, more: usize, want: usize) {
        let needed = self.kept.len().saturating_add(more);
        if needed > self.kept.capacity() {
            let capacity = self.kept.capacity().saturating_mul(2).min(want).max(needed);
            self.kept.reserve_exact(capacity.saturating_sub(self.kept.len()));
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

    /// Passes over what `input` holds of a fragment of which `seen` bytes are taken already.
    /// Says whether that was all of the packet.
    fn pass(&mut self, length: u32, seen: usize, input: &mut &[u8]) -> bool {
        self.rest(length);
        self.skip(seen);
        let taken = take(input, self.skippable()).len();
        self.skip(taken);
        let complete = length < MAX_FRAGMENT_LEN && self.skippable() == 0;
        if complete {
            self.state = START;
        }
        complete
    }

    fn rest(&mut self, length: u32) {
        self.state = State::Rest { remaining: length, last: length < MAX_FRAGMENT_LEN };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One packet as a capture of it would look, split into fragments as the protocol asks.
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

    /// Frames `chunks`; a head and its end make one entry, however they were cut.
    fn frame(keep: usize, chunks: &[&[u8]]) -> Vec<Seen> {
        let mut framer = Framer::new(keep);
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
            assert!(input.is_empty(), "the framer leaves nothing behind");
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
    fn long_packets_are_one_packet_with_many_headers() {
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
    fn payload_can_be_skipped_unseen() {
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
        assert_eq!(framer.memory(), 0, "it is given back when the packet has been looked at");
    }

    #[test]
    fn a_prefix_survives_a_change_of_what_is_kept() {
        let stream = packet(b"abcdefgh", 0);
        let mut framer = Framer::new(6);
        assert_eq!(framer.next(&mut &stream[..7]), None);
        framer.set_prefix_len(2);
        let mut rest = &stream[7..];
        assert!(matches!(framer.next(&mut rest), Some(Framed::Head(Packet { prefix: b"abcdef", .. }))));
    }
}
