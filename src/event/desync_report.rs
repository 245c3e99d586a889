//! What a line of the log says about a desync.

use std::fmt;

use crate::event::recent_packets::RecentPackets;
use crate::event::violation::Violation;
use crate::mysql::wire::capability::Capabilities;

/// The report of a desync. `Display` writes it as `key=value`. Most reports are never written: the number of lines is limited, and
/// hostile peers cause many.
#[derive(Clone, Debug)]
pub struct DesyncReport {
    /// The rule that a peer broke.
    pub violation: Option<Violation>,
    /// Software of server and client as they name it, as `server=… client=…`.
    pub peers: String,
    /// Capabilities of both peers, as far as they are known.
    pub capabilities: Capabilities,
    /// Sizes and numbers of the last packets.
    pub packets: RecentPackets,
}

impl fmt::Display for DesyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violation, peers, capabilities, packets } = self;
        if let Some(violation) = violation {
            write!(f, "{violation} ")?;
        }
        let (base, extended) = capabilities.split();
        write!(f, "{peers} capabilities={base:#x}/{extended:#x} packets=\"{packets}\"")
    }
}
