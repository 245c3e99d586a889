//! What the core tells the outside: the only input of metrics and access-log state.

/// Which peer sent the bytes: the MySQL client (Envoy: downstream) or the server (upstream).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// The downstream side.
    Client,
    /// The upstream side.
    Server,
}

/// Envoy's `xds.listener_direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// `UNSPECIFIED` (0): a listener outside a mesh.
    #[default]
    Unspecified,
    /// `INBOUND` (1).
    Inbound,
    /// `OUTBOUND` (2).
    Outbound,
}

impl Direction {
    /// The label value, also the word configuration uses.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}
