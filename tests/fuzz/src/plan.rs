//! The format in which the bytes of libFuzzer describe a connection: its rules, and its steps.
//!
//! ```text
//! rules | known | receive | more | step...
//! step: op | length[2], little endian | bytes       data; the length may exceed the rest of the input
//!       op                                          any other step
//! ```
//! Captures can be written in this format, and a changed byte usually describes another valid connection.

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

/// Bits of `rules`. The two lowest bits choose `hold_split_eof`.
const CLEAR: [u8; 3] = [1 << 2, 1 << 3, 1 << 4];
const BLOCK: u8 = 1 << 5;
pub const RECEIVE: u8 = 1 << 6;
pub const SEND: u8 = 1 << 7;
/// A bit of `receive`. The two lowest bits choose whether a header is required.
pub const TRUSTED: u8 = 1 << 2;

/// Time at which the connection begins. Not the epoch, which means no time.
pub const BEGIN: Timestamp = Timestamp::from_nanos(1);

/// One connection.
pub struct Plan {
    pub rules: Rules,
    /// Maximum number of bytes of a chunk when the plan runs a second time.
    pub piece: usize,
    pub steps: Vec<Step>,
}

/// An action, and the time that passes before it.
pub struct Step {
    pub after: Duration,
    pub action: Action,
}

pub enum Action {
    Data {
        sender: Sender,
        bytes: Bytes,
        end_stream: bool,
        /// False if the host refuses to return the bytes.
        is_readable: bool,
    },
    Tick,
    DisableRewriting,
    Off,
}

impl Plan {
    /// Reads a plan. `None` if the input is too short.
    pub fn read(input: &[u8]) -> Option<Self> {
        let ([rules, known, receive, more], rest) = input.split_first_chunk()?;
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
        let proxy_header = proxy_header_rules(*rules, *receive);
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
            proxy_header,
            hold_split_eof: hold_split_eof[choice(*rules, 0, 3) % hold_split_eof.len()],
            clear_capabilities: ClearCapabilities { compress, zstd, ssl },
            block_local_infile: rules & BLOCK != 0,
            // The target `tls` has it.
            originate_tls: None,
            terminate_tls: false,
            guard_password: None,
        };
        let piece = choice(*more, 0, 63) + 1;
        Some(Self { rules, piece, steps: steps(rest) })
    }

    /// True if no rule changes bytes.
    pub fn is_plain(&self) -> bool {
        let Rules { proxy_header, hold_split_eof, clear_capabilities, block_local_infile, .. } = self.rules;
        let changes = clear_capabilities != ClearCapabilities::default() || block_local_infile;
        proxy_header.is_none() && hold_split_eof == HoldSplitEof::Off && !changes
    }
}

fn bit(byte: u8, at: u32) -> bool {
    byte >> at & 1 == 1
}

fn choice(byte: u8, at: u32, mask: u8) -> usize {
    usize::from(byte >> at & mask)
}

fn proxy_header_rules(rules: u8, receive: u8) -> Option<ProxyHeaderRules> {
    let needs = [Need::Optional, Need::Required, Need::BeforeConnect];
    let endpoints = Endpoints {
        source: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
        destination: SocketAddr::from((Ipv4Addr::LOCALHOST, 3306)),
    };
    let receive_rules = ReceiveRules {
        need: needs[choice(receive, 0, 3) % needs.len()],
        trusted: receive & TRUSTED != 0,
        untrusted: if bit(receive, 3) { Untrusted::Strip } else { Untrusted::Close },
        timeout: Duration::from_secs(3),
        max_header_bytes: if bit(receive, 4) { MAX_V1_LEN } else { 536 },
    };
    let send_rules = SendRules {
        format: if bit(receive, 5) { Format::V2 } else { Format::V1 },
        only_unless_received: bit(receive, 6),
        endpoints: (!bit(receive, 7)).then_some(endpoints),
    };
    let headers = ProxyHeaderRules {
        receive: (rules & RECEIVE != 0).then_some(receive_rules),
        send: (rules & SEND != 0).then_some(send_rules),
    };
    (headers.receive.is_some() || headers.send.is_some()).then_some(headers)
}

fn steps(mut rest: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((op, after_op)) = rest.split_first() {
        rest = after_op;
        let waits =
            [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(20)];
        let after = waits[usize::from(op >> 2 & 3)];
        let action = match op >> 4 {
            0..=11 => {
                let Some((length, after_length)) = rest.split_first_chunk() else { break };
                let length = usize::from(u16::from_le_bytes(*length));
                let (bytes, after_bytes) =
                    after_length.split_at_checked(length).unwrap_or((after_length, &[]));
                rest = after_bytes;
                Action::Data {
                    sender: if op & 1 == 0 { Sender::Client } else { Sender::Server },
                    bytes: Bytes::copy_from_slice(bytes),
                    end_stream: op & 2 != 0,
                    is_readable: op >> 4 != 11,
                }
            }
            12 | 13 => Action::Tick,
            14 => Action::DisableRewriting,
            _ => Action::Off,
        };
        steps.push(Step { after, action });
    }
    steps
}

/// Writes a plan that begins with these four bytes and passes these chunks.
pub fn write(start: [u8; 4], chunks: &[(Sender, Bytes)]) -> Vec<u8> {
    let mut input = start.to_vec();
    for (sender, bytes) in chunks {
        for part in bytes.chunks(usize::from(u16::MAX)) {
            input.push(u8::from(*sender == Sender::Server));
            input.extend(u16::try_from(part.len()).expect("at most u16::MAX bytes").to_le_bytes());
            input.extend(part);
        }
    }
    input
}
