//! Does with a connection what the host does, and holds what must be true of it after each step.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::Connection;
use firstword::connection::chunk::{Chunk, Edit, TickVerdict};
use firstword::event::output::Output;
use firstword::event::{ClosedBy, Event, Sender};
use firstword::proxy_protocol::{MAX_V2_LEN, Probe, probe};
use firstword::rules::{ClearCapabilities, HoldSplitEof};

use crate::balance::{balanced, bytes_told};
use crate::heap;
use crate::link::{Link, Verdict};
use crate::plan::{BEGIN, Plan, Step, What};

/// What a connection may hold: 1024 commands sent ahead, what is kept of packets and of prepared statements.
const MOST_HEAP: isize = 192 << 10;
/// So many bytes of the server may wait, the end of an answer to COM_STMT_PREPARE; a vector that grows has room for as much
/// again.
const MOST_WAITING: usize = 64 << 10;
/// The binary signature is longer than the other one.
const SIGNATURE: usize = 12;
/// No input of 16 KiB tells more events, also byte by byte.
const EVENTS: usize = 1 << 16;

/// A chunk that knows whether it was read.
struct Watched {
    bytes: Bytes,
    readable: bool,
    read: Cell<bool>,
}

impl Chunk for Watched {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        self.read.set(true);
        self.bytes.read(start, max).filter(|_| self.readable)
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    come: Vec<u8>,
    gone: Vec<u8>,
    /// So many of the bytes that came the host still has.
    held: usize,
    has_ended: bool,
    /// So many bytes were inspected.
    inspected: usize,
}

pub struct Driver<'a> {
    plan: &'a Plan,
    link: Link,
    ways: [Way; 2],
    /// On the heap, by the connection.
    heap: isize,
    /// No rule changes bytes any more.
    is_inert: bool,
    is_closed: bool,
    is_opaque: bool,
    /// A request for a file was blocked, and the error has taken its place: nothing passes any more.
    is_blocked: bool,
    is_cut: bool,
    /// So many bytes of the server lost a flag.
    cleared: usize,
    /// Of the client's bytes, so many were a header that was removed.
    stripped: usize,
    /// Of the bytes to the server, so many are a header that was sent.
    sent: usize,
}

impl<'a> Driver<'a> {
    /// All that the connection tells in its life, whose chunks come in pieces of so many bytes.
    pub fn run(plan: &'a Plan, piece: usize) -> Vec<Event> {
        let before = heap::held();
        let link = Link::new(&plan.rules, BEGIN);
        let mut driver = Driver {
            plan,
            link,
            ways: Default::default(),
            heap: heap::held() - before,
            is_inert: false,
            is_closed: false,
            is_opaque: false,
            is_blocked: false,
            is_cut: false,
            cleared: 0,
            stripped: 0,
            sent: 0,
        };
        driver.link.events.reserve(EVENTS);
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
        match &step.what {
            What::Data { sender, bytes, end_stream, readable } => {
                if bytes.is_empty() && *end_stream {
                    self.data(*sender, &[], true, *readable);
                }
                let pieces = bytes.chunks(piece);
                let last = pieces.len();
                for (part, index) in pieces.zip(1..) {
                    self.data(*sender, part, *end_stream && index == last, *readable);
                }
            }
            What::Tick => self.tick(),
            What::Inert => {
                self.inert();
                self.tick();
            }
            What::Off => {
                self.measured(|connection, out| connection.stop_inspecting(out));
                self.inert();
                self.tick();
            }
        }
    }

    /// Calls the connection, and counts what it keeps on the heap.
    fn measured<T>(&mut self, call: impl FnOnce(&mut Connection, &mut Output) -> T) -> T {
        let before = heap::held();
        let answer = self.link.call(call);
        self.heap += heap::held() - before;
        assert!(self.link.events.len() <= EVENTS, "more events than there was room for");
        answer
    }

    fn data(&mut self, sender: Sender, bytes: &[u8], end_stream: bool, readable: bool) {
        let way = &mut self.ways[sender as usize];
        let not_yet = sender == Sender::Server && self.link.connection.holds_connection();
        if way.has_ended || not_yet || self.is_closed {
            return;
        }
        way.has_ended = end_stream;
        way.come.extend_from_slice(bytes);
        let held = std::mem::take(&mut way.held);
        let handed = way.come.len() - bytes.len() - held..;
        let offered = way.come[handed].to_vec();
        let (is_opaque, told) = (self.is_opaque, self.link.events.len());
        let (verdict, read) = self.measured(|connection, out| {
            let bytes = Bytes::copy_from_slice(&offered);
            let chunk = Watched { bytes, readable, read: Cell::new(false) };
            let verdict = match sender {
                Sender::Client => Verdict::from(connection.client(&chunk, end_stream, out)),
                Sender::Server => Verdict::from(connection.server(&chunk, end_stream, out)),
            };
            (verdict, chunk.read.get())
        });
        for event in &self.link.events[told..] {
            self.is_opaque |= matches!(event, Event::Opaque(_));
            self.is_blocked |= *event == Event::LocalInfileBlocked;
        }
        if let Verdict::Edit(edit) = &verdict {
            // It is the host's now.
            self.heap -= edit.prepend.capacity() as isize;
        }
        let waiting = self.ways[Sender::Server as usize].waiting(self.is_cut);
        assert!(self.heap <= MOST_HEAP + 2 * waiting as isize, "{} bytes on the heap", self.heap);
        if self.plan.is_plain() {
            assert_eq!(verdict, Verdict::Pass);
            assert!(!(is_opaque && read), "read though opaque");
        }
        match sender {
            Sender::Client => self.client_went_on(&offered, verdict, end_stream, readable),
            Sender::Server => self.server_went_on(&offered, verdict),
        }
    }

    /// What the client's bytes became.
    fn client_went_on(&mut self, offered: &[u8], verdict: Verdict, end_stream: bool, readable: bool) {
        let front = self.plan.rules.proxy_header.filter(|_| !self.is_inert);
        let way = &mut self.ways[Sender::Client as usize];
        match verdict {
            _ if self.is_cut => {
                let nothing = Edit { drain: offered.len(), prepend: Vec::new() };
                let expected = if offered.is_empty() { Verdict::Pass } else { Verdict::Edit(nothing) };
                assert_eq!(verdict, expected);
                return;
            }
            Verdict::Pass => {
                way.inspected += offered.len();
                way.gone.extend_from_slice(offered);
            }
            Verdict::Hold => {
                let front = front.expect("a rule about PROXY headers");
                let most = front.receive.map_or(SIGNATURE, |receive| receive.max_header_bytes);
                assert!(!end_stream && offered.len() < most, "{} bytes held", offered.len());
                let is_header = !readable || !matches!(probe(offered, most), Probe::NoHeader);
                assert!(is_header || offered.is_empty(), "no header is held: {}", offered.escape_ascii());
                way.held = offered.len();
            }
            Verdict::Edit(Edit { drain, prepend }) => {
                let front = front.expect("a rule about PROXY headers");
                assert!(way.gone.is_empty(), "changed in the middle");
                if drain > 0 {
                    assert!(front.receive.is_some() && self.stripped == 0);
                    is_header(&offered[..drain]);
                    self.stripped = drain;
                }
                if !prepend.is_empty() {
                    assert!(front.send.is_some());
                    is_header(&prepend);
                    self.sent = prepend.len();
                }
                way.inspected += offered.len() - drain;
                way.gone = [&prepend, &offered[drain..]].concat();
            }
            Verdict::Close => {
                front.expect("a rule about PROXY headers");
                self.is_closed = true;
            }
        }
        // The client's own header never reaches the server.
        if front.is_some() && self.stripped == 0 && way.gone.len() > self.sent {
            let own = probe(&way.gone[self.sent..], MAX_V2_LEN);
            assert!(matches!(own, Probe::NoHeader | Probe::Incomplete { format: None, .. }), "{own:?}");
        }
    }

    /// What the server's bytes became.
    fn server_went_on(&mut self, offered: &[u8], verdict: Verdict) {
        let rules = &self.plan.rules;
        let way = &mut self.ways[Sender::Server as usize];
        let at = way.gone.len();
        match verdict {
            Verdict::Pass => way.gone.extend_from_slice(offered),
            Verdict::Edit(Edit { drain, prepend }) => {
                way.gone.extend_from_slice(&prepend);
                way.gone.extend_from_slice(&offered[drain..]);
            }
            verdict => panic!("of the server: {verdict:?}"),
        }
        if self.is_cut {
            assert_eq!(way.gone.len(), at, "passed behind a request that was blocked");
            return;
        }
        way.inspected += offered.len();
        let fresh = &way.gone[at..];
        let as_come = way.come[at..].iter().zip(fresh).take_while(|(come, gone)| come == gone).count();
        let clears = rules.clear_capabilities != ClearCapabilities::default();
        if self.is_blocked {
            assert!(rules.block_local_infile);
            let error = &fresh[as_come..];
            assert!(error.len() > 4 && error[4] == 0xff, "an ERR packet: {}", error.escape_ascii());
            self.is_cut = true;
            return;
        }
        if clears {
            let changed = way.come[at..].iter().zip(fresh).filter(|(come, gone)| come != gone);
            for (come, gone) in changed {
                self.cleared += 1;
                assert!(self.cleared <= 4 && gone & !come == 0, "{come:#x} became {gone:#x}");
            }
        } else {
            assert_eq!(as_come, fresh.len(), "other bytes than came");
        }
        let waiting = way.come.len() - way.gone.len();
        let holds = rules.hold_split_eof != HoldSplitEof::Off || rules.block_local_infile;
        let most = if holds && !way.has_ended { MOST_WAITING } else { 0 };
        assert!(waiting <= most, "{waiting} bytes wait");
    }

    fn tick(&mut self) {
        let now = self.link.now;
        if self.is_closed || !self.link.connection.is_due(now) {
            return;
        }
        let verdict = self.measured(|connection, out| connection.tick(now, out));
        let changes = self.is_cut || self.plan.rules.proxy_header.is_some();
        assert!(verdict == TickVerdict::Continue || changes);
        assert!(!self.is_cut || verdict == TickVerdict::Close);
        self.is_closed = verdict == TickVerdict::Close;
    }

    fn inert(&mut self) {
        self.is_inert = true;
        let waits = self.link.connection.holds_connection();
        let goes_on = self.measured(|connection, out| connection.disable_rewriting(out));
        let way = &mut self.ways[Sender::Client as usize];
        assert_eq!(goes_on, way.held > 0 || waits);
        let held = way.come.len() - std::mem::take(&mut way.held)..;
        way.gone.extend_from_slice(&way.come[held]);
    }

    fn end(mut self) -> Vec<Event> {
        self.measured(|connection, out| connection.close(|| ClosedBy::Proxy, out));
        let [client, server] = &self.ways;
        for (sender, way) in Sender::ALL.iter().zip([client, server]) {
            assert_eq!(
                bytes_told(&self.link.events, *sender),
                way.inspected as u64,
                "bytes of the {sender:?}"
            );
        }
        if !self.is_cut && !self.is_closed {
            let own = client.come.len() - client.held;
            assert_eq!(client.gone[self.sent..], client.come[self.stripped..own], "of the client");
        }
        balanced(&self.link.events);
        self.link.events
    }
}

impl Way {
    fn waiting(&self, is_cut: bool) -> usize {
        if is_cut { 0 } else { self.come.len().saturating_sub(self.gone.len()) }
    }
}

fn is_header(bytes: &[u8]) {
    let is_one = matches!(probe(bytes, MAX_V2_LEN), Probe::Complete { len, .. } if len == bytes.len());
    assert!(is_one, "no header: {}", bytes.escape_ascii());
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
