//! `firstword doctor deploy/NAME`: the command to run, because this one reads no cluster.

use std::path::{Path, PathBuf};

use firstword::escape;
use serde_json::Value;

use super::fix::is_name;
use crate::documents;

/// Kinds of resources that `istioctl proxy-config` accepts.
const KINDS: [&str; 12] = [
    "daemonset",
    "deploy",
    "deployment",
    "deployments",
    "ds",
    "gateway",
    "job",
    "po",
    "pod",
    "pods",
    "statefulset",
    "sts",
];

/// Whether the input names a workload, and not a file.
pub(super) fn is_workload(input: &Path) -> bool {
    let named = input.to_str().and_then(|text| text.split_once('/'));
    named.is_some_and(|(kind, name)| KINDS.contains(&kind) && is_name(name)) && !input.exists()
}

/// The command for a workload, and where it would run.
pub(super) fn instructions(workload: &Path, options: &str) -> String {
    let workload = escape::text(&workload.to_string_lossy());
    let context = match current_context() {
        Some((file, context)) => format!("kubectl's current context is {context}, in {file}."),
        None => "No current context of kubectl was found: set KUBECONFIG, or use --context.".to_owned(),
    };
    format!(
        "{workload} is a workload. This command reads no cluster. Run:\n\n  istioctl proxy-config all {workload} -o json | firstword \
         doctor -{options}\n\n{context}\n"
    )
}

/// The current context in kubectl's files, with its namespace, and the file that names it.
fn current_context() -> Option<(String, String)> {
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let files: Vec<PathBuf> = match &listed {
        Some(list) => std::env::split_paths(list).collect(),
        None => vec![PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")],
    };
    let read = |file: &PathBuf| documents::parse(&documents::read(file).ok()?).ok()?.into_iter().next();
    let configs: Vec<(&PathBuf, Value)> = files.iter().filter_map(|file| Some((file, read(file)?))).collect();
    let (file, name) = configs.iter().find_map(|(file, config)| {
        let name = config.get("current-context")?.as_str()?;
        (!name.is_empty()).then_some((file, name))
    })?;
    let contexts = configs.iter().filter_map(|(_, config)| config.get("contexts")?.as_array()).flatten();
    let namespace = contexts
        .filter(|context| context.get("name").and_then(Value::as_str) == Some(name))
        .find_map(|context| context.get("context")?.get("namespace")?.as_str());
    let namespace = namespace.map_or_else(String::new, |name| format!(" (namespace {})", escape::text(name)));
    Some((escape::text(&file.to_string_lossy()), format!("{}{namespace}", escape::text(name))))
}
