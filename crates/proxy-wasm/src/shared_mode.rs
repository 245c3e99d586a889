//! The mode of the newest configuration, in the data that all VMs with one `vm_id` share.
//!
//! Envoy keeps the plugin of an older configuration as long as it has connections, in another VM if the module changed. Only
//! shared data reaches it there.

use firstword::filter::host::HostError;
use firstword::filter::mode::PublishedMode;

use crate::hostcalls::{self, property};

/// Shared data in which the plugins of one name publish the mode of their newest configuration. Plugins that have different
/// configurations at the same time need different names, as they do in Envoy's statistics.
#[derive(Debug)]
pub(crate) struct SharedMode {
    key: String,
}

impl SharedMode {
    /// Reads the plugin's name, which becomes part of the key.
    pub(crate) fn new() -> Self {
        let name = |path| property(path).unwrap_or_default();
        let (plugin, root) = (name("plugin_name"), name("plugin_root_id"));
        let (plugin, root) = (String::from_utf8_lossy(&plugin), String::from_utf8_lossy(&root));
        Self { key: format!("firstword.mode/{plugin}/{root}") }
    }

    /// Publishes the mode of the newest configuration.
    pub(crate) fn publish(&self, mode: PublishedMode) -> Result<(), HostError> {
        hostcalls::set_shared_data(&self.key, &mode.encode())
    }

    /// Returns the mode that was published last. `None` if the host does not provide it.
    pub(crate) fn newest(&self) -> Option<PublishedMode> {
        PublishedMode::decode(&hostcalls::shared_data(&self.key)?)
    }
}
