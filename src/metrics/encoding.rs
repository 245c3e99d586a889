//! The encoding of labels in a metric's name: `label=.=value;.;label=.=value;.;name`.
//!
//! Envoy's wasm metrics have only names. One `stats_tags` rule (Istio: `extraStatTags`) for each label turns them into labels
//! again. A host that has labels decodes the name itself.

use super::ScopeLabel;

/// The start of every metric's name.
pub(super) const PREFIX: &str = "firstword_";

/// Texts at which Istio's bootstrap splits a name, wherever they occur.
pub const RESERVED: [&str; 4] = ["cache.", "tag.", "component.", "wasm_filter."];

/// Maximum number of characters of the name of a destination.
const MAX_VALUE_LEN: usize = 128;

impl ScopeLabel {
    /// The name of the label, also in `metrics.labels`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Direction => "direction",
            Self::Destination => "destination",
            Self::Port => "port",
        }
    }
}

/// Turns a name of Envoy or of the operator into a label value: lower case, `_` for every character that is not in
/// `[a-z0-9_+./-]`, and no text of [`RESERVED`].
#[must_use]
pub fn label_value(name: &str) -> String {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_+./-".contains(c);
    let lower = name.chars().take(MAX_VALUE_LEN).map(|c| c.to_ascii_lowercase());
    let mut value: String = lower.map(|c| if legal(c) { c } else { '_' }).collect();
    for reserved in RESERVED {
        value = value.replace(reserved, &reserved.replace('.', "_"));
    }
    value
}

/// Name of a metric, and its labels with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Labels, in the order of the encoding.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Name without labels, with the prefix `firstword_`.
    pub name: &'a str,
}

/// Decodes a metric's name. It was encoded by this library, because no value of a label contains a separator.
#[must_use]
pub fn decode(encoded: &str) -> Decoded<'_> {
    let (labels, name) = encoded.rsplit_once(";.;").unwrap_or(("", encoded));
    Decoded { labels: labels.split(";.;").filter_map(|label| label.split_once("=.=")).collect(), name }
}

/// Appends one label to the labels of a name.
pub(super) fn push_label(text: &mut String, key: &str, value: &str) {
    text.extend([key, "=.=", value, ";.;"]);
}

/// The labels that the names of all metrics of one scope begin with.
pub(super) fn scope<'a>(labels: impl Iterator<Item = (ScopeLabel, &'a str)>) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        push_label(&mut text, label.key(), value);
    }
    text
}

/// Appends the end of a name.
pub(super) fn push_name(text: &mut String, name: &str, ending: &str) {
    text.extend([PREFIX, name, ending]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_become_label_values() {
        let cases = [
            ("orders", "orders"),
            ("PassthroughCluster", "passthroughcluster"),
            ("outbound|3306||db.default.svc.cluster.local", "outbound_3306__db.default.svc.cluster.local"),
            ("my-cache.prod", "my-cache_prod"),
            ("wasm_filter.tag.x", "wasm_filter_tag_x"),
            ("a;.;b=.=c", "a_._b_._c"),
            ("büro", "b_ro"),
            ("", ""),
        ];
        for (name, value) in cases {
            assert_eq!(label_value(name), value);
        }
        assert_eq!(label_value(&"x".repeat(1000)).len(), MAX_VALUE_LEN);
    }

    #[test]
    fn labels_come_first() {
        let labels = [(ScopeLabel::Direction, "outbound"), (ScopeLabel::Destination, "orders")];
        let mut text = scope(labels.into_iter());
        push_label(&mut text, "command", "query");
        push_name(&mut text, "commands", "_total");
        let expected =
            "direction=.=outbound;.;destination=.=orders;.;command=.=query;.;firstword_commands_total";
        assert_eq!(text, expected);
        let labels = vec![("direction", "outbound"), ("destination", "orders"), ("command", "query")];
        assert_eq!(decode(&text), Decoded { labels, name: "firstword_commands_total" });
        assert_eq!(decode("firstword_series"), Decoded { labels: vec![], name: "firstword_series" });
    }
}
