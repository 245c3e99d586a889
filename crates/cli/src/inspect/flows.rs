//! The connections of a capture, by their ends, and the choice of those that are reported.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use firstword::connection::inspector::detect::{Detection, Detector};
use firstword::event::Protocol;
use firstword::mysql::wire::handshake::HandshakeV10;
use firstword::ports;
use firstword::proxy_protocol::looks_like_header;
use firstword::rules::Expected;

use super::capture::Capture;
use super::flow::Flow;
use super::report::{PacketLocation, Report, SlowCommand};
use super::segment::{Ends, Segment};
use super::slowest;
use super::table::{Entry, Table};

/// Limits that hold for every capture, also for one from an attacker.
#[derive(Clone, Copy)]
struct Limits {
    /// Maximum number of connections that are followed at once.
    open: usize,
    /// Maximum number of connections that are remembered after their end, so that a late packet does not begin another one.
    ended: usize,
    /// Maximum number of connections that are listed; the others are only counted.
    listed: usize,
    /// Maximum number of bytes that are held for missing packets, in all connections.
    held: usize,
    /// Approximate maximum memory of open connections, and of listed ones, in bytes.
    memory: usize,
}

const LIMITS: Limits =
    Limits { open: 1 << 16, ended: 1 << 16, listed: 10_000, held: 64 << 20, memory: 512 << 20 };

/// The length of a MySQL packet's header.
const HEADER_LEN: usize = 4;

/// The two ends of a connection, the same for both directions.
type Key = (SocketAddr, SocketAddr);

/// A connection that is followed.
struct Followed {
    number: u64,
    flow: Box<Flow>,
    /// Whether it is reported. For some connections their first bytes decide.
    of_interest: bool,
}

/// The connections of a capture.
pub(super) struct Flows {
    table: Table<Key, Followed>,
    limits: Limits,
    /// Ports to report. If empty: ports on which MySQL is expected, and connections that begin like MySQL.
    ports: BTreeSet<u16>,
    numbers: u64,
    held: usize,
    /// Memory of open connections in bytes.
    memory: usize,
    /// Memory of listed connections in bytes.
    listed: usize,
}

/// Facts from the first packet of a connection.
struct Start {
    ends: Ends,
    /// Whether its beginning is not in the capture.
    is_late: bool,
}

impl Flows {
    pub(super) fn new(ports: &[u16]) -> Self {
        Self::limited(ports, LIMITS)
    }

    fn limited(ports: &[u16], limits: Limits) -> Self {
        let table = Table::new(limits.open, limits.ended);
        Self {
            table,
            limits,
            ports: ports.iter().copied().collect(),
            numbers: 0,
            held: 0,
            memory: 0,
            listed: 0,
        }
    }

    /// The expected protocol of a server on this port.
    fn expected(&self, port: u16) -> Expected {
        match ports::expected(port) {
            _ if self.ports.contains(&port) => Expected::Mysql,
            Expected::Mysql if self.ports.is_empty() => Expected::Mysql,
            _ => Expected::Unknown,
        }
    }

    /// Takes the next TCP segment of the capture.
    pub(super) fn segment(&mut self, segment: Segment, capture: &Capture, report: &mut Report) {
        let key = key(&segment);
        if self.is_new(&segment, key) {
            self.end(key, Some(capture.location(segment.packet, segment.at)), capture, report);
            if !self.start(&segment, key, capture, report) {
                return;
            }
        }
        let Entry::Open(Followed { flow, of_interest, .. }) = self.table.get(key) else { return };
        let (held, memory) = (flow.held(), flow.memory());
        flow.packet(segment, capture);
        let others = self.held.saturating_sub(held);
        if others.saturating_add(flow.held()) > self.limits.held {
            flow.skip_gaps(capture);
        }
        self.held = others.saturating_add(flow.held());
        self.memory = self.memory.saturating_sub(memory).saturating_add(flow.memory());
        *of_interest |= flow.has_header() || flow.protocol() == Some(Protocol::Mysql.label());
        let is_other = !*of_interest && flow.protocol().is_some();
        if flow.is_over() || is_other {
            self.end(key, None, capture, report);
        } else if self.memory > self.limits.memory {
            self.stop_following(key, report);
        }
    }

    /// Whether the segment begins a connection.
    fn is_new(&mut self, segment: &Segment, key: Key) -> bool {
        let isn = match self.table.get(key) {
            Entry::Unknown => return true,
            Entry::Open(followed) => followed.flow.isn,
            Entry::Ended(isn) => isn,
        };
        segment.syn && segment.ack.is_none() && isn != Some(segment.seq)
    }

    fn start(&mut self, segment: &Segment, key: Key, capture: &Capture, report: &mut Report) -> bool {
        let Some(Start { ends, is_late }) = self.start_of(segment) else { return false };
        let expected = self.expected(ends.server.port());
        let wanted = self.ports.is_empty() || expected == Expected::Mysql;
        if !wanted {
            return false;
        }
        if is_late && expected != Expected::Mysql {
            // No later packet is the beginning of this connection.
            self.table.remember(key, None);
            return false;
        }
        if !self.table.has_room() {
            report.not_followed = report.not_followed.saturating_add(1);
            self.table.remember(key, segment.syn.then_some(segment.seq).filter(|_| segment.ack.is_none()));
            return false;
        }
        let mut flow = Box::new(Flow::new(ends, segment, expected, capture));
        if is_late {
            flow.start_late();
        }
        self.numbers = self.numbers.saturating_add(1);
        self.memory = self.memory.saturating_add(flow.memory());
        let of_interest = expected == Expected::Mysql;
        self.table.open(key, Followed { number: self.numbers, flow, of_interest });
        true
    }

    /// The ends of the connection that a segment begins, and whether its beginning is missing. `None` if no connection begins.
    fn start_of(&self, segment: &Segment) -> Option<Start> {
        let from_client = Ends { client: segment.from, server: segment.to };
        let from_server = Ends { client: segment.to, server: segment.from };
        if segment.syn {
            let ends = if segment.ack.is_some() { from_server } else { from_client };
            return Some(Start { ends, is_late: false });
        }
        // No data, or a late packet of an ended connection.
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
        let is_server = |port| self.expected(port) == Expected::Mysql;
        let ends = if is_server(segment.to.port()) { from_client } else { from_server };
        Some(Start { ends, is_late: true })
    }

    /// Removes an open connection and its memory.
    fn close(&mut self, key: Key) -> Option<Followed> {
        let followed = self.table.close(key)?;
        self.table.remember(key, followed.flow.isn);
        self.held = self.held.saturating_sub(followed.flow.held());
        self.memory = self.memory.saturating_sub(followed.flow.memory());
        Some(followed)
    }

    fn end(&mut self, key: Key, replaced: Option<PacketLocation>, capture: &Capture, report: &mut Report) {
        let Some(followed) = self.close(key) else { return };
        self.report(followed, replaced, capture, report);
    }

    /// Drops a connection because the memory is used up. It is only counted.
    fn stop_following(&mut self, key: Key, report: &mut Report) {
        if self.close(key).is_some() {
            report.not_followed = report.not_followed.saturating_add(1);
        }
    }

    fn report(
        &mut self,
        followed: Followed,
        replaced: Option<PacketLocation>,
        capture: &Capture,
        report: &mut Report,
    ) {
        let Followed { number, flow, of_interest } = followed;
        if !of_interest {
            return;
        }
        let connection = super::report::Connection { number, ..flow.finish(replaced, capture) };
        report.totals.add(&connection);
        for slow in &connection.slowest {
            slowest::add(
                &mut report.slowest,
                SlowCommand { connection: number, ..slow.clone() },
                capture.max_slowest,
            );
        }
        let listed = self.listed.saturating_add(connection.memory());
        if report.connections.len() < self.limits.listed && listed <= self.limits.memory {
            self.listed = listed;
            report.connections.push(connection);
        } else {
            report.not_listed = report.not_listed.saturating_add(1);
        }
    }

    /// Ends the capture.
    pub(super) fn finish(mut self, capture: &Capture, report: &mut Report) {
        let table = std::mem::replace(&mut self.table, Table::new(0, 0));
        let mut open: Vec<_> = table.into_open().collect();
        open.sort_by_key(|followed| followed.number);
        for followed in open {
            self.report(followed, None, capture, report);
        }
        report.connections.sort_by_key(|connection| connection.number);
        let mut renumbered = HashMap::new();
        for (connection, number) in report.connections.iter_mut().zip(1..) {
            renumbered.insert(connection.number, number);
            connection.number = number;
        }
        for slow in &mut report.slowest {
            // 0 is a connection that is not listed.
            slow.connection = renumbered.get(&slow.connection).copied().unwrap_or_default();
        }
    }
}

/// Whether the bytes are a whole greeting. A part is not enough, because other packets can begin in the same way.
fn begins_with_greeting(bytes: &[u8]) -> bool {
    let payload = bytes.get(HEADER_LEN..).unwrap_or_default();
    let greeting = || HandshakeV10::parse(payload).is_ok_and(|greeting| !greeting.server_version.is_empty());
    Detector::default().server_bytes(bytes) == Detection::Mysql && greeting()
}

/// The key of a connection, the same for both directions.
fn key(segment: &Segment) -> Key {
    (segment.from.min(segment.to), segment.from.max(segment.to))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use firstword::clock::Timestamp;

    use super::*;

    const SMALL: Limits = Limits { open: 50, ended: 60, listed: 20, held: 1 << 16, memory: 1 << 20 };

    fn capture(packets: u64) -> Capture {
        let at = Timestamp::default();
        Capture { max_commands: 50, max_slowest: 0, shows_user: false, packets, began: Some(at), now: at }
    }

    struct Reader {
        flows: Flows,
        report: Report,
        packets: u64,
        max_memory: usize,
    }

    impl Reader {
        fn new(limits: Limits) -> Self {
            Self {
                flows: Flows::limited(&[], limits),
                report: Report::new(String::new()),
                packets: 0,
                max_memory: 0,
            }
        }

        /// A segment of the client `number` to a server, or back.
        fn segment(&mut self, number: u16, back: bool, syn: bool, seq: u32, ack: Option<u32>, bytes: &[u8]) {
            let at = Timestamp::default();
            self.packets += 1;
            let capture = capture(self.packets);
            let ends = [SocketAddr::from(([10, 0, 0, 1], number)), SocketAddr::from(([10, 0, 0, 2], 3306))];
            let [from, to] = if back { [ends[1], ends[0]] } else { ends };
            let bytes = Bytes::copy_from_slice(bytes);
            let len = bytes.len();
            let segment = Segment {
                packet: self.packets,
                at,
                from,
                to,
                seq,
                ack,
                syn,
                fin: false,
                rst: false,
                bytes,
                len,
            };
            self.flows.segment(segment, &capture, &mut self.report);
            self.max_memory = self.max_memory.max(self.flows.memory);
        }

        fn open(&mut self, number: u16) {
            self.segment(number, false, true, 0, None, b"");
            self.segment(number, true, true, 0, Some(1), b"");
            self.segment(number, false, false, 1, Some(1), b"");
        }

        fn finish(mut self) -> Report {
            self.flows.finish(&capture(self.packets), &mut self.report);
            self.report
        }
    }

    #[test]
    fn connections_over_the_limit_are_counted_once_each() {
        let mut reader = Reader::new(SMALL);
        for number in 1..=200 {
            reader.segment(number, false, true, 5, None, b"");
        }
        // The same packets again, and later packets: no further connection.
        for number in 1..=50 {
            reader.segment(number, false, true, 5, None, b"");
        }
        for number in 150..=200 {
            reader.segment(number, false, false, 6, None, b"x");
        }
        let report = reader.finish();
        assert_eq!((report.totals.connections, report.not_followed), (50, 150));
        assert_eq!((report.connections.len(), report.not_listed), (20, 30));
    }

    /// A PROXY header without an end is held, so that its memory counts.
    #[test]
    fn connections_with_too_much_memory_are_not_followed() {
        let limits = Limits { open: 1000, ..SMALL };
        let mut reader = Reader::new(limits);
        let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 30_000]].concat();
        for number in 1..=100 {
            reader.open(number);
            reader.segment(number, false, false, 1, Some(1), &header);
        }
        let max = reader.max_memory;
        let report = reader.finish();
        // One connection exceeds the limit before it is dropped.
        assert!(max <= limits.memory + 70_000, "{max}");
        assert!(report.not_followed > 70, "{}", report.not_followed);
        assert_eq!(report.totals.connections + report.not_followed, 100);
    }

    #[test]
    fn the_memory_of_listed_connections_is_limited() {
        let limits = Limits { open: 1000, ended: 1000, listed: 1000, memory: 330_000, ..SMALL };
        let mut reader = Reader::new(limits);
        for number in 1..=200 {
            reader.segment(number, false, true, 0, None, b"");
            // Another connection of the same ports ends the first one.
            reader.segment(number, false, true, 9, None, b"");
        }
        let report = reader.finish();
        let listed: usize = report.connections.iter().map(super::super::report::Connection::memory).sum();
        assert!(listed <= limits.memory, "{listed}");
        assert!(report.not_listed > 100, "{}", report.not_listed);
        assert_eq!(report.not_followed, 0);
        assert_eq!(report.connections.len() as u64 + report.not_listed, report.totals.connections);
    }
}
