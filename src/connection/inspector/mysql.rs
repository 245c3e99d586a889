//! A MySQL connection that is followed: both directions cut into packets for its session.

use crate::clock::Timestamp;
use crate::connection::Inspection;
use crate::connection::stages::block_local_infile::refusal;
use crate::connection::stages::hold_split_eof::Tail;
use crate::event::details::Wanted;
use crate::event::output::Output;
use crate::event::violation::Rule;
use crate::event::{Event, OpaqueReason, Phase, Sender};
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::LOCAL_INFILE;
use crate::proxy_protocol::looks_like_header;
use crate::session::Session;

/// The first byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
pub(in crate::connection) const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Debug)]
pub(in crate::connection) struct Mysql {
    pub(in crate::connection) session: Session,
    inspection: Inspection,
    client: Framer,
    server: Framer,
    /// The client's first bytes.
    start: [u8; 4],
    start_len: usize,
    tail: Tail,
    /// In the server's current chunk, where its newest packet begins; 0 where it began before.
    server_packet: usize,
}

impl Mysql {
    pub(in crate::connection) fn new(opened: Timestamp, inspection: Inspection) -> Self {
        let session = Session::new(opened);
        let framer = |sender| Framer::new(session.keep(sender, &Wanted::default()));
        let (client, server) = (framer(Sender::Client), framer(Sender::Server));
        let (start, tail) = ([0; 4], Tail::default());
        Self { session, inspection, client, server, start, start_len: 0, tail, server_packet: 0 }
    }

    /// Memory in bytes, its own included.
    pub(in crate::connection) fn memory(&self) -> usize {
        let framers = self.client.memory().saturating_add(self.server.memory());
        self.session.memory().saturating_add(framers).saturating_add(size_of::<Self>())
    }

    /// Where the newest packet of the server begins in its current chunk, and the packet's sequence id.
    pub(in crate::connection) fn newest_server_packet(&self) -> (usize, u8) {
        (self.server_packet, self.server.sequence_id())
    }

    fn note_start(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.start.iter_mut().skip(self.start_len).zip(bytes) {
            *slot = *byte;
            self.start_len = self.start_len.saturating_add(1);
        }
    }

    pub(in crate::connection) fn framer(&mut self, sender: Sender) -> &mut Framer {
        match sender {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    /// How many of the coming bytes of `sender` need not be read.
    pub(in crate::connection) fn skippable(&mut self, sender: Sender) -> usize {
        if self.is_unheard(sender) { usize::MAX } else { self.framer(sender).skippable() }
    }

    /// Takes `n` bytes of these without reading them.
    pub(in crate::connection) fn skip(&mut self, sender: Sender, n: usize) {
        if !self.is_unheard(sender) {
            self.framer(sender).skip(n);
        }
    }

    fn is_unheard(&self, sender: Sender) -> bool {
        sender == Sender::Server && self.session.hears_client_only()
    }

    /// A chunk of the server begins.
    pub(in crate::connection) fn next_chunk(&mut self) {
        self.tail.next_chunk();
        self.server_packet = 0;
    }

    /// A chunk of the server has ended.
    pub(in crate::connection) fn chunk_ended(&mut self, events: &mut Vec<Event>) {
        let definitions_are_complete = self.session.definitions_left() == Some(0);
        let of_eof = self.server.begun().filter(|_| definitions_are_complete);
        self.tail.chunk_ended(of_eof, events);
    }

    /// Where the end of an answer to COM_STMT_PREPARE begins in the server's chunk, while it is not complete.
    pub(in crate::connection) fn incomplete_tail(&self) -> Option<usize> {
        self.tail.start()
    }

    /// Where a packet of the server begins in its chunk, while it is not complete and may ask for a file or hide a request
    /// from the client.
    pub(in crate::connection) fn incomplete_request(&self) -> Option<usize> {
        let may_ask = self.session.can_be_asked() && self.server.may_have_begun_with(LOCAL_INFILE);
        let may_hide = self.session.can_be_dropped() && !self.server.is_at_border();
        (may_ask || may_hide).then_some(self.server_packet)
    }

    /// The same of one that asks for a file which the server must not get: it is the last packet that was looked at.
    pub(in crate::connection) fn refused_request(&self) -> Option<(usize, Vec<u8>)> {
        let (sequence_id, capabilities) = self.session.refused_file()?;
        Some((self.server_packet, refusal(sequence_id, capabilities)))
    }

    /// Takes bytes that end at `end` in their chunk.
    pub(in crate::connection) fn inspect(
        &mut self,
        sender: Sender,
        mut input: &[u8],
        end: usize,
        out: &mut Output,
    ) -> Result<(), OpaqueReason> {
        if sender == Sender::Client && self.start_len < self.start.len() {
            self.note_start(input);
            // A PROXY header, which passes to a server that takes it: nothing behind it can be followed as
            // packets, and whatever is read of them here must not be believed for a moment.
            if looks_like_header(self.start).is_some() {
                return Err(OpaqueReason::NotMysql);
            }
        }
        let Self { session, inspection, client, server, tail, server_packet, .. } = self;
        loop {
            if session.refused_file().is_some() || sender == Sender::Server && session.hears_client_only() {
                return Ok(());
            }
            if sender == Sender::Server && server.is_at_border() {
                *server_packet = end.saturating_sub(input.len());
            }
            if sender == Sender::Client && session.awaits_tls() && client.is_at_border() {
                // Whatever the byte is: OpenSSL also takes a ClientHello in the framing of SSL 2.
                return if input.is_empty() { Ok(()) } else { Err(OpaqueReason::Tls) };
            }
            let was_command = session.is_command_phase();
            let framer = if sender == Sender::Client { &mut *client } else { &mut *server };
            let Some(framed) = framer.next(&mut input) else { return Ok(()) };
            match framed {
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
                    Inspection::Requests => session.hear_client_only(),
                    Inspection::Handshake if session.phase() == Phase::Command => {
                        return Err(OpaqueReason::Configured);
                    }
                    _ => {}
                }
                let at = end.saturating_sub(input.len());
                tail.passed(session.definitions_left(), server.is_at_border(), at);
            }
            // Within the command phase, no packet of the server changes what is kept of the client's.
            if sender == Sender::Client || !was_command {
                client.set_keep(session.keep(Sender::Client, &out.notes.wanted));
            }
            server.set_keep(session.keep(Sender::Server, &out.notes.wanted));
        }
    }
}
