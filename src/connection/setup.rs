//! What is known of a connection when it begins.

use std::time::Duration;

use super::FrontRules;
use crate::clock::Timestamp;
use crate::config::{ClearCapabilities, HoldSplitEof};
use crate::event::Protocol;

/// How closely a connection is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// First bytes, and the whole life of it if it is MySQL.
    Full,
    /// First bytes and, if it is MySQL, the connection phase and what the client sends after it.
    Requests,
    /// First bytes and, if it is MySQL, the connection phase.
    Handshake,
    /// First bytes only.
    FirstBytes,
    /// Not at all.
    Nothing,
}

/// What is known of a connection when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How closely it is looked at.
    pub inspection: Inspection,
    /// What a rule or the port table expects.
    pub expected: Protocol,
    /// How long the server may take for its first word, where it is expected to have it.
    pub greeting_timeout: Duration,
    /// How long a command may go without the end of its answer before it is told to be stalled.
    pub stall: Duration,
    /// When it began.
    pub opened: Timestamp,
    /// What a rule says about PROXY headers; none: nothing.
    pub front: Option<FrontRules>,
    /// Whose answers to COM_STMT_PREPARE end in one piece.
    pub hold_split_eof: HoldSplitEof,
    /// What the server's greeting loses.
    pub clear_capabilities: ClearCapabilities,
    /// The server gets no file that the client's statement does not name. Then [`Wanted::files`] says so too.
    ///
    /// [`Wanted::files`]: crate::event::details::Wanted::files
    pub block_local_infile: bool,
}
