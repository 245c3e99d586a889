//! Settings of a session: the details to record, and whether to judge file requests.

use crate::rules::Interests;

/// Settings of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Details to record.
    pub interests: Interests,
    /// Judges each file request of the server by the client's statement, and stops at a request that must be blocked.
    pub judge_files: bool,
    /// True if the client's authentication data arrived in TLS, so that it exposes no password.
    pub hides_secrets: bool,
}
