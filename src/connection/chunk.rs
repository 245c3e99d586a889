//! The bytes of a callback, and the verdicts about them.

use bytes::Bytes;

/// Bytes of one callback. They stay with the host until they are read, because every read costs a host call.
pub trait Chunk {
    /// Number of bytes.
    fn len(&self) -> usize;

    /// True if there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `max` bytes from `start` on. `None` if the host does not provide them.
    fn read(&self, start: usize, max: usize) -> Option<Bytes>;

    /// Calls `act` with the bytes that [`Chunk::read`] returns. A host that can lend its bytes need not copy them.
    fn with_bytes<T>(&self, start: usize, max: usize, act: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.read(start, max).map(|bytes| act(&bytes))
    }
}

impl Chunk for Bytes {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        let end = start.saturating_add(max).min(Self::len(self));
        (start <= end).then(|| self.slice(start..end))
    }
}

/// Verdict about bytes from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientVerdict {
    /// Forward them unchanged.
    Pass,
    /// Hold them. The host delivers them again, together with the next ones.
    Hold,
    /// Forward them changed.
    Edit(Edit),
    /// Drop them and close the connection.
    Close,
    /// Forward a part, and hold the rest.
    HoldRest(Box<HeldRest>),
    /// Start TLS to the server, then forward them changed. If the host cannot start TLS, it closes the connection, because
    /// these bytes must not be sent without TLS.
    StartServerTls(Edit),
    /// Forward them changed, and send a reply to the client.
    Reply(Box<Reply>),
    /// Forward them changed, and give other bytes to the partner.
    HandOver(Box<HandOver>),
    /// Forward them changed, and deliver the held bytes of the other peer again in the next turn of the event loop.
    Resume(Edit),
}

/// Bytes for the partner: the filter on the other part of the same connection, if one listener takes the client's connection
/// and another ends its TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Change of the bytes of the callback.
    pub edit: Edit,
    /// Bytes for the partner.
    pub bytes: Vec<u8>,
}

/// Bytes of the client of which the host holds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRest {
    /// Number of bytes to remove before the rest.
    pub drain: usize,
    /// Bytes to send to the server now.
    pub send: Vec<u8>,
    /// True if the host delivers the rest again in the next turn of its event loop, even if no bytes arrive. The turn must
    /// come after the one that writes `send` to the server's socket.
    pub is_due_next_turn: bool,
}

/// Reply of the filter to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Change of the client's bytes.
    pub edit: Edit,
    /// Bytes to send to the client.
    pub bytes: Vec<u8>,
    /// True if the host closes the connection once the client has got them.
    pub closes: bool,
}

/// Verdict about bytes from the server. The host can neither hold them nor close the connection in their callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerVerdict {
    /// Forward them unchanged.
    Pass,
    /// Forward them changed.
    Edit(Edit),
    /// Forward them changed, and give other bytes to the partner.
    HandOver(Box<HandOver>),
    /// Forward them changed, and deliver the held bytes of the client again in the next turn of the event loop.
    Resume(Edit),
}

/// For hosts that treat both directions alike: a verdict about the server's bytes is also one about the client's.
impl From<ServerVerdict> for ClientVerdict {
    fn from(verdict: ServerVerdict) -> Self {
        match verdict {
            ServerVerdict::Pass => Self::Pass,
            ServerVerdict::Edit(edit) => Self::Edit(edit),
            ServerVerdict::HandOver(hand_over) => Self::HandOver(hand_over),
            ServerVerdict::Resume(edit) => Self::Resume(edit),
        }
    }
}

/// Verdict about a connection on a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickVerdict {
    /// The connection stays open.
    Continue,
    /// Close the connection.
    Close,
}

/// Change at the start of a callback's bytes: the only change that a host must be able to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Number of bytes to remove, at most all of them.
    pub drain: usize,
    /// Bytes to put in their place.
    pub prepend: Vec<u8>,
}
