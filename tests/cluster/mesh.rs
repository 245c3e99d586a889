//! The mesh of `resources/workloads.yaml`, what is applied to it, and when a proxy has received that.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::lab::pod::Pod;
use firstword_testing::doctor::{Verdict, doctor};
use firstword_testing::prometheus::Metrics;
use firstword_testing::{program::firstword, root, wait_for};

/// The workloads, without the annotations.
pub const WORKLOADS: &str = include_str!("resources/workloads.yaml");
/// Maximum time from an applied resource to its effect in a proxy.
pub const DELIVERY: Duration = Duration::from_secs(60);
/// The digest in the manifests, which no image has.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Kinds that steps apply.
const KINDS: &str = "serviceentries,envoyfilters,wasmplugins,trafficextensions,peerauthentications,destinationrules,gateways,\
    virtualservices,sidecars,proxyconfigs";

/// Deployments whose pods have a proxy, each with its namespace.
const MESHED: [(&str, &str); 3] = [("default", "app"), ("db", "mysql"), ("istio-system", "gateway")];

/// Ports of a sidecar: Envoy's admin interface, and the agent's merged metrics.
pub const ADMIN: u16 = 15_000;
pub const MERGED: u16 = 15_020;

/// Documents, with the annotations of `istio/components/pod-annotations` on all pods. Those without a proxy ignore them.
pub fn annotated(documents: &str) -> String {
    let read = |text: &str| -> Vec<Value> {
        let documents = serde_norway::Deserializer::from_str(text);
        documents.map(|document| Value::deserialize(document).expect("a document")).collect()
    };
    let component = root().join("istio/components/pod-annotations/annotations.yaml");
    let component = read(&std::fs::read_to_string(component).expect("the annotations"));
    let annotations =
        component[0]["spec"]["template"]["metadata"]["annotations"].as_object().expect("annotations");
    let mut documents = read(documents);
    for document in &mut documents {
        let of = match document["kind"].as_str() {
            Some("Deployment") => &mut document["spec"]["template"]["metadata"]["annotations"],
            // Istiod makes the pods of a waypoint from it.
            Some("Gateway") => &mut document["spec"]["infrastructure"]["annotations"],
            _ => continue,
        };
        for (key, value) in annotations {
            of[key] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "List", "items": documents}).to_string()
}

pub struct Mesh<'l> {
    pub lab: &'l Lab,
    /// Digest of the wasm module's image in the registry.
    pub digest: String,
    /// Digest of the native module's.
    pub native: String,
    /// MeshConfig of the installation.
    config: String,
    workloads: String,
    markers: AtomicU32,
}

impl<'l> Mesh<'l> {
    /// Pushes the module's image, and starts the workloads.
    pub fn start(lab: &'l Lab) -> Self {
        let push = |layout: &str, repository: &str, make: &str| {
            let image = root().join("target/oci").join(layout);
            assert!(image.exists(), "{} is missing; run: {make}", image.display());
            lab.registry.push(&image, repository, "v1")
        };
        let digest = push("image", "firstword", "make image");
        let native = push("native", "firstword-native", "make image-native");
        let map =
            lab.kubectl.get(&["configmap", "istio", "-n", "istio-system"]).expect("the mesh's configuration");
        let config = map["data"]["mesh"].as_str().expect("MeshConfig").to_owned();
        let workloads = annotated(WORKLOADS);
        let mesh = Self { lab, digest, native, config, markers: AtomicU32::new(0), workloads };
        lab.kubectl.apply(&mesh.workloads);
        for (namespace, app) in MESHED.into_iter().chain([("other", "irrelevant")]) {
            lab.pod(namespace, app);
        }
        mesh
    }

    /// Removes everything that steps apply, and restores the workloads.
    pub fn reset(&self) {
        self.lab.kubectl.run(&["delete", KINDS, "--all", "--all-namespaces"]);
        self.configure("");
        // For what a step has deleted. It fails for the rest, and the next command would fail for what is missing.
        let _ = self.lab.kubectl.attempt(&["create", "-f", "-"], &self.workloads);
        self.replace(&self.workloads);
    }

    /// Replaces objects as a whole, as `kubectl apply` does not. Keeps the addresses of Services.
    pub fn replace(&self, documents: &str) {
        self.lab.kubectl.run_with(&["replace", "-f", "-"], documents);
        for (namespace, deployment) in MESHED {
            self.wait_for_pods(namespace, deployment);
        }
    }

    /// Waits until the pods of a Deployment are those of its last change.
    pub fn wait_for_pods(&self, namespace: &str, deployment: &str) {
        let timeout = "--timeout=180s";
        self.lab.kubectl.run(&["rollout", "status", "deployment", deployment, "-n", namespace, timeout]);
    }

    /// Adds lines to MeshConfig as Istio was installed with it.
    pub fn configure(&self, lines: &str) {
        let mesh = format!("{}\n{lines}\n", self.config);
        let patch = json!({"data": {"mesh": mesh}}).to_string();
        self.lab.kubectl.run(&[
            "patch",
            "configmap",
            "istio",
            "-n",
            "istio-system",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// Address and first port of a Service.
    pub fn service(&self, namespace: &str, name: &str) -> SocketAddr {
        let service = self.lab.kubectl.get(&["service", name, "-n", namespace]).expect("the Service");
        let address: IpAddr =
            service["spec"]["clusterIP"].as_str().expect("text").parse().expect("an address");
        let port = service["spec"]["ports"][0]["port"].as_u64().expect("a port");
        (address, u16::try_from(port).expect("a port")).into()
    }

    /// The pod whose clients are tested.
    pub fn app(&self) -> Arc<Pod> {
        self.lab.pod("default", "app")
    }

    /// Text of a manifest, given as a path in `istio/`, with the digest of an image that exists.
    pub fn manifest(&self, path: &str) -> String {
        let path = root().join("istio").join(path);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.with_digest(&text)
    }

    /// Documents with the digests of images that exist.
    pub fn with_digest(&self, documents: &str) -> String {
        let of_native = |digest: &str| format!("firstword-native@sha256:{digest}");
        let documents = documents.replace(&of_native(PLACEHOLDER), &of_native(&self.native));
        documents.replace(PLACEHOLDER, &self.digest)
    }

    /// Applies manifests, given as paths in `istio/`.
    pub fn apply(&self, paths: &[&str]) {
        for path in paths {
            self.lab.kubectl.apply(&self.manifest(path));
        }
    }

    /// Deletes manifests, given as paths in `istio/`.
    pub fn delete(&self, paths: &[&str]) {
        for path in paths {
            self.lab.kubectl.delete(&self.manifest(path));
        }
    }

    /// Waits until the proxy of a pod has everything that was applied before. A ServiceEntry that nothing uses marks the time.
    pub fn settle(&self, pod: &Pod) {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        let host = format!("marker-{number}.lab");
        // A waypoint has the Services of its own namespace.
        let namespace = if pod.labels["app"] == "waypoint" { &pod.of } else { "default" };
        self.lab.kubectl.apply(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: marker, namespace: {namespace}}}, spec: {{
               hosts: [{host}], addresses: [240.240.0.1], resolution: NONE, ports: [{{number: 9, name: tcp, protocol: TCP}}]}}}}"
        ));
        // A gateway has no listener for it.
        let resource =
            if pod.labels["app"] == "gateway" { "dynamic_active_clusters" } else { "dynamic_listeners" };
        let path = format!("/config_dump?resource={resource}");
        wait_for(&format!("{host} in the proxy of {}", pod.name), DELIVERY, || {
            pod.get(ADMIN, &path).contains(&host).then_some(())
        });
    }

    /// Waits until Envoy has the module, for which the agent first asks the registry.
    pub fn wait_for_module(&self, pod: &Pod) {
        wait_for(&format!("module in the proxy of {}", pod.name), DELIVERY, || {
            let dump = pod.get(ADMIN, "/config_dump?resource=ecds_filters");
            dump.contains("envoy.extensions.filters.network.wasm.v3.Wasm").then_some(())
        });
    }

    /// The metrics that Prometheus scrapes from the pod's agent.
    pub fn metrics(&self, pod: &Pod) -> Metrics {
        let text = pod.get(MERGED, "/stats/prometheus");
        Metrics::parse(&text).unwrap_or_else(|line| panic!("{}: not a sample: {line}", pod.name))
    }

    /// Runs `firstword doctor` on the dump of the pod's proxy, as `istioctl proxy-config all -o json` passes it on.
    pub fn doctor(&self, pod: &Pod, to: SocketAddr) -> Verdict {
        doctor(Command::new(firstword()), "-", to, &self.dump(pod))
    }

    /// The dump of the pod's proxy, as `istioctl proxy-config all -o json` passes it on.
    pub fn dump(&self, pod: &Pod) -> Vec<u8> {
        let dump = pod.get(ADMIN, "/config_dump?include_eds");
        let folder = self.lab.world.folder("dumps");
        let path = folder.join(format!("{}.json", pod.name));
        std::fs::write(&path, &dump).expect("a dump");
        let istioctl = crate::lab::program("istioctl");
        let mut command = self.lab.kubectl.of(&istioctl);
        command.args(["proxy-config", "all", "-o", "json", "--file"]).arg(&path);
        let output = command.output().expect("istioctl");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "istioctl proxy-config all --file: {error}");
        output.stdout
    }
}
