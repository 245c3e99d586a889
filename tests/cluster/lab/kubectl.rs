//! kubectl, as a user runs it, in the namespace of the API server.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::program;
use super::world::World;

/// The administrator's kubectl.
pub struct Kubectl {
    world: Arc<World>,
    program: PathBuf,
    config: PathBuf,
}

impl Kubectl {
    pub fn new(world: &Arc<World>, config: PathBuf) -> Self {
        Self { world: Arc::clone(world), program: program("kubectl"), config }
    }

    /// A command that runs kubectl in the repository's directory, without arguments yet.
    pub fn command(&self) -> Command {
        self.of(&self.program)
    }

    /// A command that runs a program that reads `KUBECONFIG`.
    pub fn of(&self, program: &PathBuf) -> Command {
        let mut command = self.world.namespace.command();
        command.arg(program);
        self.configure(&mut command);
        command
    }

    /// Sets the directory and the variables of a program that uses the API server.
    pub fn configure(&self, command: &mut Command) {
        command.current_dir(firstword_testing::root());
        command.env("KUBECONFIG", &self.config).env("KUBERC", "off");
        // kubectl caches what the API server offers in the home directory.
        command.env("HOME", self.world.files());
    }

    /// Runs kubectl with this standard input. Returns both of its outputs, the error's text as `Err` if it fails.
    pub fn attempt(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl's input");
        let output = child.wait_with_output().expect("kubectl's end");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Runs kubectl, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// Runs kubectl with this standard input. It must succeed.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        self.attempt(arguments, input)
            .unwrap_or_else(|why| panic!("kubectl {}: {why}\n{input}", arguments.join(" ")))
    }

    /// Applies these documents.
    pub fn apply(&self, documents: &str) -> String {
        self.run_with(&["apply", "-f", "-"], documents)
    }

    /// Deletes these documents, if they exist, and waits until they are gone.
    pub fn delete(&self, documents: &str) {
        self.run_with(&["delete", "--ignore-not-found", "-f", "-"], documents);
    }

    /// Reads an object or a list. `None` if it does not exist.
    pub fn get(&self, arguments: &[&str]) -> Option<Value> {
        let mut command = self.command();
        command.arg("get").args(arguments).args(["-o", "json", "--ignore-not-found"]);
        let output = command.output().expect("kubectl");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl get {}: {error}", arguments.join(" "));
        (!output.stdout.is_empty()).then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }
}
