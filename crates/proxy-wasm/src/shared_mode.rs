//! The mode of the newest accepted configuration, and the rejected configurations, in the data that all VMs with one `vm_id`
//! share.
//!
//! Envoy keeps the plugin of an older configuration as long as it has connections, in another VM if the module changed. Only
//! shared data reaches it there.

use std::hash::{DefaultHasher, Hash, Hasher};

use firstword::filter::host::HostError;
use firstword::filter::mode::PublishedMode;

use crate::hostcalls::{self, property};

/// Shared data in which the plugins of one name publish the mode of their newest configuration. Plugins that have different
/// configurations at the same time need different names, as they do in Envoy's statistics.
#[derive(Debug)]
pub(crate) struct SharedMode {
    /// Name of the plugin, as a part of keys.
    plugin: String,
    key: String,
}

impl SharedMode {
    /// Reads the plugin's name, which becomes part of the key.
    pub(crate) fn new() -> Self {
        let name = |path| property(path).unwrap_or_default();
        let (plugin, root) = (name("plugin_name"), name("plugin_root_id"));
        let (plugin, root) = (String::from_utf8_lossy(&plugin), String::from_utf8_lossy(&root));
        let plugin = format!("{plugin}/{root}");
        Self { key: format!("firstword.mode/{plugin}"), plugin }
    }

    /// Publishes the mode of the newest configuration.
    pub(crate) fn publish(&self, mode: PublishedMode) -> Result<(), HostError> {
        hostcalls::set_shared_data(&self.key, &mode.encode())
    }

    /// Returns the mode that was published last. `None` if the host does not provide it.
    pub(crate) fn newest(&self) -> Option<PublishedMode> {
        PublishedMode::decode(&self.published()?)
    }

    /// Returns what the last accepted configuration has published, which differs for each configuration and each VM. `None`
    /// if the proxy has accepted no configuration of this plugin.
    pub(crate) fn published(&self) -> Option<Vec<u8>> {
        hostcalls::shared_data(&self.key)
    }

    /// Remembers that the proxy runs with the defaults in place of this configuration.
    pub(crate) fn remember_rejected(&self, configuration: &[u8]) -> Result<(), HostError> {
        hostcalls::set_shared_data(&self.rejected_key(configuration), &[1])
    }

    /// True if the proxy runs, or ran, with the defaults in place of this configuration.
    pub(crate) fn has_rejected(&self, configuration: &[u8]) -> bool {
        hostcalls::shared_data(&self.rejected_key(configuration)).is_some()
    }

    fn rejected_key(&self, configuration: &[u8]) -> String {
        let mut hasher = DefaultHasher::new();
        configuration.hash(&mut hasher);
        format!("firstword.rejected/{}/{:x}", self.plugin, hasher.finish())
    }
}
