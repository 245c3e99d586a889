//! The commands that wait for their responses, in the order in which the client sent them.
//!
//! Equal commands that arrive in one callback share an entry, because they differ in nothing that is remembered: a
//! pipelined batch of a thousand statements takes no more memory than one statement.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::clock::Timestamp;
use crate::mysql::sql::load_data::NamedFiles;
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;
use crate::session::pending::PendingCommand;

/// Maximum number of entries. A client that pipelines more than that is no longer inspected.
const MAX_ENTRIES: usize = 1024;
/// Number of entries whose memory an idle connection keeps.
const IDLE_ENTRIES: usize = 4;

/// A command that waits for its response.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) command: Command,
    pub(super) verb: Option<Verb>,
    /// Sequence id of the next packet of this exchange.
    pub(super) sequence_id: u8,
    pub(super) started: Timestamp,
    pub(super) pending: Option<Box<PendingCommand>>,
    /// The files that the command or, for a COM_STMT_PREPARE, the statement names; `None` if file requests are not judged or
    /// it names no file.
    pub(super) files: Option<Rc<NamedFiles>>,
    /// True if its verb shows that it names no file; false if that is not known.
    pub(super) names_no_file: bool,
    /// True for a COM_STMT_EXECUTE that requests a cursor.
    pub(super) asks_for_cursor: bool,
}

impl Queued {
    /// Heap memory that it owns, in bytes.
    fn owned(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.memory());
        pending.saturating_add(self.files.as_ref().map_or(0, |files| files.memory()))
    }

    /// True if the two commands can share an entry.
    fn is_equal(&self, other: &Self) -> bool {
        let key = |queued: &Self| {
            (queued.command, queued.verb, queued.sequence_id, queued.started, queued.names_no_file)
        };
        key(self) == key(other)
            && self.asks_for_cursor == other.asks_for_cursor
            && self.owns_nothing()
            && other.owns_nothing()
    }

    fn owns_nothing(&self) -> bool {
        self.pending.is_none() && self.files.is_none()
    }

    fn clone_plain(&self) -> Self {
        Self { pending: None, files: None, ..*self }
    }
}

#[derive(Debug)]
struct Entry {
    queued: Queued,
    /// Number of equal commands, at least 1. The sequence id is that of the first.
    count: u32,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    len: usize,
    /// Heap memory that the entries own, in bytes.
    owned: usize,
}

impl Queue {
    /// Number of commands.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if no further entry fits.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
    }

    /// Heap memory in bytes, including that of the entries.
    pub(super) fn memory(&self) -> usize {
        self.entries.capacity().saturating_mul(size_of::<Entry>()).saturating_add(self.owned)
    }

    /// Heap memory that the entries own, in bytes.
    pub(super) fn owned(&self) -> usize {
        self.owned
    }

    /// The oldest command. The server is sending its response.
    pub(super) fn front(&self) -> Option<&Queued> {
        self.entries.front().map(|entry| &entry.queued)
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Queued> {
        self.entries.front_mut().map(|entry| &mut entry.queued)
    }

    /// Replaces the data that is stored for the oldest command.
    pub(super) fn replace_pending_of_front(&mut self, pending: Box<PendingCommand>) {
        let Some(entry) = self.entries.front_mut() else { return };
        let before = entry.queued.owned();
        entry.queued.pending = Some(pending);
        self.owned = self.owned.saturating_sub(before).saturating_add(entry.queued.owned());
    }

    /// The newest command. It shares no entry while its packet is not complete.
    pub(super) fn back_mut(&mut self) -> Option<&mut Queued> {
        self.entries.back_mut().map(|entry| &mut entry.queued)
    }

    /// Appends a command. `is_whole`: true if all of its packet has arrived.
    pub(super) fn push(&mut self, queued: Queued, is_whole: bool) {
        self.len = self.len.saturating_add(1);
        if let Some(back) = self.entries.back_mut().filter(|back| is_whole && back.count < u32::MAX) {
            if back.queued.is_equal(&queued) {
                back.count = back.count.saturating_add(1);
                return;
            }
        }
        self.owned = self.owned.saturating_add(queued.owned());
        self.entries.push_back(Entry { queued, count: 1 });
    }

    /// Removes the oldest command.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let front = self.entries.front_mut()?;
        self.len = self.len.saturating_sub(1);
        if front.count > 1 {
            front.count = front.count.saturating_sub(1);
            let queued = front.queued.clone_plain();
            front.queued.sequence_id = 1;
            return Some(queued);
        }
        let queued = self.entries.pop_front()?.queued;
        self.owned = self.owned.saturating_sub(queued.owned());
        if self.entries.is_empty() {
            self.entries.shrink_to(IDLE_ENTRIES);
        }
        Some(queued)
    }

    /// Removes the oldest command and those that share its entry. Returns their number.
    pub(super) fn pop_entry(&mut self) -> Option<(Queued, usize)> {
        let count = self.entries.front()?.count as usize;
        if let Some(front) = self.entries.front_mut() {
            front.count = 1;
        }
        self.len = self.len.saturating_sub(count.saturating_sub(1));
        Some((self.pop()?, count))
    }

    /// Entries with the number of commands in each, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Queued, usize)> {
        self.entries.iter().map(|entry| (&entry.queued, entry.count as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(started: u64) -> Queued {
        Queued {
            command: Command::QUERY,
            verb: Some(Verb::Insert),
            sequence_id: 1,
            started: Timestamp::from_nanos(started),
            pending: None,
            files: None,
            names_no_file: true,
            asks_for_cursor: false,
        }
    }

    #[test]
    fn equal_commands_of_one_callback_share_an_entry_and_are_removed_one_by_one() {
        let mut queue = Queue::default();
        for _ in 0..5000 {
            queue.push(query(7), true);
        }
        assert_eq!((queue.len(), queue.entries.len(), queue.is_full()), (5000, 1, false));
        queue.front_mut().expect("the head").sequence_id = 9;
        assert_eq!(queue.pop().map(|head| head.sequence_id), Some(9));
        assert_eq!(queue.front().map(|head| head.sequence_id), Some(1), "the next response begins at 1");
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 4999);
        assert!(queue.is_empty());
        assert!(queue.memory() <= IDLE_ENTRIES * size_of::<Entry>());
    }

    #[test]
    fn all_commands_of_an_entry_can_be_removed_together() {
        let mut queue = Queue::default();
        for started in [7, 7, 7, 8] {
            queue.push(query(started), true);
        }
        let mut pop = || queue.pop_entry().map(|(queued, count)| (queued.started.nanos(), count));
        assert_eq!([pop(), pop(), pop()], [Some((7, 3)), Some((8, 1)), None]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn memory_of_a_replaced_identity_is_counted() {
        let mut queue = Queue::default();
        queue.push(query(1), true);
        queue.push(
            Queued { pending: Some(Box::new(PendingCommand::Query(Box::from([0; 100])))), ..query(2) },
            true,
        );
        queue.replace_pending_of_front(Box::new(PendingCommand::Query(Box::from([0; 50]))));
        assert_eq!(queue.owned(), 2 * size_of::<PendingCommand>() + 150);
        queue.pop();
        assert_eq!(
            queue.owned(),
            size_of::<PendingCommand>() + 100,
            "only the memory of the first is released"
        );
    }

    #[test]
    fn commands_of_two_callbacks_and_incomplete_commands_share_no_entry() {
        let mut queue = Queue::default();
        queue.push(query(1), true);
        queue.push(query(2), true);
        queue.push(query(2), false);
        assert_eq!(queue.entries.len(), 3);
        let counts: Vec<_> = queue.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn entries_are_bounded_and_their_memory_is_counted() {
        let mut queue = Queue::default();
        for started in 1.. {
            if queue.is_full() {
                break;
            }
            queue.push(
                Queued {
                    pending: Some(Box::new(PendingCommand::Query(Box::from([0; 100])))),
                    ..query(started)
                },
                true,
            );
        }
        assert_eq!(queue.len(), MAX_ENTRIES);
        assert_eq!(queue.owned(), MAX_ENTRIES * (size_of::<PendingCommand>() + 100));
        while queue.pop().is_some() {}
        assert_eq!(queue.owned(), 0);
    }
}
