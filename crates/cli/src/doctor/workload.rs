//! `firstword doctor deploy/NAME`: a workload of a cluster.
//!
//! The command itself reads no cluster, and prints what to run. As the plugin `kubectl firstword` it runs that, after it has
//! printed the context and the command.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use firstword::escape;

use super::fix::is_name;
use super::kubeconfig::Context;
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

const NO_CONTEXT: &str = "No current context of kubectl was found: set KUBECONFIG, or use --context";

/// A workload, and where the user says that it is.
pub(super) struct Workload<'a> {
    name: &'a str,
    namespace: Option<&'a str>,
    context: Option<&'a str>,
}

impl<'a> Workload<'a> {
    /// The workload that the input names. `None` if it names a file or an address.
    pub(super) fn of(input: &'a Path, namespace: Option<&'a str>, context: Option<&'a str>) -> Option<Self> {
        let text = input.to_str()?;
        let (kind, name) = text.split_once('/')?;
        let is_workload = KINDS.contains(&kind) && is_name(name) && !input.exists();
        is_workload.then_some(Self { name: text, namespace, context })
    }

    /// The command for the workload, and where it would run.
    pub(super) fn instructions(&self, options: &str) -> String {
        let context = match (self.context, Context::current()) {
            (Some(_), _) => String::new(),
            (None, Some(current)) => format!("\nkubectl's current context is {}.\n", current.in_words()),
            (None, None) => format!("\n{NO_CONTEXT}.\n"),
        };
        format!(
            "{} is a workload. This command reads no cluster. Run:\n\n  {} | firstword doctor -{options}\n{context}",
            escape::text(self.name),
            escape::text(&line(&self.istioctl())),
        )
    }

    /// Reads the configuration of the workload's proxy by istioctl, or by kubectl if there is no istioctl. First prints the
    /// context and the command, so that a user sees which cluster is read.
    pub(super) fn fetch(&self) -> Result<Vec<u8>, String> {
        let current;
        let (name, namespace, in_words) = match self.context {
            Some(name) => (name, self.namespace, escape::text(name)),
            None => {
                current = Context::current().ok_or(NO_CONTEXT)?;
                let namespace = self.namespace.or(current.namespace.as_deref());
                (current.name.as_str(), namespace, current.in_words())
            }
        };
        // The context is always an argument, so that the command runs where this text says.
        let there = Workload { context: Some(name), namespace, name: self.name };
        let command = if is_program("istioctl") { there.istioctl() } else { there.kubectl() };
        let text = format!("context  {in_words}\ncommand  {}\n", escape::text(&line(&command)));
        let _ = io::stderr().write_all(text.as_bytes());
        run(&command)
    }

    fn istioctl(&self) -> Vec<&'a str> {
        let command = ["proxy-config", "all", self.name, "-o", "json"];
        ["istioctl"].into_iter().chain(self.place()).chain(command).collect()
    }

    fn kubectl(&self) -> Vec<&'a str> {
        let exec = ["exec", self.name, "--container", "istio-proxy", "--"];
        let request = ["pilot-agent", "request", "GET", "config_dump?include_eds"];
        ["kubectl"].into_iter().chain(self.place()).chain(exec).chain(request).collect()
    }

    /// The options of kubectl and istioctl that choose the cluster and the namespace.
    fn place(&self) -> impl Iterator<Item = &'a str> {
        let options = [("--context", self.context), ("--namespace", self.namespace)];
        options.into_iter().filter_map(|(name, value)| Some([name, value?])).flatten()
    }
}

/// A command as a shell reads it.
fn line(command: &[&str]) -> String {
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c))
    };
    let word = |text: &&str| match is_plain(text) {
        true => (*text).to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Whether a folder of `PATH` has a file of this name.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// The standard output of a command that succeeds. Its standard error is the user's.
fn run(command: &[&str]) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = command else { return Err("no command".to_owned()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: cannot run it: {error}"))?;
    let bytes = match child.stdout.take() {
        Some(output) => documents::read_all(output),
        None => Ok(Vec::new()),
    };
    if bytes.is_err() {
        // Otherwise it could wait for ever for a reader of its output.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    let bytes = bytes.map_err(|problem| format!("{program}: {problem}"))?;
    if status.success() { Ok(bytes) } else { Err(format!("{program} failed: {status}")) }
}
