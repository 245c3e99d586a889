//! A TCP connection: its segments put in order, both directions in the order in which they can have happened.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::event::{OpaqueReason, Phase, Protocol, Sender};
use firstword::rules::Expected;

use super::Capture;
use super::follow::{Ends, Follow, micros};
use super::report::{Connection, End, Opaque, Place, Waits};
use super::segment::Segment;
use super::stream::{Piece, Stream};

/// What a peer has got comes into a capture this much later, in packets of the connection or in time, or never.
const EARLY: usize = 32;
const EARLY_FOR: Duration = Duration::from_millis(200);
/// More of one direction is not held for what is missing in front of it, in bytes and in pieces.
const HELD: usize = 1 << 20;

/// A connection of which packets are in the capture.
#[derive(Debug)]
pub(super) struct Flow {
    ends: Ends,
    streams: [Stream; 2],
    /// Segments that acknowledge what is not there yet.
    early: VecDeque<Segment>,
    /// When the SYN came; none: the capture begins later.
    syn: Option<Timestamp>,
    syn_ack: bool,
    /// The sequence number of the SYN, by which another connection of the same ports is told from it.
    pub(super) isn: Option<u32>,
    follow: Option<Box<Follow>>,
    /// Only counted, for its beginning is not in the capture.
    late: bool,
    expected: Expected,
    report: Connection,
    /// The first FIN or RST.
    end: Option<(Sender, &'static str, Place)>,
    reset_by: Option<Sender>,
    fins: [bool; 2],
}

impl Flow {
    /// A connection whose first packet is `segment`.
    pub(super) fn new(ends: Ends, segment: &Segment, expected: Expected, capture: &Capture) -> Self {
        let first = capture.place(segment.packet, segment.at);
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
            follow: None,
            late: false,
            expected,
            report,
            end: None,
            reset_by: None,
            fins: [false; 2],
        }
    }

    /// Its beginning is not in the capture.
    pub(super) fn start_late(&mut self) {
        self.late = true;
    }

    /// Nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.reset_by.is_some() || self.fins == [true, true]
    }

    /// What it carries, once that is known.
    pub(super) fn protocol(&self) -> Option<&'static str> {
        let known = |protocol: &&str| *protocol != Protocol::Unknown.label();
        self.follow.as_ref().map(|follow| follow.report.protocol).filter(known)
    }

    /// A PROXY header came.
    pub(super) fn has_header(&self) -> bool {
        self.follow.as_ref().is_some_and(|follow| !follow.report.proxy_headers.is_empty())
    }

    /// How much memory takes what waits for other packets, in bytes.
    pub(super) fn held(&self) -> usize {
        let early = self.early.iter().map(|segment| segment.bytes.len().saturating_add(size_of::<Segment>()));
        self.streams.iter().map(|stream| stream.held).chain(early).fold(0, usize::saturating_add)
    }

    /// How much memory it takes, about and at most, in bytes.
    pub(super) fn memory(&self) -> usize {
        let follow = self.follow.as_ref().map_or(0, |follow| follow.memory());
        [size_of::<Self>(), self.held(), follow].into_iter().fold(0, usize::saturating_add)
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

    /// Takes its next packet in the capture.
    pub(super) fn packet(&mut self, segment: Segment, capture: &Capture) {
        if self.is_ahead(&segment) {
            let oldest = self.early.front().map_or(segment.at, |oldest| oldest.at);
            let for_long = segment.at.since(oldest) >= EARLY_FOR;
            self.early.push_back(segment);
            if for_long || self.early.len() > EARLY {
                self.give_up(capture);
            }
            return;
        }
        self.accept(&segment, capture);
        while let Some(segment) = self.ready() {
            self.accept(&segment, capture);
        }
        if Sender::ALL.iter().any(|sender| self.stream(*sender).held > HELD) {
            self.give_up(capture);
        }
    }

    /// The first of the early segments that are not early any more.
    fn ready(&mut self) -> Option<Segment> {
        for index in 0..self.early.len() {
            let segment = self.early.get(index)?.clone();
            if !self.is_ahead(&segment) {
                return self.early.remove(index);
            }
        }
        None
    }

    /// It acknowledges what is not there.
    fn is_ahead(&mut self, segment: &Segment) -> bool {
        let other = other(self.sender(segment.from));
        let is_ahead = |ack| self.stream(other).behind(ack).is_some();
        !segment.syn && segment.ack.is_some_and(is_ahead)
    }

    /// What is missing so far will not come.
    pub(super) fn give_up(&mut self, capture: &Capture) {
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
        let place = capture.place(segment.packet, segment.at);
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
            self.reset(sender, place, capture);
            return;
        }
        self.stream(sender).push(segment);
        self.drain(sender, segment.at, capture);
        if segment.fin {
            self.end.get_or_insert((sender, "fin", place));
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

    /// The first packet behind the SYNs: the connection is open.
    fn open(&mut self, segment: &Segment, sender: Sender, capture: &Capture) {
        if self.follow.is_some() || segment.rst {
            return;
        }
        if sender == Sender::Client && self.syn_ack {
            self.report.tcp_handshake_us = self.syn.map(|syn| micros(segment.at.since(syn)));
        }
        let mut follow = Follow::new(self.ends, self.expected, segment.at, capture);
        follow.report.first = self.report.first;
        self.follow = Some(Box::new(follow));
    }

    fn drain(&mut self, sender: Sender, now: Timestamp, capture: &Capture) {
        // A SYN may bring data, too.
        if self.follow.is_none() {
            return;
        }
        while let Some(piece) = self.stream(sender).pop(now) {
            self.deliver(sender, piece, capture);
        }
        if self.stream(sender).take_end() {
            if let Some(fin) = self.fins.get_mut(sender as usize) {
                *fin = true;
            }
            if let Some(follow) = self.follow.as_mut().filter(|_| !self.late) {
                follow.end_of(sender, now, capture);
            }
        }
    }

    fn deliver(&mut self, sender: Sender, piece: Piece, capture: &Capture) {
        let Some(follow) = &mut self.follow else { return };
        if self.late {
            let bytes = follow.report.counts.bytes.of(sender);
            *bytes = bytes.saturating_add(piece.len as u64);
            follow.report.opaque.get_or_insert_with(|| Opaque {
                reason: OpaqueReason::LateStart.label(),
                place: capture.place(piece.packet, piece.at),
                lost_bytes: false,
                detail: None,
            });
        } else {
            follow.data(sender, piece, capture);
        }
    }

    fn reset(&mut self, sender: Sender, place: Place, capture: &Capture) {
        self.give_up(capture);
        self.end.get_or_insert((sender, "rst", place));
        self.reset_by.get_or_insert(sender);
    }

    /// All that can be told of it. `replaced`: another connection of the same ports begins.
    pub(super) fn finish(mut self, replaced: Option<Place>, capture: &Capture) -> Connection {
        self.give_up(capture);
        let now = capture.now;
        let is_open = self.end.is_none() && replaced.is_none();
        let mut unanswered = Vec::new();
        let mut phase = None;
        let mut quit = false;
        let mut report = self.report;
        if let Some(mut follow) = self.follow {
            if self.late {
                follow.report.protocol = self.expected.label();
                phase = Some(Phase::Opaque);
            } else {
                unanswered = follow.finish(now, is_open, capture);
                phase = follow.phase;
                quit = follow.report.counts.commands.contains_key("quit");
            }
            let Connection { client, server, tcp_handshake_us, .. } = report;
            report = Connection { client, server, tcp_handshake_us, ..follow.report };
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
        let end = self.end.map(|(by, how, place)| (Some(by.label()), how, place));
        let end = end.or(replaced.map(|place| (None, "replaced", place)));
        report.end = end.map(|(by, how, place)| End { by, how, place, quit, phase, unanswered, reset_by });
        report
    }
}

fn other(sender: Sender) -> Sender {
    match sender {
        Sender::Client => Sender::Server,
        Sender::Server => Sender::Client,
    }
}
