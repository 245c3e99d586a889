//! Envoy's comparison of two listeners apart from their chains: a field with its default value equals an absent one, and lists
//! are sets (`ListenerMessageUtil::filterChainOnlyChange`).

use serde_json::{Map, Value};

/// The parts of a listener that Envoy can replace while its other connections continue.
pub(super) const CHAIN_FIELDS: [&str; 3] = ["filter_chains", "default_filter_chain", "filter_chain_matcher"];

/// Names of enumeration values that are the default of their fields.
const DEFAULT_NAMES: [&str; 2] = ["UNSPECIFIED", "DEFAULT"];

/// Fields in which each key is data: an entry with a default value is not an absent entry.
const DATA: [&str; 2] = ["filter_metadata", "typed_filter_metadata"];

/// The names of the fields in which two listeners differ, without those of [`CHAIN_FIELDS`].
pub(super) fn differing_fields(before: &Value, after: &Value) -> Vec<String> {
    let fields = |listener: &Value| match listener {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !CHAIN_FIELDS.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.clone(), canonical(name, value)?)))
            .collect(),
        _ => Map::new(),
    };
    let (before, after) = (fields(before), fields(after));
    let mut names: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A form that is equal for equivalent values; `None` for a default value.
fn canonical(name: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::String(text) if is_default(text) => None,
        Value::Array(items) => {
            let mut items: Vec<_> =
                items.iter().map(|item| canonical("", item).unwrap_or_default()).collect();
            items.sort_by_cached_key(Value::to_string);
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(_) if DATA.contains(&name) => Some(value.clone()),
        Value::Object(fields) => {
            let fields: Map<_, _> = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), canonical(name, value)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(other.clone()),
    }
}

/// Whether a text is empty, a whole number or duration of zero, or the default of an enumeration.
fn is_default(text: &str) -> bool {
    let number = text.strip_suffix('s').unwrap_or(text);
    text.is_empty() || number.parse() == Ok(0.0) || DEFAULT_NAMES.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn default_values_equal_absent_fields_and_lists_are_sets() {
        let base = json!({"name": "a", "listener_filters": [{"name": "x"}, {"name": "y"}]});
        let with = |key: &str, value: Value| {
            let mut listener = base.clone();
            listener[key] = value;
            differing_fields(&base, &listener)
        };
        for (key, value) in [
            ("listener_filters", json!([{"name": "y"}, {"name": "x"}])),
            ("listener_filters_timeout", json!("0s")),
            ("use_original_dst", json!(false)),
            ("tcp_backlog_size", json!(0)),
            ("traffic_direction", json!("UNSPECIFIED")),
            ("connection_balance_config", json!({})),
            ("filter_chains", json!([{"name": "new"}])),
        ] {
            assert_eq!(with(key, value), Vec::<String>::new(), "{key}");
        }
        for (key, value) in [
            ("listener_filters", json!([{"name": "x"}])),
            ("listener_filters", json!([{"name": "x"}, {"name": "x"}])),
            ("listener_filters_timeout", json!("1s")),
            ("metadata", json!({"filter_metadata": {"istio": {"a": ""}}})),
        ] {
            assert_eq!(with(key, value), [key], "{key}");
        }
    }
}
