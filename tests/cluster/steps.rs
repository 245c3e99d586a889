//! The steps of a run, one after the other in one cluster. Each begins and ends with the mesh of `resources/workloads.yaml`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::lab::Lab;
use crate::mesh::Mesh;
use crate::report::Report;
use crate::{
    canary, defects, headless, helm, manifests, message, names, native, rollout, story, table, tls, waypoint,
};

struct Step {
    name: &'static str,
    run: fn(&Mesh<'_>, &mut Report),
}

const STEPS: [Step; 12] = [
    Step { name: story::STEP, run: story::run },
    Step { name: manifests::STEP, run: manifests::run },
    Step { name: table::STEP, run: table::run },
    Step { name: defects::STEP, run: defects::run },
    Step { name: rollout::STEP, run: rollout::run },
    Step { name: canary::STEP, run: canary::run },
    Step { name: helm::STEP, run: helm::run },
    Step { name: native::STEP, run: native::run },
    Step { name: tls::STEP, run: tls::run },
    Step { name: names::STEP, run: names::run },
    Step { name: headless::STEP, run: headless::run },
    Step { name: waypoint::STEP, run: waypoint::run },
];

/// The steps that `STEPS` names by the beginnings of their names. All without it.
fn chosen() -> Vec<&'static Step> {
    let wanted = std::env::var("STEPS").unwrap_or_default();
    let wanted: Vec<_> = wanted.split_whitespace().collect();
    let is_chosen =
        |step: &&Step| wanted.is_empty() || wanted.iter().any(|start| step.name.starts_with(start));
    let chosen: Vec<_> = STEPS.iter().filter(is_chosen).collect();
    assert!(!chosen.is_empty(), "no step begins with one of {wanted:?}");
    chosen
}

mod needs_cluster {
    use super::*;

    #[test]
    #[ignore = "needs root, network namespaces and the programs of a cluster: make test-cluster"]
    fn a_cluster_does_what_the_documents_say() {
        let start = Instant::now();
        let progress = |what: &str| {
            let seconds = start.elapsed().as_secs();
            eprintln!("test-cluster: {:>2} min {:02} s: {what}", seconds / 60, seconds % 60);
        };
        let steps = chosen();
        let lab = Lab::start(&progress);
        progress("the workloads");
        let mesh = Mesh::start(&lab);
        let mut report = Report::default();
        let mut failures = Vec::new();
        for step in &steps {
            progress(step.name);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (step.run)(&mesh, &mut report))) {
                failures.push(format!("{}: {}", step.name, message(&*panic)));
                progress(&format!("{} FAILED", step.name));
                mesh.reset();
            }
        }
        progress("the end");
        assert!(
            failures.is_empty(),
            "{} of {} steps failed:\n{}",
            failures.len(),
            steps.len(),
            failures.join("\n")
        );
        report.assert_documented(steps.len() == STEPS.len());
    }
}
