//! What the server sends: looked at, and then changed or held where a rule says so.

use super::chunk::{Chunk, Verdict, whole};
use super::{Connection, State};
use crate::config::HoldSplitEof;
use crate::connection::stages::hold_split_eof::Hold;
use crate::event::output::Output;
use crate::event::{Event, Sender};

impl Connection {
    /// Takes what the server sent.
    pub(super) fn server(&mut self, chunk: &impl Chunk, end_stream: bool, out: &mut Output) -> Verdict {
        let watches = self.front.as_ref().is_some_and(|front| front.watches_server());
        let read = (watches || self.clearing.is_some()).then(|| whole(chunk)).flatten();
        if let Some(front) = &mut self.front {
            front.server_speaks(out);
            front.server(read.as_deref().unwrap_or_default());
        }
        match &read {
            Some(bytes) => self.take(Sender::Server, bytes, out),
            None => self.take(Sender::Server, chunk, out),
        }
        if let Some(verdict) = self.replace_lost(chunk) {
            self.clearing = None;
            return verdict;
        }
        if let Some(mut clearing) = self.clearing.take() {
            let verdict = clearing.server(read.as_deref().unwrap_or_default());
            if clearing.take_cleared_tls() {
                out.events.push(Event::TlsCleared);
            }
            // What cannot be read is not the greeting any more, or none that can be told.
            if !clearing.is_over() && read.is_some() && !matches!(self.state, State::Opaque { .. }) {
                self.clearing = Some(clearing);
            }
            return verdict;
        }
        if let (true, State::Mysql(mysql)) = (self.block_local_infile, &self.state) {
            if let Some((start, error)) = mysql.refused_request() {
                self.is_cut = true;
                return self.held.replace(chunk, start, &error);
            }
        }
        let hold = if end_stream { None } else { self.hold() };
        let bytes = hold.map_or(0, |hold| chunk.len().saturating_sub(hold.from));
        if bytes > out.room {
            // What is held cannot be given back at once, so it must fit before it is held.
            self.end_for_memory(Sender::Server, out.events);
            if let Some(verdict) = self.replace_lost(chunk) {
                return verdict;
            }
            return self.held.server(chunk, None, out.events);
        }
        self.held.server(chunk, hold, out.events)
    }

    /// What of the server's chunk is held.
    fn hold(&self) -> Option<Hold> {
        let State::Mysql(mysql) = &self.state else { return None };
        let holds_split_eof = || match self.hold_split_eof {
            HoldSplitEof::Off => false,
            HoldSplitEof::AffectedClients => mysql.session.is_suspect(),
            HoldSplitEof::Always => true,
        };
        if let Some(from) = mysql.incomplete_tail().filter(|_| holds_split_eof()) {
            return Some(Hold { from, is_split_eof: true });
        }
        let request = self.block_local_infile.then(|| mysql.incomplete_request()).flatten();
        request.map(|from| Hold { from, is_split_eof: false })
    }
}
