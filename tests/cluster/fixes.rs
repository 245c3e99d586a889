//! The fixes that `firstword doctor` prints, carried out as printed.

use std::time::Duration;

use crate::lab::pod::Pod;
use crate::mesh::Mesh;
use crate::outcome::{Outcome, Probe, in_words};
use firstword_testing::doctor::Verdict;
use firstword_testing::probe::Http;

/// A fix in the report.
pub struct Fix {
    pub what: String,
    /// `None` if the fix is an instruction.
    yaml: Option<String>,
    /// The files in `istio/` from which it is made.
    pub from: String,
}

impl Fix {
    /// The fixes of the first finding about a destination.
    pub fn printed(verdict: &Verdict) -> Vec<Self> {
        let findings = verdict.0["findings"].as_array().expect("findings");
        let found = findings.iter().find(|one| one["where"]["destination"].is_string());
        let found = found.unwrap_or_else(|| panic!("no finding about the destination: {:#}", verdict.0));
        let fixes = found["fixes"].as_array().unwrap_or_else(|| panic!("no fix: {found:#}"));
        let of = |fix: &serde_json::Value| Self {
            what: fix["what"].as_str().expect("a text").to_owned(),
            yaml: fix["yaml"].as_str().map(str::to_owned),
            from: fix["from"].to_string(),
        };
        fixes.iter().map(of).collect()
    }

    /// Whether `kubectl` can carry it out.
    pub fn is_for_kubectl(&self) -> bool {
        self.yaml.is_some() || self.command().is_some()
    }

    /// The words of the command in the text.
    fn command(&self) -> Option<Vec<&str>> {
        let (_, command) = self.what.split_once("kubectl ")?;
        Some(command.split_whitespace().collect())
    }

    /// The expected outcome.
    fn outcome(&self) -> Outcome {
        if self.from.contains("sniff-timeout.yaml") { Outcome::After(50) } else { Outcome::Greeting }
    }

    /// Runs the command of the text, with the manifest as its file. Without a command, applies the manifest.
    pub fn carry_out(&self, mesh: &Mesh<'_>) {
        let yaml = self.yaml.as_deref().unwrap_or_default();
        match self.command() {
            Some(words) => {
                let words: Vec<_> =
                    words.into_iter().map(|word| if word == "FILE" { "/dev/stdin" } else { word }).collect();
                mesh.lab.kubectl.run_with(&words, yaml);
            }
            None => {
                mesh.lab.kubectl.apply(yaml);
            }
        }
    }

    /// Deletes what the manifest has created. A command has changed an object, which the caller restores.
    fn undo(&self, mesh: &Mesh<'_>) {
        if let Some(yaml) = self.yaml.as_deref().filter(|_| self.command().is_none()) {
            mesh.lab.kubectl.delete(yaml);
        }
    }
}

/// Clients of a database that wait in vain at a proxy.
pub struct HangingClients<'p> {
    pub mesh: &'p Mesh<'p>,
    /// The pod of the proxy.
    pub pod: &'p Pod,
    pub probe: Probe<'p>,
    /// Doctor's verdict about the proxy's dump, and the outcome for the clients.
    pub hangs: (&'static str, Outcome),
    /// Median time to the greeting on the same path when nothing waits.
    pub plain: Duration,
    /// How an HTTP Service on the same port is reached.
    pub http: &'p dyn Fn() -> Http,
}

impl HangingClients<'_> {
    /// Asserts that the clients wait in vain, and that doctor says so and names the cause. Returns its fixes.
    pub fn assert_hangs(&self, code: &str) -> Vec<Fix> {
        self.probe.expect(self.hangs.1);
        self.diagnosed(code)
    }

    /// Asserts doctor's verdict and finding. Returns its fixes.
    fn diagnosed(&self, code: &str) -> Vec<Fix> {
        let verdict = self.mesh.doctor(self.pod, self.probe.to);
        assert_eq!(verdict.of("silent").as_deref(), Some(self.hangs.0), "{:#}", verdict.0);
        let expected = format!("error {code}");
        assert!(verdict.codes().contains(&expected), "{expected}: {:#}", verdict.0);
        Fix::printed(&verdict)
    }

    /// Carries out each fix for kubectl, and asserts the greeting. `restore` undoes changes of objects that existed before.
    /// Returns the outcomes in words.
    pub fn try_fixes(&self, code: &str, restore: &dyn Fn()) -> String {
        let fixes = self.diagnosed(code);
        let mut outcomes = Vec::new();
        for fix in fixes.iter().filter(|fix| fix.is_for_kubectl()) {
            fix.carry_out(self.mesh);
            self.mesh.settle(self.pod);
            outcomes.push(self.assert_fixed(fix.outcome()));
            fix.undo(self.mesh);
            restore();
            self.mesh.settle(self.pod);
            // The next fix has something to do.
            self.diagnosed(code);
        }
        assert!(
            !outcomes.is_empty(),
            "no fix for kubectl: {:?}",
            fixes.iter().map(|fix| &fix.what).collect::<Vec<_>>()
        );
        outcomes.join("; ")
    }

    /// Asserts the outcome for the clients, doctor's verdict, and that HTTP stays HTTP. Returns both in words.
    pub fn assert_fixed(&self, expected: Outcome) -> String {
        self.probe.expect(expected);
        if expected == Outcome::Greeting {
            self.probe.assert_at_most_twice(self.plain);
        }
        let verdict = self.mesh.doctor(self.pod, self.probe.to);
        let predicted = match expected {
            Outcome::After(millis) => format!("delayed {millis}"),
            _ => "greeting".to_owned(),
        };
        assert_eq!(verdict.of("silent"), Some(predicted), "{:#}", verdict.0);
        assert_eq!((self.http)(), Http::Manager, "the HTTP Service");
        format!("{expected}, HTTP Service: {}", in_words(Http::Manager))
    }
}

/// Applies each fix for the client of the probe, one after the other. Returns the outcomes. `pod` has the proxy that doctor
/// examines, `pods` receive what is applied.
pub fn try_each(mesh: &Mesh<'_>, pod: &Pod, pods: &[&Pod], probe: Probe<'_>) -> Vec<Outcome> {
    let fixes = Fix::printed(&mesh.doctor(pod, probe.to));
    let mut outcomes = Vec::new();
    for fix in fixes.iter().filter(|fix| fix.yaml.is_some()) {
        fix.carry_out(mesh);
        pods.iter().for_each(|pod| mesh.settle(pod));
        probe.expect(fix.outcome());
        fix.undo(mesh);
        pods.iter().for_each(|pod| mesh.settle(pod));
        outcomes.push(fix.outcome());
    }
    assert!(!outcomes.is_empty(), "no manifest for {}", probe.to);
    outcomes
}
