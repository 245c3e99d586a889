//! Reads the packets of a capture file: pcap or pcapng, in either byte order, also from a pipe.

use std::io::{Cursor, Read};

use firstword::clock::Timestamp;
use pcap_parser::pcapng::Block;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{InterfaceDescriptionBlock, PcapBlockOwned, PcapError, PcapHeader, create_reader};

/// Initial size of the read buffer in bytes. Longer records let it grow.
const BUFFER_SIZE: usize = 1 << 20;
/// Maximum length of a record in bytes, far more than that of any packet.
const MAX_RECORD: usize = 16 << 20;
/// Maximum length of a capture in bytes, because a stream may never end.
const MAX_CAPTURE: u64 = 64 << 30;
/// Maximum number of interfaces, more than a machine has.
const MAX_INTERFACES: usize = 1 << 16;

/// A captured packet.
pub(super) struct Packet<'a> {
    /// Number in the file, from 1.
    pub(super) number: u64,
    pub(super) at: Timestamp,
    /// `LINKTYPE_` of the interface.
    pub(super) link_type: i32,
    /// The captured bytes.
    pub(super) data: &'a [u8],
    /// Number of bytes at its end that were not captured.
    pub(super) missing: usize,
}

/// The format of an interface's packets.
#[derive(Clone, Copy)]
struct Interface {
    link_type: i32,
    /// Number of time units in a second.
    resolution: u64,
    /// Seconds that are added to every time.
    offset: i64,
}

const NANOS: u64 = 1_000_000_000;

impl Interface {
    fn of_pcap(header: &PcapHeader) -> Self {
        let resolution = if header.is_nanosecond_precision() { NANOS } else { 1_000_000 };
        // The upper bits show whether frames end in a checksum.
        Self { link_type: header.network.0 & 0xffff, resolution, offset: 0 }
    }

    fn of_pcapng(block: &InterfaceDescriptionBlock) -> Self {
        let exponent = u32::from(block.if_tsresol & 0x7f);
        let base: u64 = if block.if_tsresol & 0x80 == 0 { 10 } else { 2 };
        let resolution = base.checked_pow(exponent).unwrap_or(u64::MAX);
        Self { link_type: block.linktype.0, resolution, offset: block.if_tsoffset }
    }

    fn time(self, units: u64) -> Timestamp {
        let nanos = u128::from(units).saturating_mul(u128::from(NANOS));
        let nanos = nanos.checked_div(u128::from(self.resolution)).unwrap_or_default();
        let offset = i128::from(self.offset).saturating_mul(i128::from(NANOS));
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(offset);
        Timestamp::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Passes all packets to `each`, in order. An error is a problem of the file with its position. The packets before this
/// position have been passed.
pub(super) fn read(input: impl Read + Send, each: impl FnMut(Packet)) -> Result<(), String> {
    read_up_to(MAX_CAPTURE, input, each)
}

fn read_up_to(max: u64, mut input: impl Read + Send, mut each: impl FnMut(Packet)) -> Result<(), String> {
    // A pipe returns little data at once, but the first block has to be complete.
    let mut start = Vec::new();
    let read = input.by_ref().take(BUFFER_SIZE as u64).read_to_end(&mut start);
    read.map_err(|error| format!("cannot read it: {error}"))?;
    let first_bytes: Vec<u8> = start.iter().take(8).copied().collect();
    let mut reader =
        create_reader(BUFFER_SIZE, Cursor::new(start).chain(input)).map_err(|_| foreign(&first_bytes))?;
    let mut file = File::default();
    let mut capacity = BUFFER_SIZE;
    loop {
        let at = reader.consumed();
        if u64::try_from(at).is_ok_and(|at| at >= max) {
            return Err(format!(
                "byte {at}, behind packet {}: expected a capture of at most {max} bytes, found more",
                file.packets
            ));
        }
        let problem = match reader.next() {
            Ok((len, block)) => {
                let taken = file.block(&block, &mut each);
                reader.consume(len);
                match taken {
                    Ok(()) => continue,
                    Err(problem) => problem,
                }
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => match reader.refill() {
                Ok(()) => continue,
                Err(_) => "cannot read on".to_owned(),
            },
            Err(PcapError::BufferTooSmall) if capacity < MAX_RECORD => {
                capacity = capacity.saturating_mul(2);
                reader.grow(capacity);
                match reader.refill() {
                    Ok(()) => continue,
                    Err(_) => "cannot read on".to_owned(),
                }
            }
            Err(PcapError::BufferTooSmall) => {
                format!("expected a record of at most {} MiB, found a longer one", MAX_RECORD >> 20)
            }
            Err(PcapError::UnexpectedEof) => {
                let left = reader.data().len();
                format!("expected a whole record, found {left} bytes and the end of the file")
            }
            Err(_) => "expected a record, found what is none".to_owned(),
        };
        return Err(format!("byte {at}, behind packet {}: {problem}", file.packets));
    }
}

fn foreign(first_bytes: &[u8]) -> String {
    let found = match first_bytes {
        [] => "an empty one".to_owned(),
        [0x1f, 0x8b, ..] => "one compressed by gzip: try gzip -dc FILE | firstword inspect -".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "one compressed by Zstandard: try zstd -dc FILE | firstword inspect -".to_owned()
        }
        _ => {
            let hex: Vec<_> = first_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("one that begins with the bytes {}", hex.join(" "))
        }
    };
    format!("byte 0: expected a pcap or pcapng file, found {found}")
}

/// The state of a file between two blocks.
#[derive(Default)]
struct File {
    /// The interfaces; in pcapng, those of the current section.
    interfaces: Vec<Interface>,
    packets: u64,
}

impl File {
    fn block(&mut self, block: &PcapBlockOwned, each: &mut impl FnMut(Packet)) -> Result<(), String> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => self.interfaces = vec![Interface::of_pcap(header)],
            PcapBlockOwned::Legacy(block) => {
                let at = |interface: Interface| {
                    let fraction = u64::from(block.ts_usec);
                    let seconds = u64::from(block.ts_sec).saturating_mul(interface.resolution);
                    interface.time(seconds.saturating_add(fraction))
                };
                self.packet(0, at, block.data, block.origlen, each)?;
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                if self.interfaces.len() >= MAX_INTERFACES {
                    return Err(format!("expected at most {MAX_INTERFACES} interfaces, found more"));
                }
                self.interfaces.push(Interface::of_pcapng(block));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                let units = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                let at = |interface: Interface| interface.time(units);
                self.packet(block.if_id, at, block.packet_data(), block.origlen, each)?;
            }
            // The block has no time. The epoch means no time, see `Timestamp::since`.
            PcapBlockOwned::NG(Block::SimplePacket(block)) => {
                self.packet(0, |_| Timestamp::default(), block.packet_data(), block.origlen, each)?;
            }
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }

    fn packet(
        &mut self,
        interface: u32,
        at: impl FnOnce(Interface) -> Timestamp,
        data: &[u8],
        length: u32,
        each: &mut impl FnMut(Packet),
    ) -> Result<(), String> {
        let known = usize::try_from(interface).ok().and_then(|index| self.interfaces.get(index));
        let Some(known) = known else {
            let count = self.interfaces.len();
            return Err(format!(
                "expected a packet of one of {count} interfaces, found one of number {interface}"
            ));
        };
        self.packets = self.packets.saturating_add(1);
        let missing = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(data.len());
        each(Packet { number: self.packets, at: at(*known), link_type: known.link_type, data, missing });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture that never ends.
    struct Endless(Vec<u8>, usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            const PACKET: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4];
            for byte in buffer.iter_mut() {
                *byte = match self.0.get(self.1) {
                    Some(byte) => *byte,
                    None => PACKET[(self.1 - self.0.len()) % PACKET.len()],
                };
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn an_endless_capture_is_read_up_to_the_limit() {
        let header = [
            &0xa1b2_c3d4_u32.to_le_bytes()[..],
            &[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 4, 0, 101, 0, 0, 0],
        ];
        let mut packets = 0_u64;
        let read = read_up_to(10 << 20, Endless(header.concat(), 0), |packet| packets = packet.number);
        let at = 24 + packets * 20;
        assert!((10 << 20..(10 << 20) + 20).contains(&at), "{at}");
        let expected = format!(
            "byte {at}, behind packet {packets}: expected a capture of at most 10485760 bytes, found more"
        );
        assert_eq!(read, Err(expected));
    }
}
