//! The prepared statements of a connection: their ids and verbs, 8 bytes each. Also digests of some, if slow commands are
//! recorded, and files of some, if file requests are judged.

use std::rc::Rc;

use crate::mysql::sql::load_data::NamedFiles;
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::types::Reader;

/// Maximum number of statements: as many as a MySQL server keeps for all its clients (`max_prepared_stmt_count`).
const MAX_STATEMENTS: usize = 16_382;
/// Statement id in COM_STMT_EXECUTE that means the statement prepared last (MariaDB).
const LAST_PREPARED: u32 = 0xffff_ffff;
/// Maximum number of statements with a digest. The oldest ones keep theirs.
const MAX_DIGESTS: usize = 256;
/// Maximum number of statements whose files are remembered. The oldest ones keep theirs. A later one counts as a
/// statement that names no file, so a file request of the server is blocked.
const MAX_STATEMENTS_WITH_FILES: usize = 256;

/// The open statements of one connection.
#[derive(Debug, Default)]
pub struct Statements {
    /// Ids and verbs, in ascending order of ids.
    open: Vec<(u32, Verb)>,
    /// Verb of the newest COM_STMT_PREPARE, with or without a response.
    last: Option<Verb>,
    /// Ids and digests of open statements.
    digests: Vec<(u32, Rc<str>)>,
    /// Digest of the newest COM_STMT_PREPARE.
    last_digest: Option<Rc<str>>,
    /// `None` if no statement names files.
    files: Option<Box<StatementFiles>>,
    /// Memory of the digests and files of open statements, in bytes.
    owned: usize,
}

/// The files that statements name.
#[derive(Debug, Default)]
struct StatementFiles {
    /// Ids and files of open statements that name files.
    open: Vec<(u32, Rc<NamedFiles>)>,
    /// Files of the newest COM_STMT_PREPARE.
    last: Option<Rc<NamedFiles>>,
}

impl Statements {
    /// Memory of the digests and files, in bytes.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.owned
    }

    /// Heap memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let open = self.open.capacity().saturating_mul(size_of::<(u32, Verb)>());
        let digests = self.digests.capacity().saturating_mul(size_of::<(u32, Rc<str>)>());
        let files = self.files.as_ref().map_or(0, |named| {
            let last = named.last.as_ref().map_or(0, |files| files.memory());
            let open = named.open.capacity().saturating_mul(size_of::<(u32, Rc<NamedFiles>)>());
            open.saturating_add(last).saturating_add(size_of::<StatementFiles>())
        });
        let last = self.last_digest.as_ref().map_or(0, |digest| digest.len());
        open.saturating_add(digests).saturating_add(files).saturating_add(last).saturating_add(self.owned)
    }

    /// Notes the verb of the statement that the client sends to be prepared.
    pub fn prepare(&mut self, verb: Verb) {
        self.last = Some(verb);
    }

    /// Adds a statement that the server has prepared. True if its id is new.
    pub fn add(&mut self, id: u32, verb: Verb) -> bool {
        match self.find(id) {
            Err(index) if self.open.len() < MAX_STATEMENTS => {
                self.open.insert(index, (id, verb));
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Sets the digest of the newest COM_STMT_PREPARE.
    pub fn set_last_digest(&mut self, digest: Rc<str>) {
        self.last_digest = Some(digest);
    }

    /// Sets the digest of a statement that was just added.
    pub fn set_digest(&mut self, id: u32, digest: Rc<str>) {
        if self.digests.len() < MAX_DIGESTS {
            self.owned = self.owned.saturating_add(digest.len());
            self.digests.push((id, digest));
        }
    }

    /// The digest of a statement; `None` if it has none.
    #[must_use]
    pub fn digest(&self, id: u32) -> Option<Rc<str>> {
        if id == LAST_PREPARED {
            return self.last_digest.clone();
        }
        let found = self.digests.iter().find(|(open, _)| *open == id);
        found.map(|(_, digest)| Rc::clone(digest))
    }

    /// Sets the files of the newest COM_STMT_PREPARE; `None` if it names no files.
    pub fn set_last_files(&mut self, files: Option<Rc<NamedFiles>>) {
        if files.is_some() || self.files.is_some() {
            self.files.get_or_insert_default().last = files;
        }
    }

    /// Sets the files of a statement that was just added.
    pub fn set_files(&mut self, id: u32, files: Rc<NamedFiles>) {
        let named = self.files.get_or_insert_default();
        if named.open.len() < MAX_STATEMENTS_WITH_FILES {
            self.owned = self.owned.saturating_add(files.memory());
            named.open.push((id, files));
        }
    }

    /// The files that a statement names; `None` if it names no files.
    #[must_use]
    pub fn files(&self, id: u32) -> Option<Rc<NamedFiles>> {
        let named = self.files.as_ref()?;
        if id == LAST_PREPARED {
            return named.last.clone();
        }
        let found = named.open.iter().find(|(open, _)| *open == id);
        found.map(|(_, files)| Rc::clone(files))
    }

    /// Removes a statement that the client closes. True if it was open.
    pub fn remove(&mut self, id: u32) -> bool {
        let mut freed = 0_usize;
        let mut is_other = |open: u32, memory: usize| {
            freed = freed.saturating_add(if open == id { memory } else { 0 });
            open != id
        };
        if let Some(named) = &mut self.files {
            named.open.retain(|(open, files)| is_other(*open, files.memory()));
            shrink(&mut named.open);
        }
        self.digests.retain(|(open, digest)| is_other(*open, digest.len()));
        shrink(&mut self.digests);
        self.owned = self.owned.saturating_sub(freed);
        let found = self.find(id);
        if let Ok(index) = found {
            self.open.remove(index);
            shrink(&mut self.open);
        }
        found.is_ok()
    }

    /// Removes all statements. Returns their number.
    pub fn clear(&mut self) -> usize {
        self.digests = Vec::new();
        self.files = None;
        self.owned = 0;
        std::mem::take(&mut self.open).len()
    }

    /// The verb of a statement.
    #[must_use]
    pub fn verb(&self, id: u32) -> Verb {
        if id == LAST_PREPARED {
            return self.last.unwrap_or(Verb::Other);
        }
        let found = self.find(id).ok().and_then(|index| self.open.get(index));
        found.map_or(Verb::Other, |(_, verb)| *verb)
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |(id, _)| *id)
    }
}

/// Releases memory that only a burst of statements needed.
fn shrink<T>(list: &mut Vec<T>) {
    if list.len().saturating_mul(4) < list.capacity() {
        list.shrink_to(list.len().saturating_mul(2));
    }
}

/// The statement id after the command byte; 0, which no server uses, if the packet is too short.
pub(super) fn statement_id(packet: &Packet) -> u32 {
    Reader::new(packet.prefix.get(1..).unwrap_or_default()).u32("statement_id").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_added_and_removed_by_id() {
        let mut statements = Statements::default();
        statements.prepare(Verb::Select);
        assert_eq!(statements.verb(LAST_PREPARED), Verb::Select);
        assert!(statements.add(7, Verb::Select));
        assert!(statements.add(3, Verb::Insert));
        assert!(!statements.add(3, Verb::Insert), "an id is open once");
        assert_eq!((statements.verb(3), statements.verb(7)), (Verb::Insert, Verb::Select));
        assert_eq!(statements.verb(4), Verb::Other);
        assert!(statements.remove(3));
        assert!(!statements.remove(3));
        assert_eq!(statements.clear(), 1);
    }

    #[test]
    fn digests_are_removed_with_their_statements() {
        let mut statements = Statements::default();
        statements.set_last_digest("a".into());
        for id in 0..300 {
            statements.set_digest(id, format!("{id}").into());
        }
        assert_eq!(statements.digest(LAST_PREPARED).as_deref(), Some("a"));
        assert_eq!((statements.digest(255).as_deref(), statements.digest(256)), (Some("255"), None));
        statements.remove(255);
        assert_eq!(statements.digest(255), None);
        statements.clear();
        assert_eq!(statements.digest(0), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut statements = Statements::default();
        let opened = (0..20_000).filter(|id| statements.add(*id, Verb::Other)).count();
        assert_eq!(opened, MAX_STATEMENTS);
    }
}
