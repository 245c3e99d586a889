//! The current context in kubectl's files.

use std::path::PathBuf;

use firstword::escape;
use serde_json::Value;

use crate::documents;

/// A context of kubectl, with the namespace that it chooses.
pub(super) struct Context {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The file that makes it the current context.
    pub(super) file: PathBuf,
}

impl Context {
    /// The current context. `None` if the files name none.
    pub(super) fn current() -> Option<Self> {
        let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
        let files: Vec<PathBuf> = match &listed {
            Some(list) => std::env::split_paths(list).collect(),
            None => vec![PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")],
        };
        let read = |file: &PathBuf| documents::parse(&documents::read(file).ok()?).ok()?.into_iter().next();
        let configs: Vec<(&PathBuf, Value)> =
            files.iter().filter_map(|file| Some((file, read(file)?))).collect();
        let (file, name) = configs.iter().find_map(|(file, config)| {
            let name = config.get("current-context")?.as_str()?;
            (!name.is_empty()).then_some((file, name))
        })?;
        let contexts = configs.iter().filter_map(|(_, config)| config.get("contexts")?.as_array()).flatten();
        let namespace = contexts
            .filter(|context| context.get("name").and_then(Value::as_str) == Some(name))
            .find_map(|context| context.get("context")?.get("namespace")?.as_str());
        Some(Self {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            file: file.to_path_buf(),
        })
    }

    /// The context in a few words, as in `prod (namespace shop), in /home/me/.kube/config`.
    pub(super) fn in_words(&self) -> String {
        let namespace =
            self.namespace.as_ref().map_or_else(String::new, |name| format!(" (namespace {name})"));
        escape::text(&format!("{}{namespace}, in {}", self.name, self.file.display()))
    }
}
