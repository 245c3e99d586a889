//! The fixes that `firstword doctor` prints, applied as printed.

use crate::lab::pod::Pod;
use crate::mesh::Mesh;
use crate::outcome::{Outcome, Probe};

/// Applies each fix for the client of the probe, one after the other. Returns the outcomes. `pod` has the proxy that doctor
/// examines, `pods` receive what is applied.
pub fn try_each(mesh: &Mesh<'_>, pod: &Pod, pods: &[&Pod], probe: Probe<'_>) -> Vec<Outcome> {
    let verdict = mesh.doctor(pod, probe.to);
    let findings = verdict.0["findings"].as_array().expect("findings");
    let found = findings.iter().find(|one| one["where"]["destination"].is_string());
    let found = found.unwrap_or_else(|| panic!("no finding about {}: {:#}", probe.to, verdict.0));
    let fixes = found["fixes"].as_array().unwrap_or_else(|| panic!("no fix: {found:#}"));
    let mut outcomes = Vec::new();
    // A fix without a manifest is an instruction.
    for (fix, yaml) in fixes.iter().filter_map(|fix| Some((fix, fix["yaml"].as_str()?))) {
        let is_last_resort = fix["from"].to_string().contains("sniff-timeout.yaml");
        let expected = if is_last_resort { Outcome::After(50) } else { Outcome::Greeting };
        mesh.lab.kubectl.apply(yaml);
        for pod in pods {
            mesh.settle(pod);
        }
        probe.expect(expected);
        mesh.lab.kubectl.delete(yaml);
        for pod in pods {
            mesh.settle(pod);
        }
        outcomes.push(expected);
    }
    assert!(!outcomes.is_empty(), "no manifest: {found:#}");
    outcomes
}
