//! How the bytes of libFuzzer become a connection: what is known of it when it begins, and what happens on it.
//!
//! ```text
//! rules | known | receive | more | step...
//! step: op | length[2], little endian | bytes       data; the length may say more than there is
//!       op                                          anything else
//! ```
//! Captures are easily written so, and most changes of a byte give another connection and not none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::event::Sender;
use firstword::proxy_protocol::{Endpoints, Format, MAX_V1_LEN};
use firstword::rules::{
    ClearCapabilities, Expected, Field, HoldSplitEof, Inspection, Interests, Need, ProxyHeaderRules,
    ReceiveRules, Rules, SendRules, Untrusted,
};

/// Bits of `rules`, above two for `hold_split_eof`.
const CLEAR: [u8; 3] = [1 << 2, 1 << 3, 1 << 4];
const BLOCK: u8 = 1 << 5;
pub const RECEIVE: u8 = 1 << 6;
pub const SEND: u8 = 1 << 7;
/// Bits of `receive`, above two for whether there must be a header.
pub const TRUSTED: u8 = 1 << 2;

/// When it begins; at the epoch there would be no time.
pub const BEGIN: Timestamp = Timestamp::from_nanos(1);

/// One connection.
pub struct Plan {
    pub rules: Rules,
    /// In so many bytes at once its chunks come another time.
    pub piece: usize,
    pub steps: Vec<Step>,
}

/// What happens, and how much later.
pub struct Step {
    pub after: Duration,
    pub what: What,
}

pub enum What {
    /// `readable`: the host gives the bytes.
    Data {
        sender: Sender,
        bytes: Bytes,
        end_stream: bool,
        readable: bool,
    },
    Tick,
    Inert,
    Off,
}

impl Plan {
    /// None: too short for one.
    pub fn read(input: &[u8]) -> Option<Self> {
        let ([rules, known, receive, more], rest) = input.split_first_chunk()?;
        let bit = |byte: u8, at: u32| byte >> at & 1 == 1;
        let choice = |byte: u8, at: u32, mask: u8| usize::from(byte >> at & mask);
        let hold_split_eof = [HoldSplitEof::Off, HoldSplitEof::AffectedClients, HoldSplitEof::Always];
        let [compress, zstd, ssl] = CLEAR.map(|flag| rules & flag != 0);
        let expected = Expected::ALL[choice(*known, 0, 7) % Expected::ALL.len()];
        let inspections = [
            Inspection::Full,
            Inspection::Requests,
            Inspection::Handshake,
            Inspection::FirstBytes,
            Inspection::Nothing,
        ];
        let needs = [Need::Optional, Need::Required, Need::BeforeConnect];
        let endpoints = Endpoints {
            source: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            destination: SocketAddr::from((Ipv4Addr::LOCALHOST, 3306)),
        };
        let receives = ReceiveRules {
            need: needs[choice(*receive, 0, 3) % needs.len()],
            trusted: receive & TRUSTED != 0,
            untrusted: if bit(*receive, 3) { Untrusted::Strip } else { Untrusted::Close },
            timeout: Duration::from_secs(3),
            max_header_bytes: if bit(*receive, 4) { MAX_V1_LEN } else { 536 },
        };
        let sends = SendRules {
            format: if bit(*receive, 5) { Format::V2 } else { Format::V1 },
            only_unless_received: bit(*receive, 6),
            endpoints: (!bit(*receive, 7)).then_some(endpoints),
        };
        let headers = ProxyHeaderRules {
            receive: (rules & RECEIVE != 0).then_some(receives),
            send: (rules & SEND != 0).then_some(sends),
        };
        let mut interests = Interests::NONE;
        if bit(*more, 7) {
            Field::ALL.iter().for_each(|field| interests.add(*field));
        }
        interests.slow_after = bit(*more, 6).then_some(Duration::ZERO);
        let rules = Rules {
            inspection: inspections[choice(*known, 3, 7) % inspections.len()],
            expected,
            greeting_timeout: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            interests,
            proxy_header: (headers.receive.is_some() || headers.send.is_some()).then_some(headers),
            hold_split_eof: hold_split_eof[choice(*rules, 0, 3) % hold_split_eof.len()],
            clear_capabilities: ClearCapabilities { compress, zstd, ssl },
            block_local_infile: rules & BLOCK != 0,
        };
        let piece = choice(*more, 0, 63) + 1;
        Some(Self { rules, piece, steps: steps(rest) })
    }

    /// No rule changes bytes.
    pub fn is_plain(&self) -> bool {
        let Rules { proxy_header, hold_split_eof, clear_capabilities, block_local_infile, .. } = self.rules;
        let changes = clear_capabilities != ClearCapabilities::default() || block_local_infile;
        proxy_header.is_none() && hold_split_eof == HoldSplitEof::Off && !changes
    }
}

fn steps(mut rest: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((op, behind)) = rest.split_first() {
        rest = behind;
        let waits =
            [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(20)];
        let after = waits[usize::from(op >> 2 & 3)];
        let what = match op >> 4 {
            0..=11 => {
                let Some((length, behind)) = rest.split_first_chunk() else { break };
                let length = usize::from(u16::from_le_bytes(*length));
                let (bytes, behind) = behind.split_at_checked(length).unwrap_or((behind, &[]));
                rest = behind;
                What::Data {
                    sender: if op & 1 == 0 { Sender::Client } else { Sender::Server },
                    bytes: Bytes::copy_from_slice(bytes),
                    end_stream: op & 2 != 0,
                    readable: op >> 4 != 11,
                }
            }
            12 | 13 => What::Tick,
            14 => What::Inert,
            _ => What::Off,
        };
        steps.push(Step { after, what });
    }
    steps
}

/// These chunks on a connection that begins so.
pub fn write(start: [u8; 4], chunks: &[(Sender, Bytes)]) -> Vec<u8> {
    let mut input = start.to_vec();
    for (sender, bytes) in chunks {
        for part in bytes.chunks(usize::from(u16::MAX)) {
            input.push(u8::from(*sender == Sender::Server));
            input.extend(u16::try_from(part.len()).expect("no more than that").to_le_bytes());
            input.extend(part);
        }
    }
    input
}
