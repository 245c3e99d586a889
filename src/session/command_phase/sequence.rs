//! Sequence ids that no queued command has, and the owners of packets that have not ended.

use crate::event::Sender;
use crate::mysql::wire::command::Grammar;
use crate::mysql::wire::packet::Packet;

/// Owner of the sequence ids of a packet. The ids continue after the packet's last fragment, not after its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SequenceOwner {
    #[default]
    None,
    /// The oldest command in the queue.
    Oldest,
    /// The newest command, which the client is sending.
    Newest,
    /// The file that the client is sending.
    Upload,
    /// The packets that can follow a complete response.
    Tail,
}

/// The sequence ids of one connection, except those of queued commands.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Sequence id of the next packet of a file that the client sends; `None` if the client sends no file.
    pub(super) upload: Option<u8>,
    /// Grammar of the last response, and the sequence id of a packet that continues it; `None` if no packet can.
    pub(super) tail: Option<(Grammar, u8)>,
    /// Owner of the client's packet that has begun and not ended.
    client_owner: SequenceOwner,
    /// Owner of the server's packet that has begun and not ended.
    server_owner: SequenceOwner,
}

impl Sequence {
    /// Remembers the owner of a packet, unless all of the packet has arrived.
    pub(super) fn set_owner(&mut self, sender: Sender, packet: &Packet, owner: SequenceOwner) {
        *self.owner(sender) = if packet.complete { SequenceOwner::None } else { owner };
    }

    /// Returns the owner of a packet that ends.
    pub(super) fn take_owner(&mut self, sender: Sender) -> SequenceOwner {
        std::mem::take(self.owner(sender))
    }

    fn owner(&mut self, sender: Sender) -> &mut SequenceOwner {
        match sender {
            Sender::Client => &mut self.client_owner,
            Sender::Server => &mut self.server_owner,
        }
    }

    /// True if a command has begun and not all of it has arrived.
    pub(super) fn is_command_open(&self) -> bool {
        self.client_owner == SequenceOwner::Newest
    }

    /// True if a packet of the client with this sequence id continues the file.
    pub(super) fn is_upload(&self, sequence_id: u8) -> bool {
        self.upload == Some(sequence_id)
    }

    /// True if a packet of the server with this sequence id continues the last response.
    pub(super) fn is_tail(&self, sequence_id: u8) -> bool {
        self.tail.is_some_and(|(_, expected)| expected == sequence_id)
    }

    /// Sets the sequence id of the next packet that continues the last response.
    pub(super) fn advance_tail(&mut self, next: u8) {
        self.tail = self.tail.map(|(grammar, _)| (grammar, next));
    }
}
