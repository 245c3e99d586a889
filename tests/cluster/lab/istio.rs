//! Istio as `istioctl manifest generate` installs it, without the filters that only Istio's own Envoy has.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::kubectl::Kubectl;
use super::node::Node;
use super::program;
use firstword_testing::wait_for;

/// Address of istiod's Service.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);

const NAMESPACE: &str = "istio-system";
/// Maximum time in which istiod registers its webhooks.
const WEBHOOKS: Duration = Duration::from_secs(120);

/// Settings without which istiod names filters that upstream Envoy lacks: `istio.metadata_exchange`, `istio.alpn`, `istio.stats`.
const FOR_UPSTREAM_ENVOY: [&str; 3] = [
    "values.pilot.env.PILOT_ENABLE_METADATA_EXCHANGE=false",
    "values.pilot.env.PILOT_ENABLE_ALPN_FILTER=false",
    "values.telemetry.enabled=false",
];

/// Installs Istio, and waits until istiod validates resources.
pub fn install(kubectl: &Kubectl, node: &Node) {
    let mut generate = kubectl.of(&program("istioctl"));
    generate.args(["manifest", "generate", "--set", "profile=minimal"]);
    generate.args(["--set", "values.pilot.autoscaleEnabled=false"]);
    // Instead of 45 seconds, because steps wait for the end of what Envoy drains.
    generate.args(["--set", "meshConfig.defaultConfig.drainDuration=3s"]);
    // As Helm does: istiod validates resources without a label too.
    generate.args(["--set", "values.defaultRevision=default"]);
    for setting in FOR_UPSTREAM_ENVOY {
        generate.args(["--set", setting]);
    }
    let output = generate.output().expect("istioctl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "istioctl manifest generate: {error}");
    let manifests = String::from_utf8(output.stdout).expect("YAML");

    kubectl.run(&["create", "namespace", NAMESPACE]);
    // Pods have the address in their /etc/hosts, because there is no DNS.
    let address = format!("--clusterip={SERVICE}");
    kubectl.run(&[
        "create",
        "service",
        "clusterip",
        "istiod",
        "-n",
        NAMESPACE,
        &address,
        "--tcp=15012:15012",
    ]);
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    // The first time, resources may come before the definitions of their kinds.
    wait_for("accepted installation", WEBHOOKS, || kubectl.attempt(&apply, &manifests).ok());
    node.ready_pod(NAMESPACE, "istiod");
    wait_for("validation by istiod", WEBHOOKS, || {
        let name = "istiod-default-validator";
        let found = kubectl.get(&["validatingwebhookconfiguration", name])?;
        (found["webhooks"][0]["failurePolicy"] == "Fail").then_some(())
    });
    wait_for("injection by istiod", WEBHOOKS, || {
        let found = kubectl.get(&["mutatingwebhookconfiguration", "istio-sidecar-injector"])?;
        found["webhooks"][0]["clientConfig"]["caBundle"].is_string().then_some(())
    });
}
