//! The prepared statements of a connection: their ids and verbs, 8 bytes each.

use super::verb::Verb;

/// As many as a MySQL server keeps for all its clients (`max_prepared_stmt_count`).
const MOST: usize = 16_382;
/// In COM_STMT_EXECUTE: the statement prepared last (MariaDB).
const LAST_PREPARED: u32 = 0xffff_ffff;

/// Statements that are open, by id.
#[derive(Debug, Default)]
pub struct Statements {
    /// In ascending order of ids.
    open: Vec<(u32, Verb)>,
    /// Of the newest COM_STMT_PREPARE, answered or not.
    last: Option<Verb>,
}

impl Statements {
    /// The client asks to prepare a statement.
    pub fn prepare(&mut self, verb: Verb) {
        self.last = Some(verb);
    }

    /// The server has prepared one. Says whether it is new.
    pub fn opened(&mut self, id: u32, verb: Verb) -> bool {
        match self.find(id) {
            Err(index) if self.open.len() < MOST => {
                self.open.insert(index, (id, verb));
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// The client closes one. Says whether it was open.
    pub fn closed(&mut self, id: u32) -> bool {
        let found = self.find(id);
        if let Ok(index) = found {
            self.open.remove(index);
        }
        found.is_ok()
    }

    /// All are gone. Says how many that were.
    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.open).len()
    }

    /// What executing a statement executes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_come_and_go() {
        let mut statements = Statements::default();
        statements.prepare(Verb::Select);
        assert_eq!(statements.verb(LAST_PREPARED), Verb::Select);
        assert!(statements.opened(7, Verb::Select));
        assert!(statements.opened(3, Verb::Insert));
        assert!(!statements.opened(3, Verb::Insert), "an id is open once");
        assert_eq!((statements.verb(3), statements.verb(7)), (Verb::Insert, Verb::Select));
        assert_eq!(statements.verb(4), Verb::Other);
        assert!(statements.closed(3));
        assert!(!statements.closed(3));
        assert_eq!(statements.clear(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut statements = Statements::default();
        let opened = (0..20_000).filter(|id| statements.opened(*id, Verb::Other)).count();
        assert_eq!(opened, MOST);
    }
}
