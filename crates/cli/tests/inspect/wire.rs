//! Captures that are made from recorded connections: TCP segments on every kind of link, in pcap and pcapng.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use firstword::event::Sender;

use firstword_testing::capture::Chunks;

/// Maximum length of a payload, because the length of an IP packet is limited.
const MAX_PAYLOAD: usize = 60_000;
/// Time between two packets in microseconds.
pub const STEP: u64 = 1000;
/// The first packet's time in seconds.
const EPOCH: u64 = 1_700_000_000;

pub const CLIENT: u16 = 40_000;
pub const SERVER: u16 = 3306;

/// A TCP segment between one client and one server.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at_us: u64,
    pub from: Sender,
    pub seq: u32,
    /// `None` without an ACK.
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub payload: Vec<u8>,
    /// Ports of the client and the server.
    pub ports: [u16; 2],
    /// Number of bytes at the end of the packet that are not captured.
    pub cut: usize,
}

/// The segments of one connection from the SYN on. Sequence numbers soon wrap around.
pub struct Talk {
    pub frames: Vec<Frame>,
    seqs: [u32; 2],
    pub ports: [u16; 2],
    at_us: u64,
}

impl Talk {
    pub fn new(ports: [u16; 2], at_us: u64) -> Self {
        let mut talk = Self { frames: Vec::new(), seqs: [u32::MAX - 100, u32::MAX - 2000], ports, at_us };
        talk.push(Sender::Client, b"").syn = true;
        talk.seqs[0] = talk.seqs[0].wrapping_add(1);
        talk.frames[0].ack = None;
        talk.push(Sender::Server, b"").syn = true;
        talk.seqs[1] = talk.seqs[1].wrapping_add(1);
        talk.push(Sender::Client, b"");
        talk
    }

    /// Adds the next segment.
    pub fn push(&mut self, from: Sender, payload: &[u8]) -> &mut Frame {
        let [seq, ack] = [from as usize, 1 - from as usize].map(|side| self.seqs[side]);
        self.seqs[from as usize] = seq.wrapping_add(payload.len() as u32);
        self.frames.push(Frame {
            at_us: self.at_us,
            from,
            seq,
            ack: Some(ack),
            syn: false,
            fin: false,
            rst: false,
            payload: payload.to_vec(),
            ports: self.ports,
            cut: 0,
        });
        self.at_us += STEP;
        self.frames.last_mut().unwrap()
    }

    /// Adds a recorded connection, each chunk in the fewest possible segments.
    pub fn chunks(&mut self, chunks: &Chunks) {
        for (sender, bytes) in chunks {
            for payload in bytes.chunks(MAX_PAYLOAD) {
                self.push(*sender, payload);
            }
        }
    }

    pub fn fin(&mut self, from: Sender) {
        self.push(from, b"").fin = true;
        self.seqs[from as usize] = self.seqs[from as usize].wrapping_add(1);
    }

    /// A recorded connection that both ends close.
    pub fn whole(chunks: &Chunks) -> Self {
        let mut talk = Self::new([CLIENT, SERVER], 0);
        talk.chunks(chunks);
        talk.fin(Sender::Client);
        talk.fin(Sender::Server);
        talk.push(Sender::Client, b"");
        talk
    }
}

/// The link of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    /// Ethernet with two VLAN tags.
    Vlan,
    Sll,
    Sll2,
    Null,
    Raw,
}

impl Link {
    pub const ALL: [Self; 6] = [Self::Ethernet, Self::Vlan, Self::Sll, Self::Sll2, Self::Null, Self::Raw];

    pub fn number(self) -> u32 {
        match self {
            Self::Ethernet | Self::Vlan => 1,
            Self::Sll => 113,
            Self::Sll2 => 276,
            Self::Null => 0,
            Self::Raw => 101,
        }
    }

    fn header(self, ipv6: bool) -> Vec<u8> {
        let ether_type: [u8; 2] = if ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        match self {
            Self::Ethernet => [&[0; 12], &ether_type[..]].concat(),
            Self::Vlan => [&[0; 12], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9][..], &ether_type].concat(),
            Self::Sll => [&[0; 14], &ether_type[..]].concat(),
            Self::Sll2 => [&ether_type[..], &[0; 18]].concat(),
            Self::Null => vec![if ipv6 { 30 } else { 2 }, 0, 0, 0],
            Self::Raw => Vec::new(),
        }
    }
}

/// The bytes of a frame on the link.
pub fn bytes(frame: &Frame, link: Link, ipv6: bool) -> Vec<u8> {
    let sides = [frame.from as usize, 1 - frame.from as usize];
    let [source, destination] = sides.map(|side| frame.ports[side]);
    let builder = if ipv6 {
        let [from, to] = sides.map(|side| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1 + side as u16).octets());
        PacketBuilder::ipv6(from, to, 64)
    } else {
        let [from, to] = sides.map(|side| Ipv4Addr::new(192, 0, 2, 1 + side as u8).octets());
        PacketBuilder::ipv4(from, to, 64)
    };
    let mut tcp = builder.tcp(source, destination, frame.seq, 65_535);
    if let Some(ack) = frame.ack {
        tcp = tcp.ack(ack);
    }
    if frame.syn {
        tcp = tcp.syn();
    }
    if frame.fin {
        tcp = tcp.fin();
    }
    if frame.rst {
        tcp = tcp.rst();
    }
    let mut bytes = link.header(ipv6);
    tcp.write(&mut bytes, &frame.payload).unwrap();
    bytes
}

/// The address of the client or the server in [`bytes`].
pub fn address(sender: Sender, ipv6: bool) -> IpAddr {
    let last = 1 + sender as u8;
    match ipv6 {
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
        false => Ipv4Addr::new(192, 0, 2, last).into(),
    }
}

/// A pcap file in little endian, with microseconds.
pub fn pcap(frames: &[Frame]) -> Vec<u8> {
    pcap_of(frames, Link::Ethernet, false)
}

pub fn pcap_of(frames: &[Frame], link: Link, ipv6: bool) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(262_144_u32.to_le_bytes());
    file.extend(link.number().to_le_bytes());
    for frame in frames {
        let bytes = bytes(frame, link, ipv6);
        let kept = bytes.len() - frame.cut;
        let (seconds, micros) = (EPOCH + frame.at_us / 1_000_000, frame.at_us % 1_000_000);
        for number in [seconds, micros, kept as u64, bytes.len() as u64] {
            file.extend((number as u32).to_le_bytes());
        }
        file.extend(&bytes[..kept]);
    }
    file
}

/// A pcap file in big endian, with nanoseconds.
pub fn pcap_nanos(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_3c4d_u32.to_be_bytes());
    file.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(262_144_u32.to_be_bytes());
    file.extend(Link::Raw.number().to_be_bytes());
    for frame in frames {
        let bytes = bytes(frame, Link::Raw, false);
        let (seconds, nanos) = (EPOCH + frame.at_us / 1_000_000, frame.at_us % 1_000_000 * 1000);
        for number in [seconds, nanos, bytes.len() as u64, bytes.len() as u64] {
            file.extend((number as u32).to_be_bytes());
        }
        file.extend(bytes);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = (4 - body.len() % 4) % 4;
    let length = (12 + body.len() + padding) as u32;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &[0; 3][..padding], &length.to_le_bytes()].concat()
}

/// A pcapng file with two interfaces, which alternate: one with raw IP and nanoseconds, one with Linux cooked frames and units
/// of 2^-20 s. Blocks of an unknown kind are between the packets.
pub fn pcapng(frames: &[Frame]) -> Vec<u8> {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let mut file = block(0x0a0d_0d0a, &section);
    for (link, resolution) in [(Link::Raw, 9), (Link::Sll2, 0x80 | 20)] {
        let link = (link.number() as u16).to_le_bytes();
        file.extend(block(1, &[&link[..], &[0; 6], &[9, 0, 1, 0, resolution, 0, 0, 0], &[0; 4]].concat()));
    }
    for (index, frame) in frames.iter().enumerate() {
        let nanos = EPOCH * 1_000_000_000 + frame.at_us * 1000;
        let (interface, link, units) = if index % 2 == 0 {
            (0_u32, Link::Raw, nanos)
        } else {
            (1, Link::Sll2, ((u128::from(nanos) << 20).div_ceil(1_000_000_000)) as u64)
        };
        let bytes = bytes(frame, link, false);
        let length = (bytes.len() as u32).to_le_bytes();
        let [high, low] = [(units >> 32) as u32, units as u32].map(u32::to_le_bytes);
        file.extend(block(
            6,
            &[&interface.to_le_bytes()[..], &high, &low, &length, &length, &bytes].concat(),
        ));
        file.extend(block(0xbad, b"unknown"));
    }
    file
}
