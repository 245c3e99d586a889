//! The changes that stages make to one chunk, combined into the single edit that a host supports.
//!
//! Every offset refers to the chunk as it arrived, not to the result of earlier stages. Changes must not overlap. If two
//! overlap, the change of the earlier stage remains. A chunk that no stage changes is neither read nor copied.

#![cfg_attr(
    target_family = "wasm",
    allow(dead_code, reason = "only a stage that is absent there starts TLS")
)]

use std::ops::Range;

use bytes::Bytes;

use super::chunk::{Chunk, ClientVerdict, Edit, HandOver, HeldRest, Reply, ServerVerdict};
use crate::password_key::{wipe, wiped};

/// Maximum number of the server's bytes that are withheld. Column definitions are far shorter.
const MAX_WITHHELD: usize = 64 << 10;

const NO_EDIT: Edit = Edit { drain: 0, prepend: Vec::new() };

/// Decision of a stage about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next stage takes the chunk.
    Continue,
    /// The chunk is held.
    Hold,
    /// The chunk is dropped.
    Drop,
    /// The chunk is dropped, and the connection is closed.
    Close,
    /// The chunk is held without the bytes that stages have removed from its start.
    HoldRest,
    /// As [`Flow::HoldRest`], and the host delivers the rest again in the next turn of its event loop.
    NextTurn,
    /// The chunk is dropped, and the connection is closed once the client has got the reply.
    Refuse,
}

impl Flow {
    /// Returns the decision of the next stage, unless this decision already ends the list.
    pub(super) fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        if self == Self::Continue { next() } else { self }
    }
}

/// Bytes of the server that are held until the next chunk. Envoy cannot hold bytes of the server. So the filter removes them
/// from Envoy's buffer and puts them back before the next bytes.
#[derive(Debug, Default)]
pub(super) struct Withheld(Vec<u8>);

impl Withheld {
    /// Heap memory in bytes.
    pub(super) fn memory(&self) -> usize {
        self.0.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Replacement of `removed` bytes, from `at` on, by `inserted`.
#[derive(Debug)]
struct Change {
    at: usize,
    removed: usize,
    inserted: Vec<u8>,
    has_password: bool,
}

impl Change {
    fn wipe_password(&mut self) {
        if self.has_password {
            wipe(&mut self.inserted);
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.wipe_password();
    }
}

/// One chunk and its changes.
#[derive(Debug)]
pub(super) struct Rewrite<'c, C> {
    chunk: &'c C,
    /// All bytes of the chunk. `None` until a stage reads them.
    bytes: Option<Bytes>,
    /// Sorted and disjoint.
    changes: Vec<Change>,
    /// Number of withheld bytes of earlier chunks.
    withheld_before: usize,
    /// Maximum number of bytes that the connection may withhold from now on.
    room: usize,
    /// Offset of the first byte to withhold. `None` if no byte is withheld.
    withhold: Option<usize>,
    /// True if the withheld bytes of earlier chunks are dropped too.
    drops_withheld: bool,
    lacks_memory: bool,
    /// What only a stage that starts TLS asks for. `None` in all other callbacks.
    tls: Option<Box<TlsWork>>,
}

/// Work of the host beyond a change of the chunk.
#[derive(Debug, Default)]
struct TlsWork {
    /// Bytes to send to the server before the chunk.
    send: Vec<u8>,
    /// Bytes to send to the client.
    reply: Vec<u8>,
    starts_server_tls: bool,
    /// True if the partner gets the chunk.
    hands_over: bool,
    /// True if the host delivers the held bytes of the client again.
    resumes_client: bool,
}

impl<'c, C: Chunk> Rewrite<'c, C> {
    pub(super) fn of_client(chunk: &'c C) -> Self {
        Self {
            chunk,
            bytes: None,
            changes: Vec::new(),
            withheld_before: 0,
            room: 0,
            withhold: None,
            drops_withheld: false,
            lacks_memory: false,
            tls: None,
        }
    }

    /// `room`: maximum number of bytes that may be withheld from now on.
    pub(super) fn of_server(chunk: &'c C, withheld: &Withheld, room: usize) -> Self {
        Self { withheld_before: withheld.0.len(), room, ..Self::of_client(chunk) }
    }

    /// Number of bytes that arrived.
    pub(super) fn len(&self) -> usize {
        self.chunk.len()
    }

    /// All bytes as they arrived. `None` if the host does not provide them.
    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        if self.bytes.is_none() {
            self.bytes = read_all(self.chunk);
        }
        self.bytes.clone()
    }

    /// The chunk with the changes so far, as the next part of the list gets it.
    pub(super) fn rest(&self) -> Rest<'c, C> {
        match (&self.bytes, self.changes.as_slice()) {
            (None, _) => Rest::Host(self.chunk),
            (Some(bytes), []) => Rest::Read(bytes.clone()),
            (Some(bytes), [Change { at: 0, removed, inserted, .. }]) if inserted.is_empty() => {
                Rest::Read(bytes.slice((*removed).min(bytes.len())..))
            }
            (Some(bytes), _) => Rest::Read(wiped(self.apply(bytes, 0..usize::MAX))),
        }
    }

    /// Sends `bytes` to the server while the chunk is held. A later call inserts its bytes before those of earlier calls.
    pub(super) fn send_first(&mut self, bytes: Vec<u8>) {
        self.tls_work().send.splice(0..0, bytes);
    }

    /// True if bytes are sent to the server while the chunk is held.
    pub(super) fn sends(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.send.is_empty())
    }

    /// Sends `bytes` to the client.
    pub(super) fn reply(&mut self, bytes: Vec<u8>) {
        self.tls_work().reply = bytes;
    }

    /// Bytes that are sent to the client. `None` if there are none.
    pub(super) fn pending_reply(&self) -> Option<Bytes> {
        let reply = &self.tls.as_ref()?.reply;
        (!reply.is_empty()).then(|| Bytes::copy_from_slice(reply))
    }

    /// Starts TLS to the server before the chunk is forwarded.
    pub(super) fn start_server_tls(&mut self) {
        self.tls_work().starts_server_tls = true;
    }

    /// True if TLS to the server starts before the chunk is forwarded.
    pub(super) fn starts_server_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.starts_server_tls)
    }

    /// Gives the chunk to the partner, with its changes.
    pub(super) fn hand_over(&mut self) {
        self.tls_work().hands_over = true;
    }

    /// Delivers the held bytes of the client again.
    pub(super) fn resume_client(&mut self) {
        self.tls_work().resumes_client = true;
    }

    /// Changes the sequence id of the reply to the client, if there is one.
    pub(super) fn renumber_reply(&mut self, shift: u8) {
        if let Some(id) = self.tls.as_mut().and_then(|tls| tls.reply.get_mut(3)) {
            *id = id.wrapping_add(shift);
        }
    }

    fn tls_work(&mut self) -> &mut TlsWork {
        self.tls.get_or_insert_default()
    }

    /// Removes the first `len` bytes.
    pub(super) fn strip(&mut self, len: usize) {
        self.change(0, len, Vec::new());
    }

    /// Replaces the byte at `at`.
    pub(super) fn set(&mut self, at: usize, byte: u8) {
        self.change(at, 1, vec![byte]);
    }

    /// Replaces the byte at `at`, even if an earlier stage has replaced it.
    pub(super) fn set_again(&mut self, at: usize, byte: u8) {
        match self.changes.iter_mut().find(|change| change.at == at && change.removed == 1) {
            Some(change) => change.inserted = vec![byte],
            None => self.set(at, byte),
        }
    }

    /// All bytes of the chunk with the bytes that were replaced so far. `None` if the host does not provide them. Use it only
    /// if no earlier stage inserts or removes bytes.
    pub(super) fn replaced(&mut self) -> Option<Bytes> {
        self.bytes().map(|bytes| match self.changes.as_slice() {
            [] => bytes,
            _ => wiped(self.apply(&bytes, 0..usize::MAX)),
        })
    }

    /// Inserts `bytes` before the rest of the chunk.
    pub(super) fn prepend(&mut self, bytes: Vec<u8>) {
        match self.changes.first_mut() {
            Some(first) if first.at == 0 => {
                first.inserted.splice(0..0, bytes);
            }
            _ => self.change(0, 0, bytes),
        }
    }

    /// Replaces everything from `at` on. At 0 this also drops the withheld bytes of earlier chunks, because they belong to
    /// the same packet.
    pub(super) fn replace_from(&mut self, at: usize, bytes: &[u8]) {
        self.withhold = None;
        self.drops_withheld |= at == 0;
        self.changes.retain(|change| change.at < at);
        self.change(at, self.len().saturating_sub(at), bytes.to_vec());
    }

    /// Replaces everything by a packet with a password, and overwrites the packet once the verdict has its bytes.
    pub(super) fn replace_with_password(&mut self, packet: Vec<u8>) {
        (self.withhold, self.drops_withheld) = (None, true);
        self.changes = vec![Change { at: 0, removed: self.len(), inserted: packet, has_password: true }];
    }

    /// Withholds everything from `at` on until the next chunk. Returns false if that is impossible: there are no bytes or
    /// too many, the host does not provide them, or [`Rewrite::lacks_memory`].
    pub(super) fn withhold_from(&mut self, at: usize) -> bool {
        let at = self.withhold.map_or(at, |before| before.min(at));
        let new = self.len().saturating_sub(at);
        if new > self.room {
            self.lacks_memory = true;
            return false;
        }
        let before = if at == 0 { self.withheld_before } else { 0 };
        if new == 0 || new.saturating_add(before) > MAX_WITHHELD || self.bytes().is_none() {
            return false;
        }
        self.withhold = Some(at);
        true
    }

    /// True if a stage had to withhold bytes and the connection may use no more memory.
    pub(super) fn lacks_memory(&self) -> bool {
        self.lacks_memory
    }

    /// Forwards everything, including the withheld bytes of earlier chunks.
    pub(super) fn withhold_nothing(&mut self) {
        self.withhold = None;
    }

    /// Drops everything, including the withheld bytes of earlier chunks.
    pub(super) fn drop_all(&mut self) {
        (self.withhold, self.drops_withheld) = (None, true);
        self.changes.clear();
        if !self.chunk.is_empty() {
            self.strip(self.len());
        }
    }

    fn change(&mut self, at: usize, removed: usize, inserted: Vec<u8>) {
        if removed == 0 && inserted.is_empty() {
            return;
        }
        let index = self.changes.partition_point(|change| change.at < at);
        let ends_before = |change: &Change| change.at.saturating_add(change.removed) <= at;
        let is_free = self.changes.get(..index).is_none_or(|before| before.iter().all(ends_before));
        let next = self.changes.get(index).map_or(usize::MAX, |change| change.at);
        let is_free = is_free && at.saturating_add(removed) <= next;
        debug_assert!(is_free, "two stages change the same byte");
        if is_free {
            self.changes.insert(index, Change { at, removed, inserted, has_password: false });
        }
    }

    /// Returns the bytes of `range` with the changes that begin in it.
    fn apply(&self, bytes: &[u8], range: Range<usize>) -> Vec<u8> {
        let inserted: usize = self.changes.iter().map(|change| change.inserted.len()).sum();
        // Growth would leave copies behind, which can contain a password.
        let mut out = Vec::with_capacity(bytes.len().saturating_add(inserted));
        let mut from = range.start;
        for Change { at, removed, inserted, .. } in
            self.changes.iter().filter(|change| range.contains(&change.at))
        {
            out.extend_from_slice(bytes.get(from..*at).unwrap_or_default());
            out.extend_from_slice(inserted);
            from = at.saturating_add(*removed);
        }
        out.extend_from_slice(bytes.get(from..range.end.min(bytes.len())).unwrap_or_default());
        out
    }

    /// Returns the verdict about a chunk of the client.
    pub(super) fn client_verdict(mut self, flow: Flow) -> ClientVerdict {
        match flow {
            Flow::Hold => ClientVerdict::Hold,
            Flow::Close => ClientVerdict::Close,
            Flow::Drop => {
                self.drop_all();
                self.client_verdict(Flow::Continue)
            }
            Flow::HoldRest | Flow::NextTurn => {
                let drain =
                    self.changes.first().filter(|first| first.at == 0).map_or(0, |first| first.removed);
                let send = std::mem::take(&mut self.tls_work().send);
                let is_due_next_turn = flow == Flow::NextTurn;
                ClientVerdict::HoldRest(Box::new(HeldRest { drain, send, is_due_next_turn }))
            }
            Flow::Refuse => {
                self.drop_all();
                let edit = self.edit(&mut Withheld::default()).unwrap_or(NO_EDIT);
                let bytes = std::mem::take(&mut self.tls_work().reply);
                ClientVerdict::Reply(Box::new(Reply { edit, bytes, closes: true }))
            }
            Flow::Continue => {
                let edit = self.edit(&mut Withheld::default());
                if let Some(tls) = &mut self.tls {
                    let (edit, bytes) = (edit.unwrap_or(NO_EDIT), std::mem::take(&mut tls.reply));
                    return if tls.starts_server_tls {
                        ClientVerdict::StartServerTls(edit)
                    } else {
                        ClientVerdict::Reply(Box::new(Reply { edit, bytes, closes: false }))
                    };
                }
                edit.map_or(ClientVerdict::Pass, ClientVerdict::Edit)
            }
        }
    }

    /// Returns the verdict about a chunk of the server. Takes the bytes of earlier chunks out of `withheld`, and puts those
    /// of this chunk in.
    pub(super) fn server_verdict(mut self, flow: Flow, withheld: &mut Withheld) -> ServerVerdict {
        if flow == Flow::Drop {
            self.drop_all();
        } else if self.tls.as_ref().is_some_and(|tls| tls.hands_over) {
            let bytes = self.replaced().unwrap_or_default().to_vec();
            let edit = Edit { drain: self.len(), prepend: Vec::new() };
            return ServerVerdict::HandOver(Box::new(HandOver { edit, bytes }));
        }
        let edit = self.edit(withheld);
        if self.tls.as_ref().is_some_and(|tls| tls.resumes_client) {
            return ServerVerdict::Resume(edit.unwrap_or(NO_EDIT));
        }
        edit.map_or(ServerVerdict::Pass, ServerVerdict::Edit)
    }

    fn edit(&mut self, withheld: &mut Withheld) -> Option<Edit> {
        if self.drops_withheld {
            withheld.0.clear();
        }
        if self.changes.is_empty() && self.withhold.is_none() && withheld.is_empty() {
            return None;
        }
        let Some(at) = self.withhold else {
            let last = self.changes.last();
            let drain = last.map_or(0, |change| change.at.saturating_add(change.removed));
            // A single change at the start needs no copy of the bytes that it removes.
            let is_alone =
                self.changes.len() <= 1 && self.changes.first().is_none_or(|change| change.at == 0);
            let bytes = if is_alone { Bytes::new() } else { self.bytes().unwrap_or_default() };
            let mut prepend = std::mem::take(&mut withheld.0);
            let removed = bytes.get(..drain.min(bytes.len())).unwrap_or_default();
            let mut changed = self.apply(removed, 0..usize::MAX);
            if prepend.is_empty() {
                prepend = changed;
            } else {
                prepend.append(&mut changed);
            }
            return Some(Edit { drain, prepend });
        };
        let bytes = self.bytes().unwrap_or_default();
        let mut prepend = Vec::new();
        if at > 0 {
            prepend = std::mem::take(&mut withheld.0);
            prepend.append(&mut self.apply(&bytes, 0..at));
        }
        let tail = self.apply(&bytes, at..usize::MAX);
        withheld.0.reserve_exact(tail.len());
        withheld.0.extend_from_slice(&tail);
        Some(Edit { drain: bytes.len(), prepend })
    }
}

/// Reads a whole chunk at once. `None` if the host does not provide it.
fn read_all(chunk: &impl Chunk) -> Option<Bytes> {
    if chunk.is_empty() {
        return Some(Bytes::new());
    }
    chunk.read(0, chunk.len()).filter(|bytes| bytes.len() == chunk.len())
}

/// Chunk with the changes of earlier stages.
#[derive(Debug)]
pub(super) enum Rest<'c, C> {
    /// Unchanged, and still with the host.
    Host(&'c C),
    /// Already read.
    Read(Bytes),
}

impl<C: Chunk> Chunk for Rest<'_, C> {
    fn len(&self) -> usize {
        match self {
            Self::Host(chunk) => chunk.len(),
            Self::Read(bytes) => bytes.len(),
        }
    }

    fn read(&self, start: usize, max: usize) -> Option<Bytes> {
        match self {
            Self::Host(chunk) => chunk.read(start, max),
            Self::Read(bytes) => bytes.read(start, max),
        }
    }

    fn with_bytes<T>(&self, start: usize, max: usize, act: impl FnOnce(&[u8]) -> T) -> Option<T> {
        match self {
            Self::Host(chunk) => chunk.with_bytes(start, max, act),
            Self::Read(bytes) => bytes.with_bytes(start, max, act),
        }
    }
}

#[cfg(test)]
mod tests;
