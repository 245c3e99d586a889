//! Inspection of a MySQL connection: cuts both directions into packets and passes these to the session.

use std::mem::size_of;

use crate::clock::Timestamp;
use crate::connection::inspector::landmarks::{Landmarks, PacketStart};
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, OpaqueReason, Phase, Sender};
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::LOCAL_INFILE;
use crate::proxy_protocol::looks_like_header;
use crate::rules::Inspection;
use crate::session::Session;
use crate::session::options::Options;

#[derive(Debug)]
pub(super) struct MysqlInspector {
    pub(super) session: Session,
    inspection: Inspection,
    client: Framer,
    server: Framer,
    /// First bytes of the client.
    start: [u8; 4],
    start_len: usize,
    prepare_tail: PrepareTail,
    /// Offset of the server's newest packet in the current chunk. 0 if it began in an earlier chunk.
    server_packet: usize,
}

/// End of a COM_STMT_PREPARE response, from the last column definition to the final EOF.
#[derive(Debug, Default)]
struct PrepareTail {
    /// Offset of an incomplete end in the current chunk. `None` if no end is incomplete. 0 if it began in an earlier chunk.
    start: Option<usize>,
    /// True once [`Event::PrepareEofSplit`] was emitted.
    is_reported: bool,
}

impl PrepareTail {
    fn next_chunk(&mut self) {
        self.start = self.start.map(|_| 0);
    }

    /// Takes a packet of the server, or a part of one, that ends at `at` in the chunk. `left`: number of column definitions
    /// still expected before the final EOF. `None` if no such response is in progress. `at_border`: a packet begins at `at`.
    fn advance(&mut self, left: Option<u16>, at_border: bool, at: usize) {
        match left {
            Some(1) if self.start.is_none() && at_border => self.start = Some(at),
            Some(0 | 1) => {}
            _ => *self = Self::default(),
        }
    }

    /// Takes the end of the chunk. `eof_bytes`: number of bytes of the final EOF packet that have arrived. `None` unless only
    /// that packet is incomplete.
    fn chunk_ended(&mut self, eof_bytes: Option<usize>, out: &mut Output) {
        let Some(passed) = eof_bytes.and_then(|passed| u8::try_from(passed).ok()) else { return };
        if self.start.is_some() && !std::mem::replace(&mut self.is_reported, true) {
            out.events.push(Event::PrepareEofSplit { passed });
        }
    }
}

impl MysqlInspector {
    pub(super) fn new(opened: Timestamp, inspection: Inspection, options: Options) -> Self {
        let session = Session::new(opened, options);
        let framer = |sender| Framer::new(session.prefix_len(sender));
        let (client, server) = (framer(Sender::Client), framer(Sender::Server));
        let (start, prepare_tail) = ([0; 4], PrepareTail::default());
        Self { session, inspection, client, server, start, start_len: 0, prepare_tail, server_packet: 0 }
    }

    /// Memory in bytes, including this struct.
    pub(super) fn memory(&self) -> usize {
        let framers = self.client.memory().saturating_add(self.server.memory());
        self.session.memory().saturating_add(framers).saturating_add(size_of::<Self>())
    }

    /// The server's newest packet.
    pub(super) fn last_server_packet(&self) -> PacketStart {
        let (sequence_id, capabilities) = (self.server.sequence_id(), self.session.capabilities());
        PacketStart { at: self.server_packet, sequence_id, capabilities }
    }

    /// Landmarks of the server's chunk that was inspected last.
    pub(super) fn landmarks(&self) -> Landmarks {
        let may_ask = self.server.may_begin_with(LOCAL_INFILE) && self.session.may_request_file();
        let may_hide = !self.server.is_at_boundary() && self.session.can_be_dropped();
        let file_request = self.session.blocked_request();
        Landmarks {
            prepare_tail: self.prepare_tail.start,
            open_packet: (may_ask || may_hide).then_some(self.server_packet),
            file_request: file_request.map(|(sequence_id, capabilities)| PacketStart {
                at: self.server_packet,
                sequence_id,
                capabilities,
            }),
            is_affected_client: self.session.is_affected(),
        }
    }

    fn record_start(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.start.iter_mut().skip(self.start_len).zip(bytes) {
            *slot = *byte;
            self.start_len = self.start_len.saturating_add(1);
        }
    }

    fn framer(&mut self, sender: Sender) -> &mut Framer {
        match sender {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    /// Emits the number of packets of `sender` since the last call.
    pub(super) fn count_packets(&mut self, sender: Sender, out: &mut Output) {
        let count = self.framer(sender).take_count();
        if count > 0 {
            out.events.push(Event::Packets { sender, count });
        }
    }

    /// Number of the next bytes of `sender` that need not be read.
    pub(super) fn skippable(&mut self, sender: Sender) -> usize {
        if self.is_ignored(sender) { usize::MAX } else { self.framer(sender).skippable() }
    }

    /// Takes `n` bytes without reading them, at most [`MysqlInspector::skippable`].
    pub(super) fn skip(&mut self, sender: Sender, n: usize) {
        if !self.is_ignored(sender) {
            self.framer(sender).skip(n);
        }
    }

    fn is_ignored(&self, sender: Sender) -> bool {
        sender == Sender::Server && self.session.observes_requests_only()
    }

    /// Takes the start of a chunk of the server.
    pub(super) fn next_chunk(&mut self) {
        self.prepare_tail.next_chunk();
        self.server_packet = 0;
    }

    /// Takes the end of a chunk of the server.
    pub(super) fn chunk_ended(&mut self, out: &mut Output) {
        let definitions_are_complete = self.session.definitions_left() == Some(0);
        let eof_bytes = self.server.received_len().filter(|_| definitions_are_complete);
        self.prepare_tail.chunk_ended(eof_bytes, out);
    }

    /// Takes bytes that end at `end` in their chunk.
    pub(super) fn inspect(
        &mut self,
        sender: Sender,
        mut input: &[u8],
        end: usize,
        out: &mut Output,
    ) -> Outcome {
        if sender == Sender::Client && self.start_len < self.start.len() {
            self.record_start(input);
            // A PROXY header for a server that receives it. Inspection must end before it reads the header as packets.
            if looks_like_header(self.start).is_some() {
                return Err(OpaqueReason::NotMysql);
            }
        }
        let Self { session, inspection, client, server, prepare_tail, server_packet, .. } = self;
        loop {
            if session.blocked_request().is_some()
                || sender == Sender::Server && session.observes_requests_only()
            {
                return Ok(());
            }
            if sender == Sender::Server && server.is_at_boundary() {
                *server_packet = end.saturating_sub(input.len());
            }
            if sender == Sender::Client && session.awaits_tls() && client.is_at_boundary() {
                // Any byte means TLS, because OpenSSL also accepts a ClientHello in the framing of SSL 2.
                return if input.is_empty() { Ok(()) } else { Err(OpaqueReason::Tls) };
            }
            let was_command = session.is_command_phase();
            let framer = if sender == Sender::Client { &mut *client } else { &mut *server };
            let Some(framed) = framer.next(&mut input) else { return Ok(()) };
            match framed {
                Framed::Head(packet) if sender == Sender::Server && session.content(&packet) => continue,
                Framed::Head(packet) => session.packet(sender, &packet, out)?,
                Framed::End { sequence_id } => session.packet_end(sender, sequence_id),
                Framed::Broken => {
                    let rule =
                        if sender == Sender::Client { Rule::ClientFragment } else { Rule::ServerFragment };
                    return Err(out.desync(rule));
                }
            }
            if sender == Sender::Server {
                match inspection {
                    Inspection::Requests => session.observe_requests_only(),
                    Inspection::Handshake if session.phase() == Phase::Command => {
                        return Err(OpaqueReason::Configured);
                    }
                    _ => {}
                }
                let at = end.saturating_sub(input.len());
                prepare_tail.advance(session.definitions_left(), server.is_at_boundary(), at);
            }
            // In the command phase, packets of the server do not change the prefix length of the client's packets.
            if sender == Sender::Client || !was_command {
                client.set_prefix_len(session.prefix_len(Sender::Client));
            }
            server.set_prefix_len(session.prefix_len(Sender::Server));
        }
    }
}
