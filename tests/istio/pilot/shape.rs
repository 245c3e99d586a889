//! Templates from `shapes.yaml`.

use std::sync::LazyLock;

use serde_json::Value;

/// The template of this name with its `${...}` filled in. A string that becomes a number only is converted to one.
pub fn shape(name: &str, fill: &[(&str, &str)]) -> Value {
    static SHAPES: LazyLock<Value> =
        LazyLock::new(|| serde_norway::from_str(include_str!("shapes.yaml")).expect("shapes.yaml"));
    let mut value = SHAPES.get(name).unwrap_or_else(|| panic!("no shape {name}")).clone();
    fill_in(&mut value, fill);
    value
}

fn fill_in(value: &mut Value, fill: &[(&str, &str)]) {
    match value {
        Value::String(text) if text.contains("${") => {
            let alone = text.starts_with("${") && text.ends_with('}') && text.matches("${").count() == 1;
            for (name, with) in fill {
                *text = text.replace(&format!("${{{name}}}"), with);
            }
            assert!(!text.contains("${"), "not filled in: {text}");
            if let (true, Ok(number)) = (alone, text.parse::<u32>()) {
                *value = number.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, fill)),
        Value::Object(entries) => entries.values_mut().for_each(|entry| fill_in(entry, fill)),
        _ => {}
    }
}

/// A filter that passes a connection on to a cluster.
pub fn tcp_proxy(cluster: &str) -> Value {
    shape("tcp_proxy", &[("cluster", cluster)])
}
