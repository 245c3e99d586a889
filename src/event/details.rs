//! What is told besides events, to those who ask for it: words of the peers, for access-log state and the
//! log of slow commands. They become no label. Who asks for nothing makes nothing be kept.

use std::time::Duration;

pub use crate::escape::word;
use crate::labels::labels;
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;

/// Stands for a word that the peer sent and that could not be read; see [`word`].
pub const UNREADABLE: &str = "%";

labels! {
    /// Whose or what word it is: a key of access-log state.
    Subject {
        /// The account's name, as the client asked for it last and the server did not refuse.
        User = "user",
        /// The current schema.
        Schema = "schema",
        /// The version text of the greeting.
        ServerVersion = "server_version",
        /// The client library and its version.
        Client = "client",
        /// The server's number for the connection.
        ThreadId = "thread_id",
    }
}

/// What somebody wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By [`Subject`].
    subjects: [bool; Subject::ALL.len()],
    /// Commands that take so long, and those that fail.
    pub slow_after: Option<Duration>,
    /// Requests of the server for files are to be judged by the client's statement.
    pub files: bool,
}

/// A command that was slow or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Which command.
    pub command: Command,
    /// Of the statement it executes or prepares.
    pub verb: Option<Verb>,
    /// Number of equal commands that arrived together and of which none was answered; 1 for a single one.
    pub commands: usize,
    /// From its first packet to the last of its answer, or to the end of the connection.
    pub took: Duration,
    /// The error that ended it.
    pub errno: Option<u16>,
    /// The answer came.
    pub answered: bool,
    /// Its statement without any literal; empty where it has none, or nothing is known of it.
    pub digest: String,
    /// `traceparent` of W3C Trace Context, from a query attribute or a comment in the statement.
    pub traceparent: Option<String>,
}

/// What is wanted, and what was told since it was last looked at.
#[derive(Debug, Default)]
pub struct Notes {
    /// What is wanted.
    pub wanted: Wanted,
    /// Words that are new, in order.
    pub said: Vec<(Subject, String)>,
    /// Commands that were slow or failed.
    pub slow: Vec<SlowCommand>,
}

impl Wanted {
    /// Adds a subject.
    pub fn add(&mut self, subject: Subject) {
        if let Some(wanted) = self.subjects.get_mut(subject as usize) {
            *wanted = true;
        }
    }

    /// This subject is wanted.
    #[must_use]
    pub fn wants(&self, subject: Subject) -> bool {
        self.subjects.get(subject as usize).is_some_and(|wanted| *wanted)
    }

    /// An account or schema that somebody asks the server for has to be remembered until it answers.
    #[must_use]
    pub fn wants_session(&self) -> bool {
        self.wants(Subject::User) || self.wants(Subject::Schema)
    }
}

impl Notes {
    /// Forgets what was said, and goes on wanting the same.
    pub fn clear(&mut self) {
        self.said.clear();
        self.slow.clear();
    }

    /// Gives back memory beyond that of `len` words and commands.
    pub fn shrink_to(&mut self, len: usize) {
        self.said.shrink_to(len);
        self.slow.shrink_to(len);
    }

    /// Tells a word, if it is wanted.
    pub fn say(&mut self, subject: Subject, word: impl FnOnce() -> String) {
        if self.wanted.wants(subject) {
            self.said.push((subject, word()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_told() {
        let mut notes = Notes::default();
        notes.wanted.add(Subject::Schema);
        notes.say(Subject::User, || panic!("nobody asked"));
        notes.say(Subject::Schema, || "shop".into());
        assert_eq!(notes.said, [(Subject::Schema, "shop".to_owned())]);
    }
}
