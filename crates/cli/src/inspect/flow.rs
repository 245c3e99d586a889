//! A TCP connection: puts its segments in order, and both directions into a possible order of time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::event::{OpaqueReason, Phase, Protocol, Sender};
use firstword::rules::Expected;

use super::capture::{Capture, micros};
use super::conversation::Conversation;
use super::report::{Connection, End, Opaque, PacketLocation, Waits};
use super::segment::{Ends, Segment};
use super::stream::{Piece, Stream};

/// Maximum delay until the capture shows a segment that its peer has acknowledged, in packets of the connection and in
/// time. After that the segment is lost.
const MAX_EARLY: usize = 32;
const MAX_EARLY_TIME: Duration = Duration::from_millis(200);
/// Maximum memory of one direction that waits for missing bytes, in bytes.
const MAX_HELD: usize = 1 << 20;

/// A connection with packets in the capture.
#[derive(Debug)]
pub(super) struct Flow {
    ends: Ends,
    streams: [Stream; 2],
    /// Segments that acknowledge bytes that the capture has not shown yet.
    early: VecDeque<Segment>,
    /// Time of the SYN; `None` if the capture begins later.
    syn: Option<Timestamp>,
    syn_ack: bool,
    /// Sequence number of the SYN. Another connection of the same ports has another one.
    pub(super) isn: Option<u32>,
    conversation: Option<Box<Conversation>>,
    /// Whether its beginning is not in the capture, so that its bytes are only counted.
    late: bool,
    expected: Expected,
    report: Connection,
    /// The first FIN or RST.
    end: Option<(Sender, &'static str, PacketLocation)>,
    reset_by: Option<Sender>,
    fins: [bool; 2],
}

impl Flow {
    /// A connection whose first packet is `segment`.
    pub(super) fn new(ends: Ends, segment: &Segment, expected: Expected, capture: &Capture) -> Self {
        let first = capture.location(segment.packet, segment.at);
        let report = Connection {
            client: ends.client.to_string(),
            server: ends.server.to_string(),
            first,
            ..Connection::default()
        };
        Self {
            ends,
            streams: Default::default(),
            early: VecDeque::new(),
            syn: None,
            syn_ack: false,
            isn: None,
            conversation: None,
            late: false,
            expected,
            report,
            end: None,
            reset_by: None,
            fins: [false; 2],
        }
    }

    /// Marks a connection without a beginning in the capture.
    pub(super) fn start_late(&mut self) {
        self.late = true;
    }

    /// Whether no further packet of the connection is expected.
    pub(super) fn is_over(&self) -> bool {
        self.reset_by.is_some() || self.fins == [true, true]
    }

    /// The protocol; `None` until it is known.
    pub(super) fn protocol(&self) -> Option<&'static str> {
        let known = |protocol: &&str| *protocol != Protocol::Unknown.label();
        self.conversation.as_ref().map(|conversation| conversation.report.protocol).filter(known)
    }

    /// Whether the client has sent a PROXY header.
    pub(super) fn has_header(&self) -> bool {
        self.conversation.as_ref().is_some_and(|conversation| !conversation.report.proxy_headers.is_empty())
    }

    /// Memory of segments that wait for other packets, in bytes.
    pub(super) fn held(&self) -> usize {
        let early = self.early.iter().map(|segment| segment.bytes.len().saturating_add(size_of::<Segment>()));
        self.streams.iter().map(|stream| stream.held).chain(early).fold(0, usize::saturating_add)
    }

    /// Approximate maximum memory in bytes.
    pub(super) fn memory(&self) -> usize {
        let conversation = self.conversation.as_ref().map_or(0, |conversation| conversation.memory());
        [size_of::<Self>(), self.held(), conversation].into_iter().fold(0, usize::saturating_add)
    }

    fn sender(&self, from: SocketAddr) -> Sender {
        if from == self.ends.client { Sender::Client } else { Sender::Server }
    }

    fn stream(&mut self, sender: Sender) -> &mut Stream {
        let [client, server] = &mut self.streams;
        match sender {
            Sender::Client => client,
            Sender::Server => server,
        }
    }

    /// Takes the connection's next packet in the capture.
    pub(super) fn packet(&mut self, segment: Segment, capture: &Capture) {
        if self.is_ahead(&segment) {
            let oldest = self.early.front().map_or(segment.at, |oldest| oldest.at);
            let is_too_old = segment.at.since(oldest) >= MAX_EARLY_TIME;
            self.early.push_back(segment);
            if is_too_old || self.early.len() > MAX_EARLY {
                self.skip_gaps(capture);
            }
            return;
        }
        self.accept(&segment, capture);
        while let Some(segment) = self.ready() {
            self.accept(&segment, capture);
        }
        if Sender::ALL.iter().any(|sender| self.stream(*sender).held > MAX_HELD) {
            self.skip_gaps(capture);
        }
    }

    /// The first of the early segments that no longer acknowledges missing bytes.
    fn ready(&mut self) -> Option<Segment> {
        for index in 0..self.early.len() {
            let segment = self.early.get(index)?.clone();
            if !self.is_ahead(&segment) {
                return self.early.remove(index);
            }
        }
        None
    }

    /// Whether the segment acknowledges bytes that the capture has not shown yet.
    fn is_ahead(&mut self, segment: &Segment) -> bool {
        let other = other(self.sender(segment.from));
        let is_ahead = |ack| self.stream(other).behind(ack).is_some();
        !segment.syn && segment.ack.is_some_and(is_ahead)
    }

    /// Treats all missing bytes as lost.
    pub(super) fn skip_gaps(&mut self, capture: &Capture) {
        for segment in std::mem::take(&mut self.early) {
            let other = other(self.sender(segment.from));
            while self.is_ahead(&segment) {
                let lost = self.stream(other).lose(segment.ack, segment.packet, segment.at);
                let Some(piece) = lost else { break };
                self.deliver(other, piece, capture);
                self.drain(other, segment.at, capture);
            }
            self.accept(&segment, capture);
        }
        for sender in Sender::ALL {
            if self.stream(*sender).held == 0 {
                continue;
            }
            let now = capture.now;
            while let Some(piece) = self.stream(*sender).lose(None, capture.packets, now) {
                self.deliver(*sender, piece, capture);
                self.drain(*sender, now, capture);
            }
        }
    }

    fn accept(&mut self, segment: &Segment, capture: &Capture) {
        let sender = self.sender(segment.from);
        let location = capture.location(segment.packet, segment.at);
        if segment.syn {
            self.take_syn(segment, sender);
        } else {
            if let Some(ack) = segment.ack {
                let stream = self.stream(other(sender));
                if !stream.is_known() {
                    stream.begin(ack);
                }
            }
            self.open(segment, sender, capture);
        }
        if segment.rst {
            self.reset(sender, location, capture);
            return;
        }
        self.stream(sender).push(segment);
        self.drain(sender, segment.at, capture);
        if segment.fin {
            self.end.get_or_insert((sender, "fin", location));
        }
    }

    fn take_syn(&mut self, segment: &Segment, sender: Sender) {
        let seq = segment.seq.wrapping_add(1);
        let stream = self.stream(sender);
        if !stream.is_known() {
            stream.begin(seq);
        }
        match sender {
            Sender::Client => {
                self.syn.get_or_insert(segment.at);
                self.isn.get_or_insert(segment.seq);
            }
            Sender::Server => self.syn_ack = true,
        }
    }

    /// Opens the connection with the first packet after the SYNs.
    fn open(&mut self, segment: &Segment, sender: Sender, capture: &Capture) {
        if self.conversation.is_some() || segment.rst {
            return;
        }
        if sender == Sender::Client && self.syn_ack {
            self.report.tcp_handshake_us = self.syn.map(|syn| micros(segment.at.since(syn)));
        }
        let mut conversation = Conversation::new(self.ends, self.expected, segment.at, capture);
        conversation.report.first = self.report.first;
        self.conversation = Some(Box::new(conversation));
    }

    fn drain(&mut self, sender: Sender, now: Timestamp, capture: &Capture) {
        // A SYN may also carry data.
        if self.conversation.is_none() {
            return;
        }
        while let Some(piece) = self.stream(sender).pop(now) {
            self.deliver(sender, piece, capture);
        }
        if self.stream(sender).take_end() {
            if let Some(fin) = self.fins.get_mut(sender as usize) {
                *fin = true;
            }
            if let Some(conversation) = self.conversation.as_mut().filter(|_| !self.late) {
                conversation.end_of(sender, now, capture);
            }
        }
    }

    fn deliver(&mut self, sender: Sender, piece: Piece, capture: &Capture) {
        let Some(conversation) = &mut self.conversation else { return };
        if self.late {
            let bytes = conversation.report.counts.bytes.of(sender);
            *bytes = bytes.saturating_add(piece.len as u64);
            conversation.report.opaque.get_or_insert_with(|| Opaque {
                reason: OpaqueReason::LateStart.label(),
                location: capture.location(piece.packet, piece.at),
                lost_bytes: false,
                detail: None,
            });
        } else {
            conversation.data(sender, piece, capture);
        }
    }

    fn reset(&mut self, sender: Sender, location: PacketLocation, capture: &Capture) {
        self.skip_gaps(capture);
        self.end.get_or_insert((sender, "rst", location));
        self.reset_by.get_or_insert(sender);
    }

    /// The report. `replaced`: location of the first packet of another connection with the same ports.
    pub(super) fn finish(mut self, replaced: Option<PacketLocation>, capture: &Capture) -> Connection {
        self.skip_gaps(capture);
        let now = capture.now;
        let is_open = self.end.is_none() && replaced.is_none();
        let mut unanswered = Vec::new();
        let mut phase = None;
        let mut quit = false;
        let mut report = self.report;
        if let Some(mut conversation) = self.conversation {
            if self.late {
                conversation.report.protocol = self.expected.label();
                phase = Some(Phase::Opaque);
            } else {
                unanswered = conversation.finish(now, is_open, capture);
                phase = conversation.phase;
                quit = conversation.report.counts.commands.contains_key("quit");
            }
            let Connection { client, server, tcp_handshake_us, .. } = report;
            report = Connection { client, server, tcp_handshake_us, ..conversation.report };
        } else {
            report.protocol = self.expected.label();
            if is_open {
                let who = Some(if self.syn_ack { "server" } else { "client" });
                let for_us = capture.at_us(now).saturating_sub(report.first.at_us);
                let (what, commands, since) = ("tcp_handshake", Vec::new(), report.first);
                report.waits = Some(Waits { who, what, commands, since, for_us });
            }
        }
        for sender in Sender::ALL {
            if let Some(stream) = self.streams.get(*sender as usize) {
                *report.counts.retransmitted.of(*sender) = stream.retransmitted;
                *report.counts.lost_bytes.of(*sender) = stream.lost;
            }
        }
        let phase = phase.map_or("tcp_handshake", Phase::label);
        let reset_by = self.reset_by.map(Sender::label);
        let end = self.end.map(|(by, how, location)| (Some(by.label()), how, location));
        let end = end.or(replaced.map(|location| (None, "replaced", location)));
        report.end =
            end.map(|(by, how, location)| End { by, how, location, quit, phase, unanswered, reset_by });
        report.began = capture.time_of(report.first);
        report
    }
}

fn other(sender: Sender) -> Sender {
    match sender {
        Sender::Client => Sender::Server,
        Sender::Server => Sender::Client,
    }
}
