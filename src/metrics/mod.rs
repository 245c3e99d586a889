//! Metrics: their catalogue, their accumulation in the VM and the encoding of labels. Only a [`Sink`] calls the host.

mod accumulator;
pub mod budget;
pub mod catalogue;
mod encoding;
pub mod histogram;
mod series;
mod table;
pub mod templates;

pub use accumulator::{Accumulator, MemoryChange, ScopeId, Sink};
pub use encoding::{Decoded, RESERVED, decode, label_value};

/// The set of exported metrics. Each profile contains the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// At most 64 series for one destination.
    Minimal,
    /// At most 280 series for one destination.
    #[default]
    Standard,
    /// All metrics.
    Full,
}

impl Profile {
    /// Maximum number of series of one destination, with those of the VM; `None` if only `metrics.max_series` limits them.
    #[must_use]
    pub const fn max_series(self) -> Option<usize> {
        match self {
            Self::Minimal => Some(64),
            Self::Standard => Some(280),
            Self::Full => None,
        }
    }
}

/// A label that every per-connection metric can carry in addition to its own (`metrics.labels`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeLabel {
    /// `inbound`, `outbound`, `unspecified`.
    Direction,
    /// The rule's name, otherwise Envoy's cluster name, otherwise `passthrough`.
    Destination,
    /// The destination port if a rule or the built-in table names it, otherwise `other`.
    Port,
}

impl ScopeLabel {
    /// Every label.
    pub const ALL: [Self; 3] = [Self::Direction, Self::Destination, Self::Port];
}
