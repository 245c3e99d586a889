//! The catalogue of metrics, their accumulation in the VM and the encoding of labels. No host calls here.

mod accumulator;
pub mod catalogue;
mod encoding;
pub mod histogram;
pub mod room;
mod series;

pub use accumulator::{Accumulator, MemoryChange, ScopeId, Sink};
pub use encoding::{RESERVED, label_value};

/// How much is exported: each profile contains the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// At most 64 series for one destination.
    Minimal,
    /// At most 280 series for one destination.
    #[default]
    Standard,
    /// Everything.
    Full,
}

impl Profile {
    /// How many series one destination may have, those of the VM included; none: only
    /// `metrics.max_series` limits them.
    #[must_use]
    pub const fn max_series(self) -> Option<usize> {
        match self {
            Self::Minimal => Some(64),
            Self::Standard => Some(280),
            Self::Full => None,
        }
    }
}

/// A label every per-connection metric can carry besides its own (`metrics.labels`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeLabel {
    /// `inbound`, `outbound`, `unspecified`.
    Direction,
    /// The rule's name, else Envoy's cluster name, else `passthrough`.
    Destination,
    /// The destination port, where a rule or the built-in table names it, else `other`.
    Port,
}
