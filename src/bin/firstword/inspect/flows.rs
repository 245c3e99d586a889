//! The connections of a capture, told apart by their ends, and which of them are of interest.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use firstword::detect::{Detection, Detector};
use firstword::event::Protocol;
use firstword::mysql::handshake::HandshakeV10;
use firstword::ports;
use firstword::proxy_protocol::looks_like_header;

use super::Capture;
use super::flow::Flow;
use super::follow::Ends;
use super::report::{Place, Report};
use super::segment::Segment;

/// So many connections are known at once.
const FLOWS: usize = 1 << 16;
/// So many are listed; those behind them are only counted.
const LISTED: usize = 10_000;
/// So many bytes are held for what is missing in front of them, in all connections.
const HELD: usize = 64 << 20;

/// The length of a MySQL packet's header.
const HEADER_LEN: usize = 4;

/// What is known of the connection between two ends.
enum Entry {
    /// It is followed; whether it is of interest may not be known yet.
    Flow { number: u64, flow: Box<Flow>, of_interest: bool },
    /// It has ended, or is of no interest. The sequence number of its SYN tells it from the next one.
    Done(Option<u32>),
}

/// The connections of a capture.
#[derive(Default)]
pub(super) struct Flows {
    entries: HashMap<(SocketAddr, SocketAddr), Entry>,
    /// Ports that are of interest; empty: those on which MySQL is expected, and what begins like MySQL.
    ports: BTreeSet<u16>,
    numbers: u64,
    held: usize,
}

/// What the first packet of a connection says.
struct Start {
    ends: Ends,
    /// Its beginning is not in the capture.
    is_late: bool,
}

impl Flows {
    pub(super) fn new(ports: &[u16]) -> Self {
        Self { ports: ports.iter().copied().collect(), ..Self::default() }
    }

    /// What a server of this port may be expected to speak.
    fn expected(&self, port: u16) -> Protocol {
        match ports::expected(port) {
            _ if self.ports.contains(&port) => Protocol::Mysql,
            Protocol::Mysql if self.ports.is_empty() => Protocol::Mysql,
            _ => Protocol::Unknown,
        }
    }

    /// Takes the next TCP segment of the capture.
    pub(super) fn segment(&mut self, segment: Segment, capture: &Capture, report: &mut Report) {
        let key = key(&segment);
        if self.is_new(&segment, key) {
            self.end(key, Some(capture.place(segment.packet, segment.at)), capture, report);
            if !self.start(&segment, key, capture, report) {
                return;
            }
        }
        let Some(Entry::Flow { flow, of_interest, .. }) = self.entries.get_mut(&key) else { return };
        let held = flow.held();
        flow.packet(segment, capture);
        if self.held.saturating_sub(held).saturating_add(flow.held()) > HELD {
            flow.give_up(capture);
        }
        self.held = self.held.saturating_sub(held).saturating_add(flow.held());
        *of_interest |= flow.has_header() || flow.protocol() == Some(Protocol::Mysql.label());
        let is_dull = !*of_interest && flow.protocol().is_some();
        if flow.is_over() || is_dull {
            self.end(key, None, capture, report);
        }
    }

    /// No connection between these ends is known, or this segment begins another one.
    fn is_new(&self, segment: &Segment, key: (SocketAddr, SocketAddr)) -> bool {
        let isn = match self.entries.get(&key) {
            None => return true,
            Some(Entry::Flow { flow, .. }) => flow.isn,
            Some(Entry::Done(isn)) => *isn,
        };
        segment.syn && segment.ack.is_none() && isn != Some(segment.seq)
    }

    fn start(
        &mut self,
        segment: &Segment,
        key: (SocketAddr, SocketAddr),
        capture: &Capture,
        report: &mut Report,
    ) -> bool {
        let Some(Start { ends, is_late }) = self.start_of(segment) else { return false };
        let expected = self.expected(ends.server.port());
        let wanted = self.ports.is_empty() || expected == Protocol::Mysql;
        if !wanted {
            return false;
        }
        if self.entries.len() >= FLOWS {
            self.entries.retain(|_, entry| matches!(entry, Entry::Flow { .. }));
        }
        if is_late && expected != Protocol::Mysql {
            // Nothing behind this is a beginning.
            self.entries.insert(key, Entry::Done(None));
            return false;
        }
        if self.entries.len() >= FLOWS {
            report.not_followed = report.not_followed.saturating_add(1);
            return false;
        }
        let mut flow = Box::new(Flow::new(ends, segment, expected, capture));
        if is_late {
            flow.start_late();
        }
        self.numbers = self.numbers.saturating_add(1);
        let of_interest = expected == Protocol::Mysql;
        self.entries.insert(key, Entry::Flow { number: self.numbers, flow, of_interest });
        true
    }

    /// Who is the client, and whether all of what it says is there. None: it cannot be told, or nothing begins.
    fn start_of(&self, segment: &Segment) -> Option<Start> {
        let from_client = Ends { client: segment.from, server: segment.to };
        let from_server = Ends { client: segment.to, server: segment.from };
        if segment.syn {
            let ends = if segment.ack.is_some() { from_server } else { from_client };
            return Some(Start { ends, is_late: false });
        }
        // Nothing, or a late word of a connection that has ended.
        if segment.bytes.is_empty() || segment.rst {
            return None;
        }
        if begins_with_greeting(&segment.bytes) {
            return Some(Start { ends: from_server, is_late: false });
        }
        let header = segment.bytes.first_chunk().and_then(|start| looks_like_header(*start));
        if header.is_some() {
            return Some(Start { ends: from_client, is_late: false });
        }
        let is_server = |port| self.expected(port) == Protocol::Mysql;
        let ends = if is_server(segment.to.port()) { from_client } else { from_server };
        Some(Start { ends, is_late: true })
    }

    fn end(
        &mut self,
        key: (SocketAddr, SocketAddr),
        replaced: Option<Place>,
        capture: &Capture,
        report: &mut Report,
    ) {
        let Some(Entry::Flow { number, flow, of_interest }) = self.entries.remove(&key) else { return };
        self.entries.insert(key, Entry::Done(flow.isn));
        self.held = self.held.saturating_sub(flow.held());
        if of_interest {
            tell(number, *flow, replaced, capture, report);
        }
    }

    /// The capture has ended.
    pub(super) fn finish(self, capture: &Capture, report: &mut Report) {
        for entry in self.entries.into_values() {
            if let Entry::Flow { number, flow, of_interest: true } = entry {
                tell(number, *flow, None, capture, report);
            }
        }
        report.connections.sort_by_key(|connection| connection.number);
        for (connection, number) in report.connections.iter_mut().zip(1..) {
            connection.number = number;
        }
    }
}

/// A whole greeting, so that a packet in the middle of a connection is not taken for one.
fn begins_with_greeting(bytes: &[u8]) -> bool {
    let payload = bytes.get(HEADER_LEN..).unwrap_or_default();
    let greeting = || HandshakeV10::parse(payload).is_ok_and(|greeting| !greeting.server_version.is_empty());
    Detector::default().server_bytes(bytes) == Detection::Mysql && greeting()
}

fn tell(number: u64, flow: Flow, replaced: Option<Place>, capture: &Capture, report: &mut Report) {
    let connection = super::report::Connection { number, ..flow.finish(replaced, capture) };
    report.totals.add(&connection);
    if report.connections.len() < LISTED {
        report.connections.push(connection);
    } else {
        report.not_listed = report.not_listed.saturating_add(1);
    }
}

/// The same for both directions.
fn key(segment: &Segment) -> (SocketAddr, SocketAddr) {
    (segment.from.min(segment.to), segment.from.max(segment.to))
}
