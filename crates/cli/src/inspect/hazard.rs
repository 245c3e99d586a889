//! Hazards: causes that make connections hang or fail, or that can do so.

use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::event::{ClientFirst, ClosedBy, Event, HazardKind, Phase, Sender};
use firstword::mysql::peer::bug_106252::AffectedClient;
use firstword::mysql::wire::command::Command;
use firstword::rules::Expected;

use super::capture::{Capture, micros};
use super::conversation::Conversation;
use super::report::{self, Hazard, PacketLocation, Severity, Split};
use super::stream::Piece;

/// Maximum number of hazards that are listed for one connection.
const MAX_LISTED: usize = 20;
/// Time without a greeting after which the silence of a server is a hazard.
const MIN_SILENCE: Duration = Duration::from_secs(1);

const SPLIT_FIX: &str = "Connector/J 8.0.32 or newer, or \"mysql\": {\"hold_split_eof\": \"affected_clients\"} in the \
                         rule of this destination, in the proxy next to the client";
const SILENCE_FIX: &str = "let no listener filter or proxy between them wait for the client's first bytes; where the \
                           server waits for a PROXY header, send it one; firstword doctor finds which";

impl Conversation {
    fn add_hazard(&mut self, hazard: Hazard) -> Option<usize> {
        report::add(&mut self.report.hazard_counts, hazard.code, 1);
        self.report.worst = self.report.worst.max(Some(hazard.severity));
        let index = self.report.hazards.len();
        (index < MAX_LISTED).then(|| self.report.hazards.push(hazard)).map(|()| index)
    }

    fn simple(
        &mut self,
        severity: Severity,
        code: &'static str,
        location: PacketLocation,
        why: String,
        fix: Option<&'static str>,
    ) {
        self.add_hazard(Hazard { severity, code, location, why, fix, split: None });
    }

    /// Adds the hazard of an event, if it is one.
    pub(super) fn hazard(&mut self, event: &Event, location: PacketLocation, at: Timestamp) {
        match *event {
            Event::PrepareEofSplit { passed } => {
                let split = Split {
                    eof_bytes: passed,
                    rest_packet: None,
                    rest_after_us: None,
                    client_went_on_packet: None,
                };
                let why = format!(
                    "of the 9 bytes of the EOF that ends the answer to COM_STMT_PREPARE, {passed} came with the column \
                     definitions in front of it and {} later",
                    9_u8.saturating_sub(passed)
                );
                let (severity, code, fix) = (Severity::Warning, "prepare_eof_split", Some(SPLIT_FIX));
                let hazard = Hazard { severity, code, location, why, fix, split: Some(split) };
                self.split = Some((self.add_hazard(hazard), at));
            }
            Event::EofHazardClient(client) => self.affected_client(client, location),
            Event::ClientFirst(seen)
                if self.expected == Expected::Mysql
                    && !matches!(seen, ClientFirst::ProxyV1 | ClientFirst::ProxyV2) =>
            {
                let why = format!("the client spoke first ({}), where MySQL servers do", seen.label());
                self.simple(Severity::Error, "client_first", location, why, None);
            }
            Event::LocalInfile => {
                let why = "the server asked for a file of the client's (LOCAL INFILE)".to_owned();
                self.simple(Severity::Info, "local_infile", location, why, None);
            }
            // The capture does not show that a proxy ended the connection.
            Event::IdleClosed { by: ClosedBy::Proxy, .. } => {}
            _ => {
                if let Some(kind) = HazardKind::of(event) {
                    let (cause, fix) = kind.advice();
                    let is_refused =
                        matches!(event, Event::PreHandshakeError { .. } | Event::HandshakeError { .. });
                    let severity = if is_refused { Severity::Error } else { Severity::Warning };
                    self.simple(severity, kind.label(), location, cause.to_owned(), Some(fix));
                } else if let Event::PreHandshakeError { errno } = event {
                    let why = format!("the server sent error {errno} instead of a greeting");
                    self.simple(Severity::Error, "refused", location, why, None);
                } else if let Event::ServerNotice { errno } = event {
                    let why = format!("the server sent error {errno}, which answers no command");
                    self.simple(Severity::Info, "server_notice", location, why, None);
                }
            }
        }
    }

    /// Adds the hazard of a client that hangs on a split EOF.
    fn affected_client(&mut self, client: AffectedClient, location: PacketLocation) {
        let client = match client {
            AffectedClient::ConnectorJ([major, minor, patch]) => {
                format!("the client is MySQL Connector/J {major}.{minor}.{patch}")
            }
            AffectedClient::Unnamed => {
                "the client may be MySQL Connector/J 6.0.4 to 8.0.31; the server takes no connection attributes"
                    .to_owned()
            }
        };
        let why = format!(
            "{client}: it hangs with useServerPrepStmts or useCursorFetch where the last EOF of an answer to \
             COM_STMT_PREPARE comes late (MySQL Bug#106252)"
        );
        self.simple(Severity::Warning, "split_eof", location, why, Some(SPLIT_FIX));
    }

    /// Adds the hazards of the PROXY headers from this index on.
    pub(super) fn headers_found(&mut self, from: usize) {
        for index in from..self.report.proxy_headers.len() {
            let Some(header) = self.report.proxy_headers.get(index) else { return };
            let (location, problem) = (header.location, header.problem.clone());
            if let Some(problem) = problem {
                self.simple(Severity::Error, "malformed_proxy_header", location, problem, None);
            } else if index > 0 {
                let why = "a further PROXY header: servers that accept it believe the last one".to_owned();
                self.simple(Severity::Warning, "second_proxy_header", location, why, None);
            }
        }
    }

    /// The newest split EOF; `None` if it is not listed or if its rest has arrived.
    fn pending_split(&mut self) -> Option<&mut Hazard> {
        let (index, _) = self.split?;
        self.report.hazards.get_mut(index?)
    }

    /// Notes that the client sent a command.
    pub(super) fn went_on(&mut self, sender: Sender, location: PacketLocation) {
        if sender != Sender::Client || self.split.is_none() {
            return;
        }
        self.report.worst = Some(Severity::Error);
        if let Some(hazard) = self.pending_split() {
            hazard.severity = Severity::Error;
            if let Some(split) = &mut hazard.split {
                split.client_went_on_packet.get_or_insert(location.packet);
            }
        }
    }

    /// Notes that the response to `command` is complete.
    pub(super) fn prepared(&mut self, command: Command, piece: &Piece) {
        let Some((_, since)) = self.split.filter(|_| command == Command::STMT_PREPARE) else { return };
        if let Some(split) = self.pending_split().and_then(|hazard| hazard.split.as_mut()) {
            split.rest_packet = Some(piece.packet);
            split.rest_after_us = Some(micros(piece.at.since(since)));
        }
        self.split = None;
    }

    /// Whether the client went on before an EOF was complete, and has sent nothing since a response arrived. It may take the
    /// late bytes for the header of that response, and wait for its end.
    pub(super) fn is_struck_by_split(&self) -> bool {
        let went_on = |hazard: &Hazard| hazard.split.as_ref()?.client_went_on_packet;
        let last = self.report.hazards.iter().filter_map(went_on).next_back();
        let client = self.last.first().copied().flatten();
        last.zip(client).is_some_and(|(went_on, (client, _))| client.packet <= went_on)
    }

    /// Adds a hazard if the server has sent nothing until the end of the connection or of the capture.
    pub(super) fn silence(&mut self, at: Timestamp, capture: &Capture) {
        let silent = at.since(self.opened);
        let is_server_first = self.expected == Expected::Mysql;
        let is_silent = self.last.get(Sender::Server as usize).is_none_or(Option::is_none);
        if self.phase == Some(Phase::Greeting) && is_silent && is_server_first && silent >= MIN_SILENCE {
            let why = format!("the server had said nothing for {} s", silent.as_secs());
            let location =
                PacketLocation { packet: self.report.first.packet, at_us: capture.at_us(self.opened) };
            self.simple(Severity::Error, "no_greeting", location, why, Some(SILENCE_FIX));
        }
    }
}
