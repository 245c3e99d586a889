//! The Helm chart: from a registry to metrics in Prometheus, and what its changes close.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::change::Change;
use crate::lab::pod::MYSQL_PORT;
use crate::lab::prometheus::Prometheus;
use crate::lab::world::outside;
use crate::mesh::{Mesh, WORKLOADS};
use crate::native;
use crate::outcome::{Outcome, Probe};
use crate::printed;
use crate::report::Report;
use crate::traffic;
use firstword_testing::{root, temp_dir};

pub const STEP: &str = "helm";

/// Number of open connections to each of the two databases.
const OPEN: usize = 100;
const PAGE: &str = "install-helm.md";
const ANNOTATIONS: &str = "components/pod-annotations/annotations.yaml";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const CHART: &str = "oci://registry.example.com/charts/firstword";
/// Another version of the chart.
const NEXT: &str = "99.0.0";

/// A directory with what a user has: the repository's files, and the values.
struct User<'m> {
    mesh: &'m Mesh<'m>,
    directory: &'m Path,
}

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let directory = temp_dir();
    let user = User { mesh, directory: directory.path() };
    user.run(&format!("{}/scripts/chart.sh target/chart", root().display()));
    for part in ["istio", "charts"] {
        std::os::unix::fs::symlink(root().join(part), directory.path().join(part)).expect("a link");
    }
    let values = values(mesh);
    user.write(&values);
    two_commands(&user, report);
    changes(&user, &values, report);
    mesh.reset();
    native_module(&user, &values, report);
    for namespace in ["default", "istio-system"] {
        mesh.lab.kubectl.run(&["delete", "configmap", "firstword-native-bootstrap", "-n", namespace]);
    }
    mesh.reset();
}

/// The values of the document, with the digest of an image that exists.
fn values(mesh: &Mesh<'_>) -> Value {
    let page = std::fs::read_to_string(root().join("docs").join(PAGE)).expect("the page");
    let (_, block) = page.split_once("```yaml\n").expect("values");
    let (block, _) = block.split_once("```").expect("the end of the values");
    let mut values: Value = serde_norway::from_str(block).expect("YAML");
    values["image"]["digest"] = json!(format!("sha256:{}", mesh.digest));
    values
}

impl User<'_> {
    fn run(&self, command: &str) -> String {
        printed::run(self.mesh, self.directory, command)
    }

    fn write(&self, values: &Value) {
        std::fs::write(self.directory.join("values.yaml"), values.to_string()).expect("values");
    }

    /// Sets the values of the release, and waits until the application's proxy has them.
    fn upgrade(&self, version: &str, values: &Value) {
        self.write(values);
        self.run(&format!("helm upgrade firstword {CHART} --version {version} -f values.yaml"));
        self.mesh.settle(&self.mesh.app());
    }
}

/// From pods that hang and have no annotation to metrics, by two commands.
fn two_commands(user: &User<'_>, report: &mut Report) {
    let mesh = user.mesh;
    mesh.replace(WORKLOADS);
    let app = mesh.app();
    mesh.settle(&app);
    Probe { from: &app.network, to: outside(), first: b"" }.expect(Outcome::Silence);
    user.run(&printed::of_page(PAGE, "helm template firstword"));
    let prometheus = Prometheus::start(&mesh.lab.world);
    user.run(&printed::of_page(PAGE, "helm push"));
    let start = Instant::now();
    user.run(&printed::of_page(PAGE, "helm install firstword oci:"));
    for command in printed::of_manifest(ANNOTATIONS) {
        user.run(&command);
    }
    let commands = start.elapsed();
    mesh.wait_for_pods("default", "app");
    let app = mesh.app();
    mesh.wait_for_module(&app);
    let restarted = start.elapsed();
    prometheus.discover(&mesh.lab.kubectl, "default");
    traffic::run(&app.network, outside());
    let connections =
        "sum by (destination) (firstword_connections_total{namespace=\"default\", destination=\"orders\"})";
    prometheus.wait(connections, f64::from(traffic::CONNECTIONS));
    eprintln!(
        "test-cluster: {STEP}: two commands took {:.1} s, the pod with the filter was there after {:.1} s, the metrics in \
         Prometheus after {:.1} s",
        commands.as_secs_f64(),
        restarted.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Probe { from: &app.network, to: outside(), first: b"" }.expect(Outcome::Greeting);
    report.add(
        STEP,
        "An HTTP Service has the database's port; `helm install` from a registry, and the pod annotations",
        "greeting; the number of connections in Prometheus is exact",
    );
}

/// What each change of the release closes.
fn changes(user: &User<'_>, values: &Value, report: &mut Report) {
    let mesh = user.mesh;
    let app = mesh.app();
    mesh.settle(&app);
    user.run(&format!(
        "helm package charts/firstword --version {NEXT} --app-version {NEXT} --destination target/chart"
    ));
    user.run(&format!("helm push target/chart/firstword-{NEXT}.tgz oci://registry.example.com/charts"));
    let artifact = mesh.lab.registry.push(&root().join("target/oci/artifact"), "firstword", "v2");
    assert_ne!(artifact, mesh.digest, "another digest");

    let with = |change: &dyn Fn(&mut Value), from: &Value| {
        let mut values = from.clone();
        change(&mut values);
        assert_ne!(values, *from);
        values
    };
    let next = with(&|values| values["image"]["digest"] = json!(format!("sha256:{artifact}")), values);
    let configured = with(&|values| values["config"]["rules"][0]["name"] = json!("renamed"), &next);
    let off = with(&|values| values["config"]["mode"] = json!("off"), &configured);
    let listener = json!({"listeners": ["55.108.108.2_10000"]});
    let one_port = with(&|values| values["targets"][0]["outbound"] = listener.clone(), &configured);
    let plugin = with(
        &|values| {
            values["kind"] = json!("WasmPlugin");
            values["targets"][0]["outbound"] = json!({"ports": [3306, 10000]});
        },
        &one_port,
    );
    let no_entry = with(&|values| values["serviceEntries"] = json!([]), &plugin);
    let settle = || mesh.settle(&app);
    let mut observe = |what: &str, stay: (bool, bool), all_greeted: bool, make: &dyn Fn()| {
        Change { what, make, stay, all_greeted }.observe(mesh, &app, OPEN, STEP, report);
    };
    let uninstall = || {
        user.run("helm uninstall firstword");
        settle();
    };
    let what = "`helm upgrade` to another version of the chart, with another digest";
    observe(what, (true, true), true, &|| user.upgrade(NEXT, &next));
    observe("`config` changed", (true, true), true, &|| user.upgrade(NEXT, &configured));
    observe("`config: {mode: \"off\"}`", (true, true), true, &|| user.upgrade(NEXT, &off));
    observe("`helm rollback firstword`", (true, true), true, &|| {
        user.run("helm rollback firstword");
        settle();
    });
    observe("a port removed from a target", (true, false), true, &|| user.upgrade(NEXT, &one_port));
    observe("`kind: WasmPlugin`", (false, false), true, &|| user.upgrade(NEXT, &plugin));
    observe("`serviceEntries` removed", (false, true), false, &|| user.upgrade(NEXT, &no_entry));
    uninstall();

    // The listener exists before the release.
    mesh.apply(&[SERVICE_ENTRY]);
    settle();
    user.write(&with(&|values| values["serviceEntries"] = json!([]), values));
    observe("`helm install`", (false, false), true, &|| {
        user.run(&printed::of_page(PAGE, "helm install firstword target/"));
        settle();
    });
    observe("`helm uninstall firstword`", (false, false), true, &uninstall);
}

/// Runs each command of the notes, with the lines after it as its file.
fn patch_as_noted(user: &User<'_>, notes: &str) {
    let blocks: Vec<_> = notes.split(" --patch-file firstword.yaml\n\n").collect();
    assert_eq!(blocks.len(), 3, "{notes}");
    for pair in blocks.windows(2) {
        let (_, command) = pair[0].rsplit_once('\n').expect("the command");
        let lines = pair[1].lines().take_while(|line| line.starts_with("     "));
        let patch: String = lines.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(user.directory.join("firstword.yaml"), patch).expect("the patch");
        let deployment = if command.contains("-n istio-system") { "gateway" } else { "app" };
        let command = command.trim().replace("NAME", deployment);
        user.run(&format!("{command} --patch-file firstword.yaml"));
    }
}

/// The native module: installed with the patch of the notes, changed, and removed.
fn native_module(user: &User<'_>, values: &Value, report: &mut Report) {
    let mesh = user.mesh;
    // Their listeners stay after the release.
    mesh.apply(&[SERVICE_ENTRY, "scenarios/gateway/gateway.yaml"]);
    let mut values = values.clone();
    let targets = values["targets"].as_array_mut().expect("targets");
    targets.push(json!({
        "name": "gateway", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}, "gateway": {"ports": [3306]},
    }));
    let rules = values["config"]["rules"].as_array_mut().expect("rules");
    rules.push(json!({"name": "gateway", "match": {"ports": [3306]}, "protocol": "mysql"}));
    values["serviceEntries"] = json!([]);
    values["module"] = json!("native");
    values["istioVersion"] = json!("1.31");
    let digest = format!("sha256:{}", mesh.native);
    values["native"] =
        json!({"image": {"repository": "registry.example.com/firstword-native", "digest": digest}});
    user.write(&values);
    let notes = user.run(&printed::of_page(PAGE, "helm install firstword target/"));
    patch_as_noted(user, &notes);
    native::restarted(mesh);
    native::assert_counts_to(mesh, &[outside()]);
    mesh.wait_for_pods("istio-system", "gateway");
    let gateway = mesh.lab.pod("istio-system", "gateway");
    mesh.settle(&gateway);
    let (outside_the_mesh, to) = (&mesh.lab.world.namespace, (gateway.address, MYSQL_PORT).into());
    traffic::assert_counted(mesh, &gateway, outside_the_mesh, to, &[("destination", "gateway")]);
    report.add(
        STEP,
        "`module: native` for a sidecar and a gateway, and the patches in the notes of `helm install`",
        "exact on port 15020 of each: connections, queries, rows, errors",
    );
    let app = mesh.app();
    let mut observe = |what: &str, make: &dyn Fn()| {
        Change { what, make, stay: (false, false), all_greeted: true }
            .observe(mesh, &app, OPEN, STEP, report);
    };
    values["config"]["rules"][0]["name"] = json!("renamed");
    let version = env!("CARGO_PKG_VERSION");
    observe("`module: native`, `config` changed", &|| user.upgrade(version, &values));
    observe("`module: native`, `helm uninstall firstword`", &|| {
        user.run("helm uninstall firstword");
        mesh.settle(&app);
    });
    // The ConfigMap with the part of the bootstrap is still there.
    mesh.lab.kubectl.run(&["rollout", "restart", "deployment", "app", "-n", "default"]);
    native::restarted(mesh);
    Probe { from: &mesh.app().network, to: outside(), first: b"" }.expect(Outcome::Greeting);
    report.add(STEP, "After that, the patched pods restart", "ready; greeting");
}
