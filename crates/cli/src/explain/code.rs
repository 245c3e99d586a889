//! The explanation of a kind of finding.

/// A kind of finding, by its code.
pub(crate) struct Code {
    pub(crate) code: &'static str,
    /// What is wrong, in a few words.
    pub(crate) title: &'static str,
    /// What happens and why, and what to do.
    pub(crate) text: &'static str,
    /// The page of this repository with more, and its section.
    pub(crate) docs: &'static str,
}
