//! The mode of the newest configuration, told to the VMs in which connections live under older ones.
//!
//! Envoy keeps the plugin of an older configuration as long as it has connections, in another VM if the
//! module changed, and tells it nothing. What reaches it is the data that all VMs with one `vm_id` share.
//! So a configuration that says `off` ends a bad day without ending connections.

use super::host::{self, Status};
use super::stream::attribute;
use crate::clock::Timestamp;
use crate::config::Mode;

/// Where the plugins of one name keep the mode of their newest configuration. Plugins that are to have
/// different configurations at the same time have different names, as they have in Envoy's statistics.
#[derive(Debug)]
pub(super) struct Newest {
    key: String,
}

/// The newest configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// When it came.
    pub(super) since: Timestamp,
    pub(super) mode: Mode,
}

impl Newest {
    /// Reads what the plugin is called.
    pub(super) fn new() -> Self {
        let name = |path| attribute(path).unwrap_or_default();
        let (plugin, root) = (name("plugin_name"), name("plugin_root_id"));
        let (plugin, root) = (String::from_utf8_lossy(&plugin), String::from_utf8_lossy(&root));
        Self { key: format!("firstword.mode/{plugin}/{root}") }
    }

    /// Says that a configuration with this mode came now.
    pub(super) fn tell(&self, mode: Mode) -> Result<(), Status> {
        host::set_shared_data(&self.key, &Told { since: host::now(), mode }.encode())
    }

    /// What was told last.
    pub(super) fn told(&self) -> Option<Told> {
        Told::decode(&host::shared_data(&self.key).ok()??)
    }
}

impl Told {
    fn encode(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        let mode = [match self.mode {
            Mode::Active => b'a',
            Mode::Observe => b'o',
            Mode::Off => b'x',
        }];
        for (slot, byte) in bytes.iter_mut().zip(self.since.nanos().to_le_bytes().into_iter().chain(mode)) {
            *slot = byte;
        }
        bytes
    }

    /// None: another version of this filter wrote it in another way.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, mode) = bytes.split_first_chunk()?;
        let mode = match mode {
            b"a" => Mode::Active,
            b"o" => Mode::Observe,
            b"x" => Mode::Off,
            _ => return None,
        };
        Some(Self { since: Timestamp::from_nanos(u64::from_le_bytes(*since)), mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_said() {
        for mode in [Mode::Active, Mode::Observe, Mode::Off] {
            let told = Told { since: Timestamp::from_nanos(0x0102_0304_0506_0708), mode };
            assert_eq!(Told::decode(&told.encode()), Some(told));
        }
        assert_eq!(Told::decode(b"12345678"), None);
        assert_eq!(Told::decode(b"12345678xx"), None);
        assert_eq!(Told::decode(b""), None);
    }
}
