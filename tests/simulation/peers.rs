//! The two peers of a connection, and what reaches each.

use std::net::SocketAddr;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::config::Mode;
use firstword::connection::chunk::Edit;
use firstword::event::{ClosedBy, Direction, Sender};
use firstword::filter::Filter;
use firstword::filter::host::{ConnectionInfo, Host as _};
use firstword::filter::mode::PublishedMode;
use firstword::filter::stream::Stream;
use firstword_testing::fake_host::FakeHost;
use firstword_testing::link::Verdict;
use firstword_testing::random::Random;

use crate::rule::Kind;
use crate::script::{Counts, Step, add, script};

/// The bytes of one side.
#[derive(Debug, Default)]
struct Side {
    sent: Vec<u8>,
    delivered: Vec<u8>,
}

/// A connection, with what its peers still have to send.
pub(crate) struct Peers {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) host: FakeHost,
    stream: Stream,
    opened: Timestamp,
    /// The PROXY header that the client sends first; may be empty.
    header: Vec<u8>,
    /// The PROXY header that the rule sends.
    sent_header: Vec<u8>,
    is_trusted: bool,
    /// The client's bytes without its header, and the server's bytes.
    client: Side,
    server: Side,
    /// The client's bytes that the proxy keeps for the filter.
    held: Vec<u8>,
    steps: std::vec::IntoIter<Step>,
    /// The bytes of the current step that are not sent yet.
    rest: Option<(Step, usize)>,
    /// What the steps count whose bytes have all arrived, and also the steps of which a part has.
    pub(crate) at_least: Counts,
    pub(crate) at_most: Counts,
    /// True if inspection may end early, so that nothing more need be counted.
    may_stop_counting: bool,
    /// True if a side sends bytes that are no packets.
    is_hostile: bool,
    /// True if the filter, a peer or the proxy has ended it.
    pub(crate) is_closed: bool,
    was_closed_by_filter: bool,
    /// True if the filter knows that it has ended.
    has_ended: bool,
    /// True if a rule may change bytes.
    has_active_rule: bool,
}

impl Peers {
    pub(crate) fn open(
        filter: &Filter,
        kind: Kind,
        port: u16,
        time: std::time::Duration,
        random: &mut Random,
    ) -> Self {
        let is_trusted = random.below(3) > 0;
        let peer = if is_trusted { "10.0.0.9:4000" } else { "192.0.2.9:4000" };
        let sends_header = kind == Kind::Receive && random.below(2) == 0;
        let header: &[u8] =
            if sends_header { b"PROXY TCP4 203.0.113.7 203.0.113.8 5000 3306\r\n" } else { b"" };
        let destination = SocketAddr::from(([10, 0, 0, 5], port));
        let client = peer.split(':').next().unwrap_or_default();
        let mut host = FakeHost::default();
        host.time.set(time);
        host.peer = peer.parse().ok();
        let info = ConnectionInfo { direction: Direction::Outbound, destination: Some(destination) };
        let stream = Stream::open(filter, info, &host).unwrap_or_else(|_| panic!("the budget has room"));
        let mode = filter.mode();
        Self {
            kind,
            port,
            stream,
            opened: host.now(),
            header: header.to_vec(),
            sent_header: format!("PROXY TCP4 {client} 10.0.0.5 4000 {port}\r\n").into_bytes(),
            is_trusted,
            client: Side::default(),
            server: Side::default(),
            held: Vec::new(),
            steps: script(random).into_iter(),
            rest: None,
            at_least: Counts::default(),
            at_most: Counts::default(),
            // A header that no rule removes is not MySQL.
            may_stop_counting: mode == Mode::Off || (mode == Mode::Observe && !header.is_empty()),
            is_hostile: false,
            is_closed: false,
            was_closed_by_filter: false,
            has_ended: false,
            has_active_rule: mode == Mode::Active,
            host,
        }
    }

    /// Sends the next piece of the session. Returns false if there is none.
    pub(crate) fn advance(&mut self, filter: &Filter, random: &mut Random) -> bool {
        let next = self.rest.take().or_else(|| self.steps.next().map(|step| (step, 0)));
        let Some((mut step, from)) = next else { return false };
        if from == 0 {
            add(&mut self.at_most, &step);
            if step.sender == Sender::Client && self.client.sent.is_empty() {
                step.bytes.splice(..0, self.header.iter().copied());
            }
        }
        let left = step.bytes.len() - from;
        let count = match random.below(3) {
            0 => 1 + random.below(left.min(8)),
            1 => 1 + random.below(left),
            _ => left,
        };
        let bytes = step.bytes[from..from + count].to_vec();
        let sender = step.sender;
        if from + count < step.bytes.len() {
            self.rest = Some((step, from + count));
        } else if !self.may_stop_counting {
            add(&mut self.at_least, &step);
        }
        self.pass(filter, sender, &bytes);
        true
    }

    /// Sends bytes that are no packets in place of what the session would send.
    pub(crate) fn send_garbage(&mut self, filter: &Filter, random: &mut Random) {
        let sender = [Sender::Client, Sender::Server][random.below(2)];
        if sender == Sender::Client && self.client.sent.is_empty() {
            return;
        }
        self.may_stop_counting = true;
        self.is_hostile = true;
        let bytes: Vec<u8> = (0..1 + random.below(300)).map(|_| random.next() as u8).collect();
        self.pass(filter, sender, &bytes);
    }

    fn pass(&mut self, filter: &Filter, sender: Sender, bytes: &[u8]) {
        let held = if sender == Sender::Client { std::mem::take(&mut self.held) } else { Vec::new() };
        let offered = [held.as_slice(), bytes].concat();
        let chunk = Bytes::copy_from_slice(&offered);
        let verdict: Verdict = match sender {
            Sender::Client => self.stream.client(filter, &chunk, false, &self.host),
            Sender::Server => self.stream.server(filter, &chunk, false, &self.host).into(),
        };
        let side = if sender == Sender::Client { &mut self.client } else { &mut self.server };
        side.sent.extend_from_slice(bytes);
        match verdict {
            Verdict::Pass => side.delivered.extend(offered),
            Verdict::Edit(Edit { drain, prepend }) => {
                side.delivered.extend(prepend);
                side.delivered.extend_from_slice(&offered[drain..]);
            }
            Verdict::Hold => self.held = offered,
            Verdict::Close => self.end_by_filter(),
            other => panic!("no rule of the simulation leads to {other:?}"),
        }
        self.apply_calls();
        self.check();
    }

    fn end_by_filter(&mut self) {
        assert_ne!(self.kind, Kind::Plain, "the filter closed a connection whose rule protects nothing");
        assert!(self.has_active_rule, "the filter closed a connection without an active rule");
        self.is_closed = true;
        self.was_closed_by_filter = true;
    }

    /// Does what the filter asked the proxy for.
    fn apply_calls(&mut self) {
        for call in self.host.take_calls() {
            match call {
                "resume" => self.client.delivered.append(&mut self.held),
                "close" => self.end_by_filter(),
                _ => {}
            }
        }
    }

    /// A tick, at which `newest` is the mode of the newest configuration.
    pub(crate) fn tick(&mut self, filter: &Filter, newest: Option<PublishedMode>) {
        let Some(due) = self.stream.due(filter, self.host.now(), newest) else { return };
        let keeps_header = self.client.sent.is_empty() || !self.held.is_empty();
        self.may_stop_counting |= newest.is_some_and(|newest| match newest.mode {
            Mode::Active => false,
            Mode::Observe => keeps_header && !self.header.is_empty(),
            Mode::Off => true,
        });
        self.stream.tick(filter, due, &self.host);
        self.apply_calls();
        if self.may_not_hold(newest) {
            assert!(self.held.is_empty(), "{:?}: bytes are held in a mode that holds none", self.kind);
        }
        self.check();
    }

    /// Whether a newer configuration has ended all rules of the connection.
    fn may_not_hold(&self, newest: Option<PublishedMode>) -> bool {
        newest.is_some_and(|newest| newest.mode != Mode::Active && self.opened < newest.since)
    }

    /// Ends the connection, as by a reset.
    pub(crate) fn close(&mut self, filter: &Filter, by: ClosedBy) {
        self.host.closed_by = by;
        self.stream.close(filter, &self.host);
        self.is_closed = true;
        self.has_ended = true;
        self.check();
    }

    /// What may reach the server.
    fn to_server(&self) -> [Vec<u8>; 2] {
        let (header, bytes) = self.client.sent.split_at(self.header.len().min(self.client.sent.len()));
        self.kind.to_server(header, &self.sent_header, self.is_trusted, bytes)
    }

    /// What reached each side is what the rule says.
    fn check(&self) {
        self.check_side("the server", &self.client, &self.to_server());
        // A protecting rule may answer a hostile server by an error of its own.
        if !(self.is_hostile && self.kind == Kind::Protect) {
            let to_client = self.kind.to_client(&self.server.sent);
            self.check_side("the client", &self.server, &to_client);
        }
    }

    fn check_side(&self, whom: &str, side: &Side, allowed: &[Vec<u8>]) {
        let first = if self.has_active_rule { 0 } else { allowed.len().saturating_sub(1) };
        let allowed = &allowed[first..];
        let found = &side.delivered;
        let is_prefix = allowed.iter().any(|allowed| allowed.starts_with(found));
        assert!(is_prefix, "{:?}: wrong bytes reached {whom}", self.kind);
        if !self.kind.may_hold() || !self.has_active_rule {
            assert_eq!(found.len(), side.sent.len(), "{:?}: bytes for {whom} are held or lost", self.kind);
        }
    }

    /// Whether the filter ended it, and does not know yet that it has ended.
    pub(crate) fn ends_by_filter(&self) -> bool {
        self.was_closed_by_filter && !self.has_ended
    }

    /// The session is complete: everything has reached the other side.
    pub(crate) fn assert_complete(&self) {
        if self.is_hostile || self.was_closed_by_filter {
            return;
        }
        assert!(
            self.client.sent.is_empty() || self.to_server().contains(&self.client.delivered),
            "{:?}: bytes for the server are lost",
            self.kind
        );
        let to_client = self.kind.to_client(&self.server.sent);
        assert!(to_client.contains(&self.server.delivered), "{:?}: bytes for the client are lost", self.kind);
    }

    /// Bytes of a side that count, if the rule changes none of them.
    pub(crate) fn counted_bytes(&self) -> Option<[i64; 2]> {
        let is_exact = matches!(self.kind, Kind::Plain) || (!self.has_active_rule);
        is_exact.then_some([self.client.sent.len() as i64, self.server.sent.len() as i64])
    }
}
