//! Plays the host of a connection, and asserts what must be true of it after each step.

use std::time::Duration;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::chunk::{Edit, TickVerdict};
use firstword::event::{ClosedBy, Event, Sender};
use firstword::proxy_protocol::{MAX_V2_LEN, Probe, probe};
use firstword::rules::{ClearCapabilities, HoldSplitEof};

use crate::heap;
use crate::invariants::{assert_balanced, byte_count};
use crate::link::{Link, Verdict, WatchedChunk};
use crate::plan::{Action, BEGIN, Plan, Step};

/// Maximum number of bytes that a connection may hold on the heap: 1024 commands that were sent ahead, and the kept parts of
/// packets and of prepared statements.
const MAX_HEAP: isize = 192 << 10;
/// Maximum number of the server's bytes that are held: the end of a response to COM_STMT_PREPARE. A vector that grows has
/// room for as many again.
const MAX_HELD: usize = 64 << 10;
/// Length of the longer signature, that of version 2.
const SIGNATURE: usize = 12;
/// Maximum number of events of an input of 16 KiB, also byte by byte.
const MAX_EVENTS: usize = 1 << 16;

/// One direction.
#[derive(Default)]
struct Direction {
    arrived: Vec<u8>,
    left: Vec<u8>,
    /// Number of the last bytes in `arrived` that the host holds.
    held: usize,
    has_ended: bool,
    /// Number of bytes that were inspected.
    inspected: usize,
}

pub struct Driver<'a> {
    plan: &'a Plan,
    link: Link,
    directions: [Direction; 2],
    /// Number of bytes that the connection holds on the heap.
    heap: isize,
    /// True if no rule changes bytes any more.
    is_inert: bool,
    is_closed: bool,
    is_opaque: bool,
    /// True if a file request was blocked.
    is_blocked: bool,
    /// True if the error that replaces a blocked request has left. Nothing passes after it.
    has_refused: bool,
    /// Number of the server's bytes that lost a flag.
    cleared: usize,
    /// Length of the header that was removed from the client's bytes.
    stripped: usize,
    /// Length of the header that was sent to the server.
    sent: usize,
}

impl<'a> Driver<'a> {
    /// Runs a plan, with its chunks in pieces of this many bytes. Returns all events of the connection.
    pub fn run(plan: &'a Plan, piece: usize) -> Vec<Event> {
        let before = heap::held();
        let link = Link::new(&plan.rules, BEGIN);
        let mut driver = Driver {
            plan,
            link,
            directions: Default::default(),
            heap: heap::held() - before,
            is_inert: false,
            is_closed: false,
            is_opaque: false,
            is_blocked: false,
            has_refused: false,
            cleared: 0,
            stripped: 0,
            sent: 0,
        };
        driver.link.events.reserve(MAX_EVENTS);
        for step in &plan.steps {
            driver.step(step, piece);
            if driver.is_closed {
                break;
            }
        }
        driver.end()
    }

    fn step(&mut self, step: &Step, piece: usize) {
        self.link.now = Timestamp::from_nanos(self.link.now.nanos() + nanos(step.after));
        match &step.action {
            Action::Data { sender, bytes, end_stream, is_readable } => {
                if bytes.is_empty() && *end_stream {
                    self.data(*sender, &[], true, *is_readable);
                }
                let pieces = bytes.chunks(piece);
                let last = pieces.len();
                for (part, index) in pieces.zip(1..) {
                    self.data(*sender, part, *end_stream && index == last, *is_readable);
                }
            }
            Action::Tick => self.tick(),
            Action::DisableRewriting => {
                self.disable_rewriting();
                self.tick();
            }
            Action::Off => {
                self.measure(|link| link.call(|connection, out| connection.stop_inspecting(out)));
                self.disable_rewriting();
                self.tick();
            }
        }
    }

    /// Makes a call, and counts the bytes that the connection keeps on the heap.
    fn measure<T>(&mut self, call: impl FnOnce(&mut Link) -> T) -> T {
        let before = heap::held();
        let result = call(&mut self.link);
        self.heap += heap::held() - before;
        assert!(self.link.events.len() <= MAX_EVENTS, "the list of events has grown");
        result
    }

    fn data(&mut self, sender: Sender, bytes: &[u8], end_stream: bool, is_readable: bool) {
        let direction = &mut self.directions[sender as usize];
        let is_early = sender == Sender::Server && self.link.connection.holds_connection();
        if direction.has_ended || is_early || self.is_closed {
            return;
        }
        direction.has_ended = end_stream;
        direction.arrived.extend_from_slice(bytes);
        let held = std::mem::take(&mut direction.held);
        let start = direction.arrived.len() - bytes.len() - held;
        let offered = direction.arrived[start..].to_vec();
        let (was_opaque, emitted) = (self.is_opaque, self.link.events.len());
        let (verdict, was_read) = self.measure(|link| {
            let chunk = WatchedChunk::new(Bytes::copy_from_slice(&offered), is_readable);
            (link.chunk(sender, &chunk, end_stream), chunk.was_read.get())
        });
        let mut lost_protection = false;
        for event in &self.link.events[emitted..] {
            self.is_opaque |= matches!(event, Event::Opaque(_));
            self.is_blocked |= *event == Event::LocalInfileBlocked;
            lost_protection |= matches!(event, Event::ProtectionLost(_));
        }
        if let Verdict::Edit(edit) = &verdict {
            // These bytes belong to the host now.
            self.heap -= edit.prepend.capacity() as isize;
        }
        let held = self.held_of_server();
        assert!(self.heap <= MAX_HEAP + 2 * held as isize, "{} bytes on the heap", self.heap);
        if self.plan.is_plain() {
            assert_eq!(verdict, Verdict::Pass);
            assert!(!(was_opaque && was_read), "read though opaque");
        }
        if lost_protection {
            let inspected = byte_count(&self.link.events[emitted..], sender);
            self.check_lost_protection(sender, &offered, verdict, inspected as usize);
            return;
        }
        match sender {
            Sender::Client => self.check_client(&offered, verdict, end_stream, is_readable),
            Sender::Server => self.check_server(&offered, verdict),
        }
    }

    /// Checks the verdict about the bytes that make it impossible to judge file requests: the client gets what precedes them
    /// and at most an error, and the server gets nothing.
    fn check_lost_protection(&mut self, sender: Sender, offered: &[u8], verdict: Verdict, inspected: usize) {
        assert!(self.plan.rules.block_local_infile);
        self.has_refused = true;
        let direction = &mut self.directions[sender as usize];
        direction.inspected += inspected;
        let Verdict::Edit(Edit { drain, prepend }) = verdict else {
            panic!("passes without protection: {verdict:?}")
        };
        assert_eq!(drain, offered.len());
        match sender {
            Sender::Client => assert_eq!(prepend, b""),
            Sender::Server => direction.left.extend_from_slice(&prepend),
        }
    }

    /// Number of the server's bytes that the connection holds.
    fn held_of_server(&self) -> usize {
        let server = &self.directions[Sender::Server as usize];
        if self.has_refused { 0 } else { server.arrived.len().saturating_sub(server.left.len()) }
    }

    /// Applies a verdict about the client's bytes, and checks it.
    fn check_client(&mut self, offered: &[u8], verdict: Verdict, end_stream: bool, is_readable: bool) {
        let rules = self.plan.rules.proxy_header.filter(|_| !self.is_inert);
        let direction = &mut self.directions[Sender::Client as usize];
        match verdict {
            _ if self.has_refused => {
                let nothing = Edit { drain: offered.len(), prepend: Vec::new() };
                let expected = if offered.is_empty() { Verdict::Pass } else { Verdict::Edit(nothing) };
                assert_eq!(verdict, expected);
                return;
            }
            Verdict::Pass => {
                direction.inspected += offered.len();
                direction.left.extend_from_slice(offered);
            }
            Verdict::Hold => {
                let rules = rules.expect("a rule about PROXY headers");
                let max = rules.receive.map_or(SIGNATURE, |receive| receive.max_header_bytes);
                assert!(!end_stream && offered.len() < max, "{} bytes held", offered.len());
                let may_be_header = !is_readable || !matches!(probe(offered, max), Probe::NoHeader);
                assert!(
                    may_be_header || offered.is_empty(),
                    "held bytes that are no header: {}",
                    offered.escape_ascii()
                );
                direction.held = offered.len();
            }
            Verdict::Edit(Edit { drain, prepend }) => {
                let rules = rules.expect("a rule about PROXY headers");
                assert!(direction.left.is_empty(), "changed after the first bytes");
                if drain > 0 {
                    assert!(rules.receive.is_some() && self.stripped == 0);
                    assert_header(&offered[..drain]);
                    self.stripped = drain;
                }
                if !prepend.is_empty() {
                    assert!(rules.send.is_some());
                    assert_header(&prepend);
                    self.sent = prepend.len();
                }
                direction.inspected += offered.len() - drain;
                direction.left = [&prepend, &offered[drain..]].concat();
            }
            Verdict::Close => {
                rules.expect("a rule about PROXY headers");
                self.is_closed = true;
            }
            other => panic!("no rule of the plan leads to {other:?}"),
        }
        // The client's own header never reaches the server.
        if rules.is_some() && self.stripped == 0 && direction.left.len() > self.sent {
            let own = probe(&direction.left[self.sent..], MAX_V2_LEN);
            assert!(matches!(own, Probe::NoHeader | Probe::Incomplete { format: None, .. }), "{own:?}");
        }
    }

    /// Applies a verdict about the server's bytes, and checks it.
    fn check_server(&mut self, offered: &[u8], verdict: Verdict) {
        let rules = &self.plan.rules;
        let direction = &mut self.directions[Sender::Server as usize];
        let at = direction.left.len();
        match verdict {
            Verdict::Pass => direction.left.extend_from_slice(offered),
            Verdict::Edit(Edit { drain, prepend }) => {
                direction.left.extend_from_slice(&prepend);
                direction.left.extend_from_slice(&offered[drain..]);
            }
            verdict => panic!("for the server: {verdict:?}"),
        }
        if self.has_refused {
            assert_eq!(direction.left.len(), at, "passed after a blocked request");
            return;
        }
        direction.inspected += offered.len();
        let fresh = &direction.left[at..];
        let unchanged =
            direction.arrived[at..].iter().zip(fresh).take_while(|(before, after)| before == after).count();
        let clears = rules.clear_capabilities != ClearCapabilities::default();
        if self.is_blocked {
            assert!(rules.block_local_infile);
            let error = &fresh[unchanged..];
            assert!(error.len() > 4 && error[4] == 0xff, "an ERR packet: {}", error.escape_ascii());
            self.has_refused = true;
            return;
        }
        if clears {
            let changed = direction.arrived[at..].iter().zip(fresh).filter(|(before, after)| before != after);
            for (before, after) in changed {
                self.cleared += 1;
                assert!(self.cleared <= 4 && after & !before == 0, "{before:#x} became {after:#x}");
            }
        } else {
            assert_eq!(unchanged, fresh.len(), "changed bytes");
        }
        let held = direction.arrived.len() - direction.left.len();
        let holds = rules.hold_split_eof != HoldSplitEof::Off || rules.block_local_infile;
        let max = if holds && !direction.has_ended { MAX_HELD } else { 0 };
        assert!(held <= max, "{held} bytes held");
    }

    fn tick(&mut self) {
        let now = self.link.now;
        if self.is_closed || !self.link.connection.is_due(now) {
            return;
        }
        let verdict = self.measure(|link| link.tick(now));
        let changes = self.has_refused || self.plan.rules.proxy_header.is_some();
        assert!(verdict == TickVerdict::Continue || changes);
        assert!(!self.has_refused || verdict == TickVerdict::Close);
        self.is_closed = verdict == TickVerdict::Close;
    }

    fn disable_rewriting(&mut self) {
        self.is_inert = true;
        let holds_connection = self.link.connection.holds_connection();
        let resumes = self.measure(|link| link.call(|connection, out| connection.disable_rewriting(out)));
        let direction = &mut self.directions[Sender::Client as usize];
        assert_eq!(resumes, direction.held > 0 || holds_connection);
        let held = direction.arrived.len() - std::mem::take(&mut direction.held)..;
        direction.left.extend_from_slice(&direction.arrived[held]);
    }

    fn end(mut self) -> Vec<Event> {
        self.measure(|link| link.close(ClosedBy::Proxy));
        let [client, server] = &self.directions;
        for (sender, direction) in Sender::ALL.iter().zip([client, server]) {
            assert_eq!(
                byte_count(&self.link.events, *sender),
                direction.inspected as u64,
                "bytes of the {sender:?}"
            );
        }
        if !self.has_refused && !self.is_closed {
            let own = client.arrived.len() - client.held;
            assert_eq!(client.left[self.sent..], client.arrived[self.stripped..own], "of the client");
        }
        assert_balanced(&self.link.events);
        self.link.events
    }
}

fn assert_header(bytes: &[u8]) {
    let is_one = matches!(probe(bytes, MAX_V2_LEN), Probe::Complete { len, .. } if len == bytes.len());
    assert!(is_one, "no header: {}", bytes.escape_ascii());
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
