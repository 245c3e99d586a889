//! Envoy's `/stats` as text: `NAME: VALUE` lines.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Statistics(BTreeMap<String, u64>);

impl Statistics {
    /// Reads the text. Ignores lines without a whole number (histograms, texts).
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| format!("expected Envoy's /stats, found {error}"))?;
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        let read: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        if read.is_empty() {
            return Err("expected Envoy's /stats (lines such as \"listener.0.0.0.0_10000.downstream_cx_total: 0\"), found \
                        none"
                .to_owned());
        }
        Ok(Self(read))
    }

    /// A statistic of a listener, by the listener's name in statistics.
    pub(super) fn of_listener(&self, listener: &str, name: &str) -> Option<u64> {
        self.0.get(&format!("listener.{listener}.{name}")).copied()
    }

    /// Whether Envoy has refused each configuration of a network filter that it discovers by name.
    pub(super) fn has_refused_filter(&self, filter: &str) -> bool {
        let of =
            |name: &str| self.0.get(&format!("extension_config_discovery.network_filter.{filter}.{name}"));
        of("update_rejected").is_some_and(|count| *count > 0) && of("update_success") == Some(&0)
    }

    /// Whether any listener has the statistic.
    pub(super) fn has_any(&self, name: &str) -> bool {
        let is = |known: &String| {
            known.starts_with("listener.") && known.ends_with(name) && !known.contains(".admin.")
        };
        self.0.keys().any(is)
    }
}
