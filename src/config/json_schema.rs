//! The JSON Schema of a configuration, and that of the Istio resources which hold one. Both are made from the table of settings.
//!
//! The schemas accept every valid configuration. They also accept some that the filter refuses, because a schema cannot compare
//! two settings and cannot compare two durations.

use serde_json::{Map, Value, json};

use super::rule::MAX_RULES;
use super::settings::{Absent, SETTINGS, Setting, Values};

/// The dialect that editors know best.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

const UNSIGNED: &str = "(0|[1-9][0-9]*)";

/// The schema of a configuration.
#[must_use]
pub fn configuration() -> Value {
    let mut root = Map::new();
    for setting in SETTINGS {
        insert(&mut root, setting.path, of(setting));
    }
    let mut schema = object(root);
    if let Some(rules) = schema.pointer_mut("/properties/rules").and_then(Value::as_object_mut) {
        rules.insert("maxItems".to_owned(), MAX_RULES.into());
    }
    add(&mut schema, "$schema", DIALECT.into());
    add(&mut schema, "title", "Configuration of Firstword".into());
    schema
}

/// The schema of a Kubernetes object. It describes `pluginConfig` of a WasmPlugin and a TrafficExtension, and nothing else.
#[must_use]
pub fn kubernetes() -> Value {
    let at = |path: &[&str]| {
        let reference = json!({"$ref": "#/definitions/configuration"});
        path.iter().rev().fold(reference, |inner, key| json!({"properties": {*key: inner}}))
    };
    let of_kind = |kind: &str, path: &[&str]| json!({"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": at(path)});
    let mut definition = configuration();
    if let Some(definition) = definition.as_object_mut() {
        definition.remove("$schema");
    }
    json!({
        "$schema": DIALECT,
        "title": "Istio resources that hold a configuration of Firstword",
        "type": "object",
        "allOf": [
            of_kind("WasmPlugin", &["spec", "pluginConfig"]),
            of_kind("TrafficExtension", &["spec", "wasm", "pluginConfig"]),
        ],
        "definitions": {"configuration": definition},
    })
}

/// Inserts the schema of a setting at its path, and makes the objects around it.
fn insert(properties: &mut Map<String, Value>, path: &str, schema: Value) {
    let Some((key, rest)) = path.split_once('.') else {
        properties.insert(path.to_owned(), schema);
        return;
    };
    let name = key.trim_end_matches("[]");
    let is_array = name.len() < key.len();
    let empty =
        || if is_array { json!({"type": "array", "items": object(Map::new())}) } else { object(Map::new()) };
    let value = properties.entry(name).or_insert_with(empty);
    let inner =
        if is_array { value.pointer_mut("/items/properties") } else { value.pointer_mut("/properties") };
    if let Some(inner) = inner.and_then(Value::as_object_mut) {
        insert(inner, rest, schema);
    }
}

fn object(properties: Map<String, Value>) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn of(setting: &Setting) -> Value {
    let names = |words: &[(&str, &str)]| words.iter().map(|(word, _)| json!(word)).collect::<Vec<_>>();
    let text = |pattern: String| json!({"type": "string", "pattern": pattern});
    let mut schema = match setting.values {
        Values::Word(words) => json!({"enum": names(words)}),
        Values::Words(words) => {
            json!({"type": "array", "items": {"enum": names(words)}, "uniqueItems": true})
        }
        Values::Boolean => json!({"type": "boolean"}),
        Values::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Values::Duration(..) => text("^[0-9]+(ms|s|m|h)$".to_owned()),
        Values::Size(..) => text("^[0-9]+(KiB|MiB)$".to_owned()),
        Values::Name => text("^[a-z0-9_+./-]{1,64}$".to_owned()),
        Values::Ports => {
            let port = json!({"type": "integer", "minimum": 1, "maximum": 65_535});
            let range = text(format!("^{UNSIGNED}-{UNSIGNED}$"));
            json!({"type": "array", "items": {"anyOf": [port, range]}, "minItems": 1})
        }
        Values::Networks => {
            json!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1})
        }
    };
    let mut description = format!("{}.", plain(setting.meaning));
    if let Values::Duration(min, max) | Values::Size(min, max) = setting.values {
        description.push_str(&format!(" From {min} to {max}."));
    }
    add(&mut schema, "description", description.into());
    if let Absent::Value(default) = setting.default {
        add(&mut schema, "default", serde_json::from_str(default).unwrap_or_default());
    }
    schema
}

fn add(schema: &mut Value, key: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(key.to_owned(), value);
    }
}

/// A text without the marks and links of Markdown.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((name, after)) = after.split_once("](") else { break };
        let Some((_, after)) = after.split_once(')') else { break };
        text.push_str(before);
        text.push_str(name);
        rest = after;
    }
    text.push_str(rest);
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_keys_that_the_reader_knows() {
        let table: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.path.to_owned()).collect();
        assert_eq!(table.len(), SETTINGS.len());
        // The reader knows `defaults.proxy_protocol` and `defaults.tls` to refuse them with the reason. `defaults.mysql` has those keys of a rule's
        // `mysql` that change no bytes.
        let refused = |path: &String| path.starts_with("defaults.proxy_protocol") || path == "defaults.tls";
        let mut known: BTreeSet<_> = keys::settings().filter(|path| !refused(path)).collect();
        assert!(known.remove("defaults.mysql"));
        known.extend(["defaults.mysql.inspect", "defaults.mysql.slow_command"].map(str::to_owned));
        assert_eq!(table, known);
    }

    #[test]
    fn defaults_are_json() {
        for setting in SETTINGS {
            if let Absent::Value(default) = setting.default {
                serde_json::from_str::<Value>(default).unwrap();
            }
        }
    }

    #[test]
    fn descriptions_have_no_markdown() {
        assert_eq!(plain("The `keys` of [a state](x.md), [b](y.md)"), "The keys of a state, b");
        assert_eq!(plain("[a-z] (b)"), "[a-z] (b)");
    }
}
