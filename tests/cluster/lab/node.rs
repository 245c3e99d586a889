//! The node: runs each Pod of the API server, as a scheduler and a kubelet do, until it is deleted.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::control_plane::NODE_NAME;
use super::kubectl::Kubectl;
use super::pod::Pod;
use super::world::World;
use crate::message;
use firstword_testing::wait_for;

/// Maximum time to a ready pod: its ReplicaSet, its injection, its containers.
const READY: Duration = Duration::from_secs(180);
/// Number of addresses for pods.
const ADDRESSES: u32 = 250;

/// The running node. Dropping it ends all pods.
pub struct Node {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    world: Arc<World>,
    kubectl: Arc<Kubectl>,
    /// Pods by their uid. `None` while a pod starts or ends.
    pods: Mutex<BTreeMap<String, Option<Arc<Pod>>>>,
    failures: Mutex<Vec<String>>,
    started: AtomicU32,
    is_stopping: AtomicBool,
    watch: Mutex<Option<Child>>,
}

impl Node {
    pub fn start(world: &Arc<World>, kubectl: &Arc<Kubectl>) -> Self {
        let shared = Arc::new(Shared {
            world: Arc::clone(world),
            kubectl: Arc::clone(kubectl),
            pods: Mutex::default(),
            failures: Mutex::default(),
            started: AtomicU32::new(0),
            is_stopping: AtomicBool::new(false),
            watch: Mutex::default(),
        });
        let watching = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !watching.is_stopping.load(Ordering::Acquire) {
                watching.watch();
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// The newest ready pod with this label `app`. Waits for it.
    pub fn ready_pod(&self, namespace: &str, app: &str) -> Arc<Pod> {
        self.newest(&format!("ready pod {namespace}/{app}"), |pod| {
            pod.of == namespace && pod.labels["app"] == app
        })
    }

    /// The newest ready pod with this name. Waits for it.
    pub fn ready_pod_named(&self, namespace: &str, name: &str) -> Arc<Pod> {
        self.newest(&format!("ready pod {namespace}/{name}"), |pod| pod.of == namespace && pod.name == name)
    }

    /// The ready pod with this name that started after another one. Waits for it.
    pub fn newer_pod(&self, namespace: &str, name: &str, age: u32) -> Arc<Pod> {
        let is_newer = |pod: &Pod| pod.of == namespace && pod.name == name && pod.age > age;
        self.newest(&format!("restarted pod {namespace}/{name}"), is_newer)
    }

    fn newest(&self, what: &str, is_wanted: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        wait_for(what, READY, || {
            let failures = self.shared.failures.lock().expect("the failures");
            assert!(failures.is_empty(), "a pod did not start: {}", failures.join("\n"));
            let pods = self.shared.pods.lock().expect("the pods");
            pods.values().flatten().filter(|pod| is_wanted(pod)).max_by_key(|pod| pod.age).cloned()
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        if let Some(mut child) = self.shared.watch.lock().expect("the watch").take() {
            // Cannot fail: the child has not been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
        self.shared.pods.lock().expect("the pods").clear();
    }
}

impl Shared {
    /// Follows the changes of all Pods until the API server ends the watch.
    fn watch(self: &Arc<Self>) {
        let mut command = self.kubectl.command();
        command.args(["get", "pods", "--all-namespaces", "--watch", "--output-watch-events", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl");
        let output = child.stdout.take().expect("a pipe");
        *self.watch.lock().expect("the watch") = Some(child);
        let events = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
        for event in events.map_while(Result::ok) {
            self.handle(&event["object"], event["type"] == "DELETED");
        }
        if let Some(mut child) = self.watch.lock().expect("the watch").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn handle(self: &Arc<Self>, pod: &Value, is_gone: bool) {
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let is_deleted = is_gone || pod["metadata"]["deletionTimestamp"].is_string();
        let mut pods = self.pods.lock().expect("the pods");
        let (this, pod) = (Arc::clone(self), pod.clone());
        if is_deleted {
            let running = pods.remove(&uid);
            drop(pods);
            if running.is_some() {
                thread::spawn(move || this.end(&pod, running.flatten().as_deref()));
            }
        } else if !pods.contains_key(&uid) {
            pods.insert(uid.clone(), None);
            drop(pods);
            thread::spawn(move || {
                let started = catch_unwind(AssertUnwindSafe(|| this.run(&pod)));
                match started {
                    Ok(started) => {
                        let mut pods = this.pods.lock().expect("the pods");
                        // Another thread may have removed it.
                        if let Some(entry) = pods.get_mut(&uid) {
                            *entry = Some(Arc::new(started));
                        }
                    }
                    Err(panic) if !this.is_stopping.load(Ordering::Acquire) => {
                        this.failures.lock().expect("the failures").push(message(&*panic));
                    }
                    Err(_) => {}
                }
            });
        }
    }

    fn run(&self, pod: &Value) -> Pod {
        let (name, namespace) = (&pod["metadata"]["name"], &pod["metadata"]["namespace"]);
        if pod["spec"]["nodeName"].is_null() {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME},
            });
            let (name, namespace) = (name.as_str().expect("a name"), namespace.as_str().expect("a name"));
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
            self.kubectl.run_with(&["create", "--raw", &path, "-f", "-"], &binding.to_string());
        }
        let age = self.started.fetch_add(1, Ordering::AcqRel);
        let number = u8::try_from(age % ADDRESSES).expect("less than 250").saturating_add(1);
        Pod::start(&self.world, &self.kubectl, pod, number, age)
    }

    /// Ends a pod, and then removes its object.
    fn end(&self, pod: &Value, running: Option<&Pod>) {
        if let Some(running) = running {
            running.stop();
        }
        let metadata = &pod["metadata"];
        let text = |key: &str| metadata[key].as_str().expect("a text");
        let path = format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"));
        // A StatefulSet may have another pod of this name by now.
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": metadata["uid"]},
        });
        // The object may be gone, and the API server too.
        let _ = self.kubectl.attempt(&["delete", "--raw", &path, "-f", "-"], &options.to_string());
    }
}
