//! Receives the PROXY header that the client sends first.
//!
//! | bytes so far               | `receive` off | trusted           | not trusted, `close` | not trusted, `strip` |
//! |----------------------------|---------------|-------------------|----------------------|----------------------|
//! | start of a signature       | held          | held              | held                 | held                 |
//! | start of a header          | closed        | held              | closed: untrusted    | held                 |
//! | header                     | closed        | removed, believed | closed: untrusted    | removed              |
//! | malformed header           | closed        | closed: malformed | closed: untrusted    | closed: malformed    |
//! | no header, `optional`      | forwarded     | forwarded         | forwarded            | forwarded            |
//! | no header, `required`      |               | closed: missing   | closed: missing      | closed: missing      |
//! | no decision in time        |               | closed: timeout   | closed: timeout      | closed: timeout      |
//!
//! Held bytes stay in the host's buffer and are delivered again with the next ones. They are parsed from the start each
//! time, so no copy can get out of step.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::connection::chunk::{Chunk, TickVerdict};
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::Stage;
use crate::connection::stages::proxy_header::{Believed, refuse};
use crate::event::output::Output;
use crate::event::refusal::RefusalReason;
use crate::event::{Event, HeaderResult};
use crate::proxy_protocol::{Format, Header, MAX_V2_LEN, Probe, probe};
use crate::rules::{Need, ReceiveRules, Rules, Untrusted};

/// Maximum time for which bytes are held if no rule sets one: the minimum that the specification allows (section 2).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// First bytes of one client.
#[derive(Debug)]
pub(in crate::connection) struct HeaderReceiver {
    /// `None` if no header may be received. A header that arrives is then refused.
    rules: Option<ReceiveRules>,
    /// True if a header is sent to the server, because it can repeat the addresses of the believed header.
    is_needed_later: bool,
    state: State,
    /// Time from which on the stage waits for a header. `None` if it does not wait.
    waits_since: Option<Timestamp>,
    believed: Option<Believed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not known if there is a header. Once the format is known, a decision needs `needs` bytes.
    Start { needs: usize, held: usize, format: Option<Format> },
    /// The header was received, or there is no header.
    Decided,
    /// The connection is refused.
    Refused,
}

impl Stage for HeaderReceiver {
    fn new(rules: &Rules, opened: Timestamp) -> Option<Self> {
        let state = State::Start { needs: 0, held: 0, format: None };
        let headers = rules.proxy_header?;
        let mut stage = Self {
            rules: headers.receive,
            is_needed_later: headers.send.is_some(),
            state,
            waits_since: None,
            believed: None,
        };
        // Some senders send the header directly before the client's first bytes, which follow the greeting.
        let after_greeting = rules.expected.is_server_first() && !stage.connects_late();
        stage.waits_since = (stage.is_required() && !after_greeting).then_some(opened);
        Some(stage)
    }

    /// Takes a chunk, which begins with the bytes that were held.
    fn client_before<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        match self.state {
            State::Decided => Flow::Continue,
            State::Refused => Flow::Close,
            // There are too few bytes to decide. Before the signature is complete, each byte can show that there is no
            // header.
            State::Start { needs, format: Some(_), .. } if rewrite.len() < needs && !end_stream => {
                self.hold(rewrite.len(), out)
            }
            State::Start { .. } => match rewrite.bytes() {
                Some(bytes) => match self.start(&bytes, end_stream, out) {
                    Ok(len) => {
                        rewrite.strip(len);
                        Flow::Continue
                    }
                    Err(flow) => flow,
                },
                None => self.refuse(HeaderResult::Malformed, None, RefusalReason::Unreadable, out),
            },
        }
    }

    /// Starts the time-out of a required header, because the server speaks.
    fn server_before<C: Chunk>(&mut self, _: &mut Rewrite<C>, out: &mut Output) -> Flow {
        if self.is_required() && matches!(self.state, State::Start { .. }) {
            self.waits_since.get_or_insert_with(|| out.clock.now());
        }
        Flow::Continue
    }

    /// True if a header has not arrived in time.
    fn is_due(&self, now: Timestamp) -> bool {
        let timeout = self.rules.map_or(DEFAULT_TIMEOUT, |rules| rules.timeout);
        self.waits_since.is_some_and(|since| now.since(since) >= timeout)
    }

    /// Refuses the connection if no header has arrived in time.
    fn tick(&mut self, now: Timestamp, out: &mut Output) -> TickVerdict {
        if !self.is_due(now) {
            return TickVerdict::Continue;
        }
        let (held, format) = match self.state {
            State::Start { held, format, .. } => (held, format),
            State::Decided | State::Refused => (0, None),
        };
        let why = RefusalReason::Timeout { held, connected: !self.connects_late() };
        self.refuse(HeaderResult::Timeout, format, why, out);
        TickVerdict::Close
    }

    fn held(&self) -> usize {
        match self.state {
            State::Start { held, .. } => held,
            State::Decided | State::Refused => 0,
        }
    }

    fn holds_connection(&self) -> bool {
        self.connects_late() && matches!(self.state, State::Start { .. })
    }

    fn is_over(&self) -> bool {
        self.state == State::Decided && !self.is_needed_later
    }

    fn is_final(&self) -> bool {
        self.state == State::Refused
    }
}

impl HeaderReceiver {
    fn connects_late(&self) -> bool {
        self.rules.is_some_and(|rules| rules.need == Need::BeforeConnect)
    }

    fn is_required(&self) -> bool {
        self.rules.is_some_and(|rules| rules.need != Need::Optional)
    }

    fn closes_untrusted(&self) -> bool {
        self.rules.is_some_and(|rules| !rules.trusted && rules.untrusted == Untrusted::Close)
    }

    /// Header of the client. `None` if the client sent no header, or if it is not believed.
    pub(in crate::connection) fn believed(&self) -> Option<Believed> {
        self.believed
    }

    /// Takes the end of the need for the header, because the server has got its own, or gets none.
    pub(in crate::connection) fn forget(&mut self) {
        self.is_needed_later = false;
    }

    /// Returns the length of the header at the start of `bytes`, which is 0 without a header, or the decision that ends the
    /// list.
    fn start(&mut self, bytes: &[u8], end_stream: bool, out: &mut Output) -> Result<usize, Flow> {
        let max = self.rules.map_or(MAX_V2_LEN, |rules| rules.max_header_bytes);
        let probe = probe(bytes, max);
        let format = match &probe {
            Probe::Complete { header, .. } => Some(header.format),
            Probe::Malformed(error) => Some(error.format),
            Probe::Incomplete { format, .. } => *format,
            Probe::NoHeader => None,
        };
        // The bytes after the signature do not matter.
        if format.is_some() && self.rules.is_none() {
            return Err(self.refuse(HeaderResult::Malformed, format, RefusalReason::Unexpected, out));
        }
        if format.is_some() && self.closes_untrusted() {
            return Err(self.refuse(HeaderResult::Untrusted, format, RefusalReason::Untrusted, out));
        }
        match probe {
            Probe::Complete { header, len } => {
                self.accept(&header, out);
                Ok(len)
            }
            Probe::Malformed(error) => {
                Err(self.refuse(HeaderResult::Malformed, format, RefusalReason::Malformed(error), out))
            }
            Probe::Incomplete { format: Some(_), .. } if end_stream => {
                Err(self.refuse(HeaderResult::Malformed, format, RefusalReason::Truncated, out))
            }
            Probe::Incomplete { needs, .. } if !end_stream && !bytes.is_empty() => {
                self.state = State::Start { needs, held: bytes.len(), format };
                Err(self.hold(bytes.len(), out))
            }
            Probe::Incomplete { .. } | Probe::NoHeader => self.no_header(bytes, end_stream, out).map(|()| 0),
        }
    }

    fn accept(&mut self, header: &Header, out: &mut Output) {
        let is_believed = self.rules.is_some_and(|rules| rules.trusted);
        if is_believed {
            let endpoints = header.endpoints();
            out.details.source = endpoints.map(|endpoints| endpoints.source);
            self.believed = Some(Believed { endpoints });
        }
        let result = if is_believed { HeaderResult::Stripped } else { HeaderResult::Untrusted };
        out.events.push(Event::ProxyHeader { format: Some(header.format), result });
        self.decide();
    }

    fn no_header(&mut self, bytes: &[u8], end_stream: bool, out: &mut Output) -> Result<(), Flow> {
        match (bytes.is_empty(), end_stream) {
            // A client that closes without a byte is a health check, and is not reported.
            (true, true) if self.is_required() => {
                self.state = State::Refused;
                Err(Flow::Close)
            }
            (true, false) if self.holds_connection() => Err(Flow::Hold),
            (true, _) => Ok(()),
            (false, _) if self.is_required() => {
                Err(self.refuse(HeaderResult::Missing, None, RefusalReason::Missing, out))
            }
            (false, _) => {
                self.decide();
                Ok(())
            }
        }
    }

    fn hold(&mut self, len: usize, out: &mut Output) -> Flow {
        if let State::Start { held, .. } = &mut self.state {
            *held = len;
        }
        self.waits_since.get_or_insert_with(|| out.clock.now());
        Flow::Hold
    }

    fn decide(&mut self) {
        self.state = State::Decided;
        self.waits_since = None;
    }

    fn refuse(
        &mut self,
        result: HeaderResult,
        format: Option<Format>,
        why: RefusalReason,
        out: &mut Output,
    ) -> Flow {
        self.state = State::Refused;
        self.waits_since = None;
        refuse(result, format, why, out)
    }
}
