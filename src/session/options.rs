//! What a session records and judges besides emitting events.

use crate::rules::Interests;

/// Settings of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Details to record.
    pub interests: Interests,
    /// Judges each file request of the server by the client's statement, and stops at one that must not pass.
    pub judge_files: bool,
}
