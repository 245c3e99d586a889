//! One spelling of keys: protobuf's JSON has them in `snake_case` (Envoy's `/config_dump`) or in `camelCase` (`istioctl`).

use serde_json::{Map, Value};

/// Changes all keys to `snake_case` and removes keys with the value `null`, which is protobuf's "not set".
///
/// Objects with keys that are data and not fields stay unchanged.
pub(in super::super) fn snake_case(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(snake_case).collect(),
        Value::Object(entries) => {
            let mut renamed = Map::new();
            for (key, value) in entries.into_iter().filter(|(_, value)| !value.is_null()) {
                let key = snake(&key);
                let is_data = ["filter_metadata", "metadata"].contains(&key.as_str())
                    && !value.as_object().is_some_and(|object| {
                        object.contains_key("filter_metadata") || object.contains_key("filterMetadata")
                    });
                renamed.insert(key, if is_data { value } else { snake_case(value) });
            }
            Value::Object(renamed)
        }
        other => other,
    }
}

fn snake(key: &str) -> String {
    // `@type`, and other keys that are not names of fields.
    if !key.starts_with(|first: char| first.is_ascii_lowercase()) {
        return key.to_owned();
    }
    let mut snake = String::with_capacity(key.len());
    for char in key.chars() {
        if char.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_fields_change_and_data_does_not() {
        let given = json!({
            "filterChains": [{"typedConfig": {"@type": "T", "statPrefix": "aB", "x": null}}],
            "metadata": {"filterMetadata": {"istio": {"aB": 1}}},
            "node": {"metadata": {"LABELS": {"aB": "c"}}},
        });
        let expected = json!({
            "filter_chains": [{"typed_config": {"@type": "T", "stat_prefix": "aB"}}],
            "metadata": {"filter_metadata": {"istio": {"aB": 1}}},
            "node": {"metadata": {"LABELS": {"aB": "c"}}},
        });
        assert_eq!(snake_case(given), expected);
    }
}
