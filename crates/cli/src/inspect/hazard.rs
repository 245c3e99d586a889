//! What makes connections hang or fail, or may.

use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::event::{ClientFirst, ClosedBy, Event, HazardKind, Phase, Sender};
use firstword::mysql::peer::bug_106252::AffectedClient;
use firstword::mysql::wire::command::Command;
use firstword::rules::Expected;

use super::Capture;
use super::follow::{Follow, micros};
use super::report::{self, Hazard, Place, Severity, Split};
use super::stream::Piece;

/// So many of one connection are listed.
const LISTED: usize = 20;
/// A server that has not greeted for so long may be waited for in vain.
const SILENCE: Duration = Duration::from_secs(1);

const SPLIT_FIX: &str = "Connector/J 8.0.32 or newer, or \"mysql\": {\"hold_split_eof\": \"affected_clients\"} in the \
                         rule of this destination, in the proxy next to the client";
const SILENCE_FIX: &str = "let no listener filter or proxy between them wait for the client's first bytes; where the \
                           server waits for a PROXY header, send it one; firstword doctor finds which";

impl Follow {
    fn add_hazard(&mut self, hazard: Hazard) -> Option<usize> {
        report::add(&mut self.report.hazard_counts, hazard.code, 1);
        self.report.worst = self.report.worst.max(Some(hazard.severity));
        let index = self.report.hazards.len();
        (index < LISTED).then(|| self.report.hazards.push(hazard)).map(|()| index)
    }

    fn simple(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        why: String,
        fix: Option<&'static str>,
    ) {
        self.add_hazard(Hazard { severity, code, place, why, fix, split: None });
    }

    /// What of an event is one.
    pub(super) fn hazard(&mut self, event: &Event, place: Place, at: Timestamp) {
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
                let hazard = Hazard { severity, code, place, why, fix, split: Some(split) };
                self.split = Some((self.add_hazard(hazard), at));
            }
            Event::EofHazardClient(suspect) => {
                let client = match suspect {
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
                self.simple(Severity::Warning, "split_eof", place, why, Some(SPLIT_FIX));
            }
            Event::ClientFirst(seen)
                if self.expected == Expected::Mysql
                    && !matches!(seen, ClientFirst::ProxyV1 | ClientFirst::ProxyV2) =>
            {
                let why = format!("the client spoke first ({}), where MySQL servers do", seen.label());
                self.simple(Severity::Error, "client_first", place, why, None);
            }
            Event::LocalInfile => {
                let why = "the server asked for a file of the client's (LOCAL INFILE)".to_owned();
                self.simple(Severity::Info, "local_infile", place, why, None);
            }
            // That nobody in the capture ended a connection says nothing of a proxy.
            Event::IdleClosed { by: ClosedBy::Proxy, .. } => {}
            _ => {
                if let Some((kind, (cause, fix))) =
                    HazardKind::of(event).and_then(|kind| Some((kind, kind.advice()?)))
                {
                    let is_refused =
                        matches!(event, Event::PreHandshakeError { .. } | Event::HandshakeError { .. });
                    let severity = if is_refused { Severity::Error } else { Severity::Warning };
                    self.simple(severity, kind.label(), place, cause.to_owned(), Some(fix));
                } else if let Event::PreHandshakeError { errno } = event {
                    let why = format!("the server sent error {errno} instead of a greeting");
                    self.simple(Severity::Error, "refused", place, why, None);
                } else if let Event::ServerNotice { errno } = event {
                    let why = format!("the server sent error {errno}, which answers no command");
                    self.simple(Severity::Info, "server_notice", place, why, None);
                }
            }
        }
    }

    /// Headers from the one of this number on are new.
    pub(super) fn headers_found(&mut self, from: usize) {
        for index in from..self.report.proxy_headers.len() {
            let Some(header) = self.report.proxy_headers.get(index) else { return };
            let (place, problem) = (header.place, header.problem.clone());
            if let Some(problem) = problem {
                self.simple(Severity::Error, "malformed_proxy_header", place, problem, None);
            } else if index > 0 {
                let why = "a further PROXY header: servers that accept it believe the last one".to_owned();
                self.simple(Severity::Warning, "second_proxy_header", place, why, None);
            }
        }
    }

    /// The newest split, if it is listed and its rest has not come.
    fn pending_split(&mut self) -> Option<&mut Hazard> {
        let (index, _) = self.split?;
        self.report.hazards.get_mut(index?)
    }

    /// The client sent a command.
    pub(super) fn went_on(&mut self, sender: Sender, place: Place) {
        if sender != Sender::Client || self.split.is_none() {
            return;
        }
        self.report.worst = Some(Severity::Error);
        if let Some(hazard) = self.pending_split() {
            hazard.severity = Severity::Error;
            if let Some(split) = &mut hazard.split {
                split.client_went_on_packet.get_or_insert(place.packet);
            }
        }
    }

    /// The answer to `command` is complete.
    pub(super) fn prepared(&mut self, command: Command, piece: &Piece) {
        let Some((_, since)) = self.split.filter(|_| command == Command::STMT_PREPARE) else { return };
        if let Some(split) = self.pending_split().and_then(|hazard| hazard.split.as_mut()) {
            split.rest_packet = Some(piece.packet);
            split.rest_after_us = Some(micros(piece.at.since(since)));
        }
        self.split = None;
    }

    /// The client went on before an EOF was complete, and has said nothing since an answer came: it may take the late
    /// bytes for the beginning of that answer, and wait for the end they promise.
    pub(super) fn is_struck_by_split(&self) -> bool {
        let went_on = |hazard: &Hazard| hazard.split.as_ref()?.client_went_on_packet;
        let last = self.report.hazards.iter().filter_map(went_on).next_back();
        let client = self.last.first().copied().flatten();
        last.zip(client).is_some_and(|(went_on, (client, _))| client.packet <= went_on)
    }

    /// The connection, or the capture, is at its end: has the server never spoken?
    pub(super) fn silence(&mut self, at: Timestamp, capture: &Capture) {
        let silent = at.since(self.opened);
        let is_server_first = self.expected == Expected::Mysql;
        let is_silent = self.last.get(Sender::Server as usize).is_none_or(Option::is_none);
        if self.phase == Some(Phase::Greeting) && is_silent && is_server_first && silent >= SILENCE {
            let why = format!("the server had said nothing for {} s", silent.as_secs());
            let place = Place { packet: self.report.first.packet, at_us: capture.at_us(self.opened) };
            self.simple(Severity::Error, "no_greeting", place, why, Some(SILENCE_FIX));
        }
    }
}
