//! Fuzz target: a session with random packets of both peers. A packet that is a row or a column definition has the same effect
//! in the short way as in the long one, and what is open at the end is closed.
//!
//! ```text
//! settings | packet...
//! packet: op | length | bytes      bit 0 of op: sender; bits 1 and 2: its sequence id; bit 3: the packet has not ended
//! ```

#![no_main]

mod packets;
mod seeds;

use firstword::clock::Timestamp;
use firstword::event::details::Details;
use firstword::event::runner::Runner;
use firstword::event::{Event, OpaqueReason, Sender};
use firstword::mysql::wire::packet::Packet;
use firstword::rules::{Field, Interests};
use firstword::session::Session;
use firstword::session::options::Options;
use libfuzzer_sys::fuzz_target;

/// Maximum memory of a session in bytes: 1024 commands, prepared statements, and what is kept of statements and accounts.
const MAX_MEMORY: usize = 192 << 10;

/// Plays the inspector of one connection.
struct Driver {
    session: Session,
    /// True if rows and column definitions take the short way.
    is_short: bool,
    now: Timestamp,
    /// Sequence id of the packet after the last one.
    next: u8,
    events: Vec<Event>,
    end: Option<OpaqueReason>,
}

impl Driver {
    fn new(settings: u8, is_short: bool) -> Self {
        let mut interests = Interests::NONE;
        if settings & 1 != 0 {
            Field::ALL.iter().for_each(|field| interests.add(*field));
        }
        interests.slow_after = (settings & 2 != 0).then_some(std::time::Duration::ZERO);
        let options = Options { interests, judge_files: settings & 4 != 0, hides_secrets: settings & 8 != 0 };
        let now = Timestamp::from_nanos(1);
        let (events, end) = (Vec::new(), None);
        Self { session: Session::new(now, options), is_short, now, next: 0, events, end }
    }

    /// Takes a packet, if the session has not ended.
    fn packet(&mut self, op: u8, payload: &[u8]) {
        if self.end.is_some() {
            return;
        }
        let sender = if op & 1 == 0 { Sender::Client } else { Sender::Server };
        let sequence_id = match op >> 1 & 3 {
            0 | 1 => self.next,
            2 => 0,
            _ => op >> 4,
        };
        self.next = sequence_id.wrapping_add(1);
        let prefix = payload.get(..self.session.prefix_len(sender)).unwrap_or(payload);
        let complete = op & 8 == 0;
        let length = payload.len() as u32 + u32::from(!complete);
        let packet = Packet { length, sequence_id, prefix, complete };
        let Self { session, is_short, now, events, end, .. } = self;
        *now = Timestamp::from_nanos(now.nanos() + 1);
        let mut record = |emitted: &[Event], _: &mut Details| events.extend_from_slice(emitted);
        Runner::default().run(&|| *now, usize::MAX, &mut record, |out| {
            if *is_short && sender == Sender::Server && session.content(&packet) {
                return;
            }
            *end = session.packet(sender, &packet, out).err();
            if end.is_none() && !complete {
                session.packet_end(sender, sequence_id);
            }
        });
        assert!(self.session.memory() <= MAX_MEMORY, "{} bytes", self.session.memory());
        if self.session.blocked_request().is_some() {
            self.end = Some(OpaqueReason::Desync);
        }
    }

    /// Ends the session. Returns its events, the reason of an earlier end, and the report.
    fn end(mut self) -> (Vec<Event>, Option<OpaqueReason>, String) {
        self.session.end(self.end, &mut self.events);
        (self.events, self.end, self.session.report(None).to_string())
    }
}

/// Asserts that no command, statement or transaction stays open.
fn assert_closed(events: &[Event]) {
    let change = |event: &Event| match event {
        Event::CommandStarted(_) => (1, 0, 0),
        Event::CommandEnded { .. } => (-1, 0, 0),
        Event::CommandsAbandoned { count, .. } => (-(*count as i64), 0, 0),
        Event::PreparedStatements { change } => (0, *change, 0),
        Event::Transaction { open } => (0, 0, if *open { 1 } else { -1 }),
        _ => (0, 0, 0),
    };
    let sum =
        events.iter().map(change).fold((0, 0, 0), |sum, add| (sum.0 + add.0, sum.1 + add.1, sum.2 + add.2));
    assert_eq!(sum, (0, 0, 0), "{events:?}");
}

fn any_session(input: &[u8]) {
    let Some((settings, rest)) = input.split_first() else { return };
    let [short, long] = [true, false].map(|is_short| {
        let mut driver = Driver::new(*settings, is_short);
        let mut rest = rest;
        while let Some(([op, length], after)) = rest.split_first_chunk() {
            let (payload, after) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
            rest = after;
            driver.packet(*op, payload);
        }
        driver.end()
    });
    assert_closed(&short.0);
    assert_eq!(short, long);
}

/// The packets of the captures, cut to 255 bytes.
fn examples() -> Vec<Vec<u8>> {
    let seed = |(index, chunks): (usize, &packets::Chunks)| {
        let mut seed = vec![index as u8 & 7];
        for (sender, bytes) in chunks {
            let mut bytes = &bytes[..];
            while let Some(([l0, l1, l2, id], rest)) = bytes.split_first_chunk() {
                let length = u32::from_le_bytes([*l0, *l1, *l2, 0]) as usize;
                let (payload, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                bytes = after;
                let kept = &payload[..payload.len().min(255)];
                let id = if *id < 16 { 3 << 1 | id << 4 } else { 0 };
                seed.extend([u8::from(*sender == Sender::Server) | id, kept.len() as u8]);
                seed.extend_from_slice(kept);
            }
        }
        seed.truncate(4096);
        seed
    };
    packets::captures().iter().enumerate().map(seed).collect()
}

fuzz_target!(init: seeds::write(examples()), |input: &[u8]| any_session(input));
