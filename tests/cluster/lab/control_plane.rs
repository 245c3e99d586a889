//! The programs of Kubernetes' control plane, and kube-proxy, which makes the rules of Services for the node.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::credentials::{API_PORT, Credentials};
use super::kubectl::Kubectl;
use super::program;
use super::world::{NODE, SERVICES, World};
use firstword_testing::process::{Process, read_log};
use firstword_testing::wait_for;

/// Name of the node.
pub const NODE_NAME: &str = "lab";
/// Maximum time to the start of one program on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Controllers that the lab needs. The others would act on what a kubelet would report.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,endpointslice-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,namespace-controller,garbage-collector-controller";

/// The running programs. The last one that was started ends first.
pub struct ControlPlane {
    _programs: Vec<Process>,
    credentials: Credentials,
}

impl ControlPlane {
    pub fn start(world: &Arc<World>) -> Self {
        let credentials = Credentials::write(world.folder("credentials"));
        let data = format!("--data-dir={}", world.folder("etcd").display());
        let mut programs = vec![start(world, "etcd", &[&data, "--unsafe-no-fsync", "--log-level=error"])];
        programs.push(start(
            world,
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                &format!("--secure-port={API_PORT}"),
                &format!("--advertise-address={NODE}"),
                &format!("--service-cluster-ip-range={SERVICES}"),
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC",
                "--allow-privileged",
                // Webhooks are called at the address of a pod.
                "--enable-aggregator-routing",
                &credentials.option("tls-cert-file", "api.pem"),
                &credentials.option("tls-private-key-file", "api-key.pem"),
                &credentials.option("client-ca-file", "ca.pem"),
                &credentials.option("token-auth-file", "tokens.csv"),
                &credentials.option("service-account-key-file", "accounts.pem"),
                &credentials.option("service-account-signing-key-file", "accounts-key.pem"),
                &format!("--cert-dir={}", world.folder("apiserver").display()),
            ],
        ));
        let kubectl = Kubectl::new(world, credentials.path("kubeconfig"));
        wait_for("ready API server", START, || {
            if let Some(status) = programs[1].exit_status() {
                panic!("kube-apiserver ended: {status}\n{}", log(world, "kube-apiserver"));
            }
            kubectl.attempt(&["get", "--raw", "/readyz"], "").ok()
        });
        kubectl.apply(
            &json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME},
            })
            .to_string(),
        );
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": NODE}, {"type": "Hostname", "address": NODE_NAME}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        kubectl.run(&[
            "patch",
            "node",
            NODE_NAME,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ]);
        let kubeconfig = credentials.option("kubeconfig", "kubeconfig");
        programs.push(start(
            world,
            "kube-controller-manager",
            &[
                &kubeconfig,
                "--leader-elect=false",
                &format!("--controllers={CONTROLLERS}"),
                &credentials.option("service-account-private-key-file", "accounts-key.pem"),
                &credentials.option("root-ca-file", "ca.pem"),
                &format!("--cert-dir={}", world.folder("controllers").display()),
            ],
        ));
        programs.push(start(
            world,
            "kube-proxy",
            &[
                &kubeconfig,
                &format!("--hostname-override={NODE_NAME}"),
                "--proxy-mode=iptables",
                "--cluster-cidr=10.1.0.0/16",
                // Not limits of the machine: a namespace cannot set them.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0s",
                "--conntrack-tcp-timeout-close-wait=0s",
            ],
        ));
        programs.reverse();
        Self { _programs: programs, credentials }
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self, world: &Arc<World>) -> Kubectl {
        Kubectl::new(world, self.credentials.path("kubeconfig"))
    }
}

/// Starts a program in the world's namespace. Its output is in the folder `logs`.
fn start(world: &World, name: &str, arguments: &[&str]) -> Process {
    let launcher = world.namespace.launcher(world.files(), &program(name), None);
    let log = world.folder("logs").join(name);
    let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
    Process::start(&launcher, &arguments, &log, &log)
}

/// The end of a program's output.
pub fn log(world: &World, name: &str) -> String {
    let text = read_log(&world.folder("logs").join(name));
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
