//! `docs/rollout.md` and `docs/upgrade.md`: a canary by label, the kill switch, an upgrade, and the ways back.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::change::Change;
use crate::lab::pod::Pod;
use crate::lab::world::outside;
use crate::mesh::Mesh;
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::{root, temp_dir};

pub const STEP: &str = "canary";

/// Number of open connections to each of the two databases.
const OPEN: usize = 50;
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const LABELS: [(&str, &str); 2] = [("direction", "outbound"), ("destination", "orders")];
/// Time in which a change of `mode` reaches all connections: two ticks, and a margin.
const TICKS: Duration = Duration::from_secs(4);
/// Another application in the same namespace.
const NEIGHBOUR: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: neighbour, namespace: default}
spec:
  selector: {matchLabels: {app: neighbour}}
  template:
    metadata:
      labels: {app: neighbour}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: lab/client}]";

/// The directory of a user, and the values that the documents leave to the user.
struct User<'m> {
    mesh: &'m Mesh<'m>,
    directory: &'m Path,
    overlay: String,
}

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    mesh.lab.kubectl.apply(&crate::mesh::annotated(NEIGHBOUR));
    let neighbour = mesh.lab.pod("default", "neighbour");
    mesh.settle(&neighbour);
    let directory = temp_dir();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(root().join("istio")).arg(directory.path()).status();
    assert!(copied.expect("cp").success());
    let mut user = User::new(mesh, directory.path());
    roll_out(&user, &neighbour, report);
    upgrade(&mut user, report);
    roll_back(&user, report);
    mesh.lab.kubectl.delete(NEIGHBOUR);
    mesh.reset();
}

impl<'m> User<'m> {
    /// Copies the overlay, and replaces the values marked "yours".
    fn new(mesh: &'m Mesh<'m>, directory: &'m Path) -> Self {
        let mut user = User { mesh, directory, overlay: String::new() };
        user.run(&printed::of_page("install-istio.md", "cp -r istio/overlays/envoyfilter "));
        let path = directory.join("istio/overlays/mine/kustomization.yaml");
        user.overlay = std::fs::read_to_string(path).expect("the overlay");
        for (theirs, yours) in [
            ("value: shop}", "value: default}"),
            ("{app: app}", "{firstword: \"on\"}"),
            ("portNumber, value: 3307", "portNumber, value: 10000"),
            (r#""name": "shop""#, r#""name": "orders""#),
            (r#""ports": [3307], "addresses": ["10.20.30.40"]"#, r#""ports": [10000]"#),
        ] {
            user.replace(theirs, yours);
        }
        user.replace(&"0".repeat(64), &mesh.digest);
        user.replace(r#"value: '{"rules""#, r#"value: '{"mode": "observe", "rules""#);
        user
    }

    /// Changes the overlay.
    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.overlay.contains(from), "{from}: {}", self.overlay);
        self.set(self.overlay.replace(from, to));
    }

    fn set(&mut self, overlay: String) {
        let path = self.directory.join("istio/overlays/mine/kustomization.yaml");
        std::fs::write(path, &overlay).expect("the overlay");
        self.overlay = overlay;
    }

    fn run(&self, command: &str) {
        printed::run(self.mesh, self.directory, command);
    }

    /// Checks the overlay, and applies it.
    fn apply(&self, pod: &Pod) {
        self.run(&printed::of_page("install-istio.md", "kubectl kustomize istio/overlays/mine "));
        let difference = printed::of_page("install-istio.md", "kubectl diff -k istio/overlays/mine");
        // Its status is 1 if something would change.
        self.run(&format!("{difference} || [ $? = 1 ]"));
        self.run(&printed::of_page("install-istio.md", "kubectl apply -k istio/overlays/mine"));
        self.run(&printed::of_page("commands.md", "kubectl get envoyfilters,wasmplugins"));
        self.mesh.settle(pod);
    }

    /// Runs a command of a page, and waits until the application's pods have restarted.
    fn restart(&self, page: &str, command: &str) {
        self.run(&printed::of_page(page, command));
        self.mesh.wait_for_pods("default", "app");
    }
}

/// Nothing is closed.
fn closes_nothing<'c>(what: &'c str, make: &'c dyn Fn()) -> Change<'c> {
    Change { what, make, stay: (true, true), all_greeted: true }
}

fn roll_out(user: &User<'_>, neighbour: &Pod, report: &mut Report) {
    let mesh = user.mesh;
    let app = mesh.app();
    let apply = || user.apply(&app);
    let what = "the overlay applied, with a label that no pod has, and `mode: observe`";
    closes_nothing(what, &apply).observe(mesh, &app, OPEN, STEP, report);
    let restart = || user.restart("rollout.md", "kubectl patch deployment app -p");
    let what = "the label added to the application's Deployment: connections of another application";
    closes_nothing(what, &restart).observe(mesh, neighbour, OPEN, STEP, report);
    let app = mesh.app();
    assert_eq!(app.labels["firstword"], "on");
    mesh.wait_for_module(&app);
    traffic::assert_counted(mesh, &app, &app.network, outside(), &LABELS);
    let of_neighbour = mesh.metrics(neighbour).get("firstword_connections_total", &[]);
    assert_eq!(of_neighbour, None, "the filter in a pod without the label");
    report.add(STEP, "The same, metrics", "exact in the pod with the label, none in the other");
}

/// The modes, and another digest for one application first.
fn upgrade(user: &mut User<'_>, report: &mut Report) {
    let mesh = user.mesh;
    let app = mesh.app();
    user.replace(r#""mode": "observe", "#, "");
    closes_nothing("`mode: active`", &|| user.apply(&app)).observe(mesh, &app, OPEN, STEP, report);
    kill_switch(user, &app, report);

    let artifact = mesh.lab.registry.push(&root().join("target/oci/artifact"), "firstword", "v2");
    assert_ne!(artifact, mesh.digest, "another digest");
    let old = user.overlay.clone();
    canary(user, &artifact, report);
    user.replace(&mesh.digest, &artifact);
    closes_nothing("the digest changed for all others", &|| user.apply(&app))
        .observe(mesh, &app, OPEN, STEP, report);
    user.set(old);
    closes_nothing("the old digest again", &|| user.apply(&app)).observe(mesh, &app, OPEN, STEP, report);
    traffic::assert_counted(mesh, &app, &app.network, outside(), &LABELS);
}

/// `mode: off` stops the inspection of open and of new connections.
fn kill_switch(user: &mut User<'_>, app: &Pod, report: &mut Report) {
    let mesh = user.mesh;
    let queries = || {
        let labels = [LABELS.as_slice(), &[("command", "query")]].concat();
        mesh.metrics(app).get("firstword_commands_total", &labels).expect("queries before")
    };
    let mut open = app.network.enter(|| Client::login(outside(), &Login::new(CLASSIC)));
    open.query("SELECT 20+22").expect("a result");
    user.replace(r#"value: '{"rules""#, r#"value: '{"mode": "off", "rules""#);
    closes_nothing("the kill switch, `mode: off`", &|| user.apply(app))
        .observe(mesh, app, OPEN, STEP, report);
    thread::sleep(TICKS);
    let before = queries();
    open.query("SELECT 20+22").expect("a result");
    traffic::run(&app.network, outside());
    thread::sleep(TICKS);
    assert_eq!(queries(), before, "commands that are counted although the mode is off");
    open.quit();
    user.replace(r#""mode": "off", "#, "");
    user.apply(app);
    thread::sleep(TICKS);
    traffic::assert_counted(mesh, app, &app.network, outside(), &LABELS);
    report.add(
        STEP,
        "The same, commands of open and of new connections",
        "not counted; counted after `mode: active`",
    );
}

/// A second set of EnvoyFilters, by another name, for one application, with another digest.
fn canary(user: &User<'_>, digest: &str, report: &mut Report) {
    let mesh = user.mesh;
    let mine = user.directory.join("istio/overlays/mine");
    let mut second = mesh.lab.kubectl.run(&["kustomize", mine.to_str().expect("a path")]);
    for (from, to) in [
        ("istio-system.firstword", "istio-system.firstword-canary"),
        ("name: firstword-extension", "name: firstword-canary-extension"),
        ("name: firstword-outbound-tcp", "name: firstword-canary-outbound-tcp"),
        ("firstword: \"on\"", "firstword: canary"),
        (&mesh.digest, digest),
    ] {
        assert!(second.contains(from), "{from}: {second}");
        second = second.replace(from, to);
    }
    mesh.lab.kubectl.apply(&second);
    let label = r#"{"spec": {"template": {"metadata": {"labels": {"firstword": "canary"}}}}}"#;
    mesh.lab.kubectl.run(&["patch", "deployment", "neighbour", "-n", "default", "-p", label]);
    mesh.wait_for_pods("default", "neighbour");
    let neighbour = mesh.lab.pod("default", "neighbour");
    assert_eq!(neighbour.labels["firstword"], "canary");
    mesh.settle(&neighbour);
    mesh.wait_for_module(&neighbour);
    traffic::assert_counted(mesh, &neighbour, &neighbour.network, outside(), &LABELS);
    mesh.lab.kubectl.delete(&second);
    report.add(
        STEP,
        "`upgrade.md`: a second set of EnvoyFilters with another digest, for one application",
        "exact: each connection counts once",
    );
}

fn roll_back(user: &User<'_>, report: &mut Report) {
    let mesh = user.mesh;
    user.restart("rollout.md", "kubectl patch deployment app --type=json");
    let app = mesh.app();
    assert!(app.labels["firstword"].is_null(), "{}", app.labels);
    mesh.settle(&app);
    traffic::run(&app.network, outside());
    let counted = mesh.metrics(&app).get("firstword_connections_total", &[]);
    assert_eq!(counted, None, "the filter in a pod without the label");
    report.add(STEP, "the label removed", "the new pod has no filter");
    let delete = || {
        user.run(&printed::of_page("rollout.md", "kubectl delete -k istio/overlays/mine"));
        mesh.settle(&app);
    };
    closes_nothing("the overlay deleted", &delete).observe(mesh, &app, OPEN, STEP, report);
}
