//! What `--diff` compares of one input: whole listeners, because Envoy compares whole messages, and filters by name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::envoy::dump::{Content, Document, NO_LISTENER};
use super::super::input::{Source, named};

/// The place of an input in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Before,
    After,
}

#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// The name of the input in texts.
    pub(super) input: String,
    pub(super) content: Option<Content>,
    /// The node's id; empty if the input has none.
    pub(super) node: String,
    /// By name.
    pub(super) listeners: BTreeMap<String, Entry>,
    /// Listeners without a name. Envoy gives each a new random name in each update.
    pub(super) unnamed: usize,
    /// Configurations of filters that Envoy discovers by name.
    pub(super) extensions: BTreeMap<String, Value>,
    /// Listeners that Envoy refused, each with its name and the reason.
    pub(super) refused: Vec<(String, String)>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// Whether it is part of the bootstrap, which Envoy reads once.
    pub(super) is_static: bool,
}

impl Configuration {
    /// Reads an input. An error begins with its name.
    pub(super) fn read(source: Source, place: Place) -> Result<Self, String> {
        let Source { name, documents, .. } = source;
        let read = Document::of(documents).and_then(|document| Self::of(document, place));
        let read = read.map_err(|problem| named(&name, &problem))?;
        Ok(Self { input: name, ..read })
    }

    fn of(document: Document, place: Place) -> Result<Self, String> {
        let Document { mut value, content } = document;
        let mut configuration = Self { content: Some(content), ..Self::default() };
        match content {
            Content::ConfigDump => {
                for (config, at) in taken(&mut value, "configs", "$")? {
                    configuration.add_config(config, &at, place)?;
                }
            }
            Content::Bootstrap => {
                configuration.node = node(&value);
                let mut resources = value.get_mut("static_resources").map(Value::take).unwrap_or_default();
                for (listener, at) in taken(&mut resources, "listeners", "$.static_resources")? {
                    configuration.add_listener(listener, &at, true)?;
                }
            }
            Content::Listeners => {
                for (index, listener) in value.as_array_mut().into_iter().flatten().enumerate() {
                    configuration.add_listener(listener.take(), &format!("$[{index}]"), false)?;
                }
            }
            Content::Listener => configuration.add_listener(value, "$", false)?,
        }
        let is_empty = configuration.listeners.is_empty() && configuration.refused.is_empty();
        if is_empty && configuration.unnamed == 0 {
            return Err(NO_LISTENER.to_owned());
        }
        Ok(configuration)
    }

    fn add_config(&mut self, mut config: Value, at: &str, place: Place) -> Result<(), String> {
        let kind = text(&config, "@type").rsplit('.').next().unwrap_or_default().to_owned();
        match kind.as_str() {
            "BootstrapConfigDump" => self.node = config.get("bootstrap").map(node).unwrap_or_default(),
            "ListenersConfigDump" => {
                for (mut entry, path) in taken(&mut config, "static_listeners", at)? {
                    let listener = entry.get_mut("listener").map(Value::take).unwrap_or_default();
                    self.add_listener(listener, &format!("{path}.listener"), true)?;
                }
                for (entry, path) in taken(&mut config, "dynamic_listeners", at)? {
                    self.add_dynamic(entry, &path, place)?;
                }
            }
            "EcdsConfigDump" => {
                for (mut entry, _) in taken(&mut config, "ecds_filters", at)? {
                    let Some(filter) = entry.get_mut("ecds_filter").map(Value::take) else { continue };
                    self.extensions.insert(text(&filter, "name").to_owned(), filter);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds the version of a listener that has the connections before the change, or the one that gets them after it.
    fn add_dynamic(&mut self, mut entry: Value, at: &str, place: Place) -> Result<(), String> {
        if let Some(error) = entry.get("error_state") {
            self.refused.push((text(&entry, "name").to_owned(), text(error, "details").to_owned()));
        }
        let states = match place {
            Place::Before => ["active_state", "warming_state"],
            Place::After => ["warming_state", "active_state"],
        };
        let Some(state) = states.into_iter().find(|state| entry.get(state).is_some()) else { return Ok(()) };
        let listener = entry.pointer_mut(&format!("/{state}/listener")).map(Value::take).unwrap_or_default();
        self.add_listener(listener, &format!("{at}.{state}.listener"), false)
    }

    fn add_listener(&mut self, value: Value, at: &str, is_static: bool) -> Result<(), String> {
        if !value.is_object() {
            return Err(format!("{at}: expected a listener, found none"));
        }
        let name = text(&value, "name").to_owned();
        if name.is_empty() {
            self.unnamed = self.unnamed.saturating_add(1);
        } else {
            self.listeners.insert(name, Entry { value, is_static });
        }
        Ok(())
    }
}

/// A text field; empty if it is absent.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn node(bootstrap: &Value) -> String {
    bootstrap.get("node").map(|node| text(node, "id").to_owned()).unwrap_or_default()
}

/// Takes the elements of a list out of an object, each with its path.
fn taken(value: &mut Value, key: &str, at: &str) -> Result<Vec<(Value, String)>, String> {
    match value.get_mut(key).map(Value::take) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (item, format!("{at}.{key}[{index}]")))
            .collect()),
        Some(_) => Err(format!("{at}.{key}: expected a list, found something else")),
    }
}
