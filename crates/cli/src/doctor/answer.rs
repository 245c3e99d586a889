//! What the command prints, and its exit status.

/// The exit status of wrong usage and unreadable input.
pub(super) const UNUSABLE: u8 = 2;

pub(super) struct Answer {
    pub(super) text: String,
    pub(super) status: u8,
    /// Problems with a part of the input, for the standard error.
    pub(super) problems: Vec<String>,
}
