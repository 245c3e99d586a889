//! What stands in front of a connection: the PROXY header that the client sends and the one that the server gets.
//!
//! | bytes so far               | `receive` off | trusted           | not trusted, `close` | not trusted, `strip` |
//! |----------------------------|---------------|-------------------|----------------------|----------------------|
//! | a signature's beginning    | held          | held              | held                 | held                 |
//! | a header's beginning       | closed        | held              | closed: untrusted    | held                 |
//! | a header                   | closed        | removed, believed | closed: untrusted    | removed              |
//! | a malformed header         | closed        | closed: malformed | closed: untrusted    | closed: malformed    |
//! | none, `optional`           | pass          | pass              | pass                 | pass                 |
//! | none, `required`           |               | closed: missing   | closed: missing      | closed: missing      |
//! | held, or none, for too long|               | closed: timeout   | closed: timeout      | closed: timeout      |
//!
//! Then [`Guard`] sees to it that no further one follows, until the server has decided about the client.
//!
//! Held bytes stay with the host, which gives them again with those that follow; so all is read anew each time, and
//! nothing is kept that could disagree.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::{Need, Untrusted};
use crate::connection::stages::proxy_header::guard::{Guard, Watch};
use crate::connection::stages::proxy_header::refusal::{Refusal, Why};
use crate::connection::{Edit, Verdict};
use crate::event::output::Output;
use crate::event::{Event, HeaderResult};
use crate::proxy_protocol::{Endpoints, Format, Header, MAX_V2_LEN, Probe, encode, probe};

/// What a rule says about PROXY headers, for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontRules {
    /// Headers from the client; none: not one is received.
    pub receive: Option<ReceiveRules>,
    /// The header to the server; none: it gets none.
    pub send: Option<SendRules>,
    /// The server is expected to speak before the client.
    pub server_first: bool,
}

/// How headers from the client are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRules {
    /// Whether there must be one.
    pub need: Need,
    /// The client's address is one of those whose headers are believed.
    pub trusted: bool,
    /// What becomes of a header that is not believed.
    pub untrusted: Untrusted,
    /// How long it may take.
    pub timeout: Duration,
    /// How long it may be, in bytes.
    pub max_header_bytes: usize,
}

/// What header the server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRules {
    /// Its format.
    pub format: Format,
    /// None if the client sent one that was believed.
    pub only_unless_received: bool,
    /// The ends of the client's connection; none where the host does not know them.
    pub endpoints: Option<Endpoints>,
}

/// The state of what stands in front of one connection.
#[derive(Debug)]
pub(in crate::connection) struct Front {
    rules: FrontRules,
    stage: Stage,
    /// Since when something is overdue that has not come; none: nothing is.
    waits_since: Option<Timestamp>,
    /// What the client's first own bytes are to be preceded by.
    to_send: Option<SendRules>,
    guard: Option<Guard>,
    source: Option<SocketAddr>,
    /// See [`Front::take_refusal`].
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Whether there is a header is not known; once its format is, `needs` bytes may tell.
    Start {
        needs: usize,
        held: usize,
        format: Option<Format>,
    },
    /// It is known.
    Decided,
    Closed,
}

/// How long bytes wait where no rule for receiving says so: the least that the specification allows (section 2).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

impl FrontRules {
    fn connects_late(&self) -> bool {
        self.receive.is_some_and(|receive| receive.need == Need::BeforeConnect)
    }
}

impl Front {
    pub(in crate::connection) fn new(rules: FrontRules, opened: Timestamp) -> Self {
        let mut front = Self {
            rules,
            stage: Stage::Start { needs: 0, held: 0, format: None },
            waits_since: None,
            to_send: rules.send,
            guard: Some(Guard::new()),
            source: None,
            refusal: None,
        };
        // Some senders put the header in front of the client's first bytes, and those follow the greeting.
        let after_greeting = rules.server_first && !rules.connects_late();
        front.waits_since = (front.is_required() && !after_greeting).then_some(opened);
        front
    }

    /// The server is not to be connected to before [`Front::client`] says anything but [`Verdict::Hold`].
    pub(in crate::connection) fn holds_connection(&self) -> bool {
        self.rules.connects_late() && matches!(self.stage, Stage::Start { .. })
    }

    /// How many bytes of the client wait.
    pub(in crate::connection) fn held(&self) -> usize {
        match self.stage {
            Stage::Start { held, .. } => held,
            Stage::Decided | Stage::Closed => 0,
        }
    }

    /// Memory in bytes, its own included.
    pub(in crate::connection) fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(self.guard.as_ref().map_or(0, |_| Guard::MAX_MEMORY))
    }

    /// There is nothing left to do.
    pub(in crate::connection) fn is_done(&self) -> bool {
        self.stage == Stage::Decided && self.to_send.is_none() && self.guard.is_none()
    }

    /// The connection is to be closed.
    pub(in crate::connection) fn has_refused(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Where the client really connected from, by a header that is believed.
    pub(in crate::connection) fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// Why the connection ends, once.
    pub(in crate::connection) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    pub(in crate::connection) fn is_overdue(&self, now: Timestamp) -> bool {
        let timeout = self.rules.receive.map_or(DEFAULT_TIMEOUT, |receive| receive.timeout);
        self.waits_since.is_some_and(|since| now.since(since) >= timeout)
    }

    /// What is overdue does not come any more.
    pub(in crate::connection) fn time_out(&mut self, events: &mut Vec<Event>) {
        let (held, format) = match self.stage {
            Stage::Start { held, format, .. } => (held, format),
            Stage::Decided | Stage::Closed => (0, None),
        };
        let why = Why::Timeout { held, connected: !self.rules.connects_late() };
        self.refuse(HeaderResult::Timeout, format, why, events);
    }

    /// The server speaks.
    pub(in crate::connection) fn server_speaks(&mut self, out: &mut Output) {
        if self.is_required() && matches!(self.stage, Stage::Start { .. }) {
            self.waits_since.get_or_insert_with(|| out.clock.now());
        }
    }

    /// The server's bytes have to be told to [`Front::server`].
    pub(in crate::connection) fn watches_server(&self) -> bool {
        self.guard.is_some()
    }

    /// Takes the server's bytes.
    pub(in crate::connection) fn server(&mut self, bytes: &[u8]) {
        if self.guard.as_mut().is_some_and(|guard| guard.server_bytes(bytes) == Watch::IsOver) {
            self.guard = None;
        }
    }

    /// The client's bytes so far, `len` of them, are too few to say more than before: they wait, unread. Where not even the
    /// signature is complete, the next byte may say that there is none.
    pub(in crate::connection) fn holds_unread(&mut self, len: usize, out: &mut Output) -> bool {
        let waits = matches!(self.stage, Stage::Start { needs, format: Some(_), .. } if len < needs);
        if waits {
            self.hold(len, out);
        }
        waits
    }

    /// The client spoke; `bytes` begin with what was held.
    pub(in crate::connection) fn client(
        &mut self,
        bytes: &[u8],
        end_stream: bool,
        out: &mut Output,
    ) -> Verdict {
        let drain = match self.stage {
            Stage::Start { .. } => match self.start(bytes, end_stream, out) {
                Ok(drain) => drain,
                Err(outcome) => return outcome,
            },
            Stage::Decided => 0,
            Stage::Closed => return Verdict::Close,
        };
        let own = bytes.get(drain..).unwrap_or_default();
        if let Some(guard) = &mut self.guard {
            match guard.client_bytes(own) {
                Watch::GoesOn => {}
                Watch::IsOver => self.guard = None,
                Watch::Header(format) => {
                    return self.refuse(HeaderResult::Malformed, Some(format), Why::Late, out.events);
                }
            }
        }
        let mut prepend = Vec::new();
        if !own.is_empty() {
            if let Some(send) = self.to_send.take() {
                prepend = encode(send.format, send.endpoints);
                out.events.push(Event::ProxyHeaderSent(send.format));
            }
        }
        if drain == 0 && prepend.is_empty() { Verdict::Pass } else { Verdict::Edit(Edit { drain, prepend }) }
    }

    /// The first bytes: how many of them are a header, or what becomes of the connection.
    fn start(&mut self, bytes: &[u8], end_stream: bool, out: &mut Output) -> Result<usize, Verdict> {
        let max = self.rules.receive.map_or(MAX_V2_LEN, |receive| receive.max_header_bytes);
        let probe = probe(bytes, max);
        let format = match &probe {
            Probe::Complete { header, .. } => Some(header.format),
            Probe::Malformed(error) => Some(error.format),
            Probe::Incomplete { format, .. } => *format,
            Probe::NoHeader => None,
        };
        // Whatever there is behind such a signature, however much of it came.
        if format.is_some() && self.rules.receive.is_none() {
            return Err(self.refuse(HeaderResult::Malformed, format, Why::Unasked, out.events));
        }
        if format.is_some() && self.closes_untrusted() {
            return Err(self.refuse(HeaderResult::Untrusted, format, Why::Untrusted, out.events));
        }
        match probe {
            Probe::Complete { header, len } => Ok(self.header(&header, len, out.events)),
            Probe::Malformed(error) => {
                Err(self.refuse(HeaderResult::Malformed, format, Why::Malformed(error), out.events))
            }
            Probe::Incomplete { format: Some(_), .. } if end_stream => {
                Err(self.refuse(HeaderResult::Malformed, format, Why::Truncated, out.events))
            }
            Probe::Incomplete { needs, .. } if !end_stream && !bytes.is_empty() => {
                self.stage = Stage::Start { needs, held: bytes.len(), format };
                Err(self.hold(bytes.len(), out))
            }
            Probe::Incomplete { .. } | Probe::NoHeader => self.no_header(bytes, end_stream, out.events),
        }
    }

    /// A header that is not refused, of `len` bytes.
    fn header(&mut self, header: &Header, len: usize, events: &mut Vec<Event>) -> usize {
        let believed = self.rules.receive.is_some_and(|receive| receive.trusted);
        if believed {
            let endpoints = header.endpoints();
            self.source = endpoints.map(|endpoints| endpoints.source);
            if let Some(send) = &mut self.to_send {
                send.endpoints = endpoints.or(send.endpoints);
            }
            self.to_send = self.to_send.filter(|send| !send.only_unless_received);
        }
        let result = if believed { HeaderResult::Stripped } else { HeaderResult::Untrusted };
        events.push(Event::ProxyHeader { format: Some(header.format), result });
        self.decided();
        len
    }

    fn no_header(
        &mut self,
        bytes: &[u8],
        end_stream: bool,
        events: &mut Vec<Event>,
    ) -> Result<usize, Verdict> {
        match (bytes.is_empty(), end_stream) {
            // One who leaves without a word is a health probe, and not told of.
            (true, true) if self.is_required() => {
                self.stage = Stage::Closed;
                Err(Verdict::Close)
            }
            (true, false) if self.holds_connection() => Err(Verdict::Hold),
            (true, _) => Ok(0),
            (false, _) if self.is_required() => {
                Err(self.refuse(HeaderResult::Missing, None, Why::Missing, events))
            }
            (false, _) => {
                self.decided();
                Ok(0)
            }
        }
    }

    fn is_required(&self) -> bool {
        self.rules.receive.is_some_and(|receive| receive.need != Need::Optional)
    }

    fn closes_untrusted(&self) -> bool {
        self.rules.receive.is_some_and(|receive| !receive.trusted && receive.untrusted == Untrusted::Close)
    }

    fn hold(&mut self, len: usize, out: &mut Output) -> Verdict {
        if let Stage::Start { held, .. } = &mut self.stage {
            *held = len;
        }
        self.waits_since.get_or_insert_with(|| out.clock.now());
        Verdict::Hold
    }

    fn decided(&mut self) {
        self.stage = Stage::Decided;
        self.waits_since = None;
    }

    /// The host does not give the client's bytes: whatever they are, they do not pass.
    pub(in crate::connection) fn unreadable(&mut self, out: &mut Output) -> Verdict {
        self.refuse(HeaderResult::Malformed, None, Why::Unreadable, out.events)
    }

    fn refuse(
        &mut self,
        result: HeaderResult,
        format: Option<Format>,
        why: Why,
        events: &mut Vec<Event>,
    ) -> Verdict {
        self.stage = Stage::Closed;
        self.waits_since = None;
        self.refusal = Some(Refusal { result, format, why });
        // Of what never came whole, the version is for the log.
        let format = format.filter(|_| result != HeaderResult::Timeout);
        events.push(Event::ProxyHeader { format, result });
        Verdict::Close
    }
}

#[cfg(test)]
mod tests;
