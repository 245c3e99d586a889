//! Defects that only a real control plane shows. Each case passes with the corrected files; docs/cluster.md has the results.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::world::outside;
use crate::mesh::{ADMIN, Mesh};
use crate::outcome::{Outcome, Probe};
use crate::printed;
use crate::report::Report;
use firstword_testing::doctor::doctor;
use firstword_testing::probe::{Seen, client, listen};
use firstword_testing::program::firstword;
use firstword_testing::{root, temp_dir, wait_for};

pub const STEP: &str = "defects";

const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const SERVICE_PORT: &str = "scenarios/undeclared-port/service-port.yaml";
const LISTENER_ADD: &str = "scenarios/port-conflict/listener-add.yaml";
const WASM_PLUGIN: &str = "base/wasmplugin.yaml";
const PATIENCE: Duration = Duration::from_secs(60);
/// Time in which an agent that tried again would have succeeded.
const NO_RETRY: Duration = Duration::from_secs(10);

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    let cases: [fn(&Mesh<'_>, &mut Report); 6] =
        [service_port, configmap, missing_file, missing_module, fail_close, two_listeners];
    let mut failures = Vec::new();
    for case in cases {
        let run = std::panic::AssertUnwindSafe(|| case(mesh, report));
        if let Err(panic) = std::panic::catch_unwind(run) {
            failures.push(crate::message(&*panic));
        }
        mesh.reset();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A Service as most users make it: by `kubectl apply`.
fn service_port(mesh: &Mesh<'_>, report: &mut Report) {
    let service = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: db}}, spec: {{
               selector: {{app: mysql}}, ports: [{{port: 3307, targetPort: 3306}}]}}}}"
        )
    };
    let kubectl = &mesh.lab.kubectl;
    kubectl.delete(&service("mysql"));
    kubectl.apply(&service("mysql"));
    for command in printed::of_manifest(SERVICE_PORT) {
        printed::run(mesh, root(), &command);
    }
    let found = kubectl.get(&["service", "mysql", "-n", "db"]).expect("the Service");
    let port = &found["spec"]["ports"][0];
    assert_eq!(port["appProtocol"], "tcp", "{found:#}");
    assert_eq!(found["spec"]["selector"]["app"], "mysql", "the selector: {found:#}");
    assert_eq!(port["targetPort"], 3306, "{found:#}");
    let app = mesh.app();
    mesh.settle(&app);
    let probe = Probe { from: &app.network, to: mesh.service("db", "mysql"), first: b"" };
    probe.expect(Outcome::Greeting);
    report.add(
        STEP,
        "1. `service-port.yaml` by its command keeps the rest of the Service",
        "selector and targetPort stay; greeting",
    );

    // The command that the file had before.
    kubectl.apply(&service("other"));
    let patch = mesh.manifest(SERVICE_PORT).replace("name: mysql", "name: other");
    kubectl.run_with(&["apply", "--server-side", "-f", "-"], &patch);
    let found = kubectl.get(&["service", "other", "-n", "db"]).expect("the Service");
    assert_eq!(found["spec"]["selector"], Value::Null, "{found:#}");
    kubectl.delete(&service("other"));
    report.add(STEP, "1. The same file by `kubectl apply --server-side`", "removes the selector");
}

/// The overlay for clusters without a registry, by the commands in its first lines, while clients connect.
fn configmap(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    // The commands copy the module into the overlay.
    let copy = temp_dir();
    let run = |command: &mut Command| assert!(command.status().expect("a command").success());
    run(Command::new("cp").arg("-r").arg(root().join("istio")).arg(copy.path()));
    std::fs::create_dir(copy.path().join("target")).expect("a directory");
    run(Command::new("cp").arg(firstword_testing::wasm()).arg(copy.path().join("target/firstword.wasm")));
    let is_done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let mut seen = Vec::new();
            while !is_done.load(Ordering::Acquire) {
                let app = mesh.app();
                let found = app.network.enter(|| listen(outside(), b"", false));
                // A pod that ends takes its connections with it.
                if mesh.app().name == app.name {
                    seen.push(found);
                }
                thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        let commands = std::panic::AssertUnwindSafe(|| {
            for command in printed::of_manifest("overlays/configmap/kustomization.yaml") {
                printed::run(mesh, copy.path(), &command);
            }
            let app = mesh.app();
            mesh.settle(&app);
            mesh.wait_for_module(&app);
            thread::sleep(Duration::from_secs(3));
        });
        let commands = std::panic::catch_unwind(commands);
        is_done.store(true, Ordering::Release);
        let seen = seen.join().expect("the clients");
        if let Err(panic) = commands {
            std::panic::resume_unwind(panic);
        }
        seen
    });
    assert!(seen.len() > 50, "{} connections", seen.len());
    let others: Vec<_> = seen.iter().filter(|seen| !matches!(seen, Seen::Greeting(_))).collect();
    assert!(others.is_empty(), "{} of {} connections: {others:?}", others.len(), seen.len());
    mesh.lab.kubectl.run(&["delete", "configmap", "firstword-module", "-n", "default"]);
    report.add(
        STEP,
        "2. `overlays/configmap` by its commands, in their order",
        "each connection gets its greeting",
    );
}

/// The overlay's plugin in a pod without the file, which the other order of the commands leads to.
fn missing_file(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    let plugin = mesh.manifest(WASM_PLUGIN);
    let url = plugin.lines().find(|line| line.starts_with("  url: ")).expect("the URL");
    mesh.lab.kubectl.apply(&plugin.replace(url, "  url: file:///var/local/firstword/firstword.wasm"));
    wait_for("closed connection", PATIENCE, || {
        let seen = app.network.enter(|| listen(outside(), b"", false));
        matches!(seen, Seen::Closed(_)).then_some(())
    });
    report.add(
        STEP,
        "2, 3. A WasmPlugin with a `file://` that is missing",
        "each connection is closed, with FAIL_OPEN too",
    );
    let mut inside = app.network.command();
    inside.arg(firstword());
    let verdict = doctor(inside, &format!("127.0.0.1:{ADMIN}"), outside(), b"");
    assert_eq!(verdict.of("silent").as_deref(), Some("closed 0"), "{:#}", verdict.0);
    assert!(verdict.codes().contains(&"error extension-missing".to_owned()), "{:#}", verdict.0);
    report.add(STEP, "4. doctor, with the admin interface, sees it", "closed; error extension-missing");
    let verdict = mesh.doctor(&app, outside());
    assert!(verdict.codes().contains(&"info module-file".to_owned()), "{:#}", verdict.0);
    report.add(STEP, "4. doctor, with a dump, which does not show it", "info module-file");
}

/// No registry: traffic passes, and the agent does not try again.
fn missing_module(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    mesh.lab.registry.close();
    // Another reference than before, because the agent keeps what it has fetched.
    let plugin = mesh.manifest(WASM_PLUGIN).replace(&format!("@sha256:{}", mesh.digest), ":v1");
    mesh.lab.kubectl.apply(&plugin);
    mesh.settle(&app);
    let has_module = || {
        let dump = app.get(ADMIN, "/config_dump?resource=ecds_filters");
        dump.contains("envoy.extensions.filters.network.wasm.v3.Wasm")
    };
    wait_for("filter in place of the module", PATIENCE, || {
        app.get(ADMIN, "/config_dump?resource=ecds_filters").contains("network.rbac.v3.RBAC").then_some(())
    });
    let probe = Probe { from: &app.network, to: outside(), first: b"" };
    probe.expect(Outcome::Greeting);
    mesh.lab.registry.open();
    thread::sleep(NO_RETRY);
    assert!(!has_module(), "the agent tried again");
    probe.expect(Outcome::Greeting);
    report.add(
        STEP,
        "8. No registry: the agent lets traffic pass, and does not try again",
        "greeting; no module after the registry is back",
    );
    mesh.lab.kubectl.run(&["annotate", "wasmplugin", "firstword", "-n", "default", "try=again"]);
    wait_for("module after a change of the WasmPlugin", PATIENCE, || has_module().then_some(()));
    let verdict = mesh.doctor(&app, outside());
    let codes = verdict.codes();
    assert!(codes.contains(&"info module-image".to_owned()), "{:#}", verdict.0);
    assert!(verdict.0.to_string().contains(&mesh.digest), "{:#}", verdict.0);
    report.add(STEP, "8. An annotation on the WasmPlugin", "the agent fetches the module");
    report.add(STEP, "6. doctor names the image that runs", "info module-image, the digest of the manifest");

    // A plugin without pluginConfig.
    let plugin = mesh.manifest(WASM_PLUGIN);
    let (without, _) = plugin.split_once("  pluginConfig:").expect("the configuration");
    mesh.lab.kubectl.apply(&format!("{without}  pluginConfig: {{}}\n"));
    mesh.settle(&app);
    mesh.wait_for_module(&app);
    let verdict = mesh.doctor(&app, outside());
    assert!(!verdict.codes().contains(&"error configuration".to_owned()), "{:#}", verdict.0);
    probe.expect(Outcome::Greeting);
    report.add(STEP, "5. doctor, with a WasmPlugin whose `pluginConfig` is empty", "no error");
}

/// `FAIL_CLOSE` without a module: the greeting passes, and the connection ends at the client's first bytes.
fn fail_close(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    let missing = "1".repeat(64);
    let plugin = mesh.manifest(WASM_PLUGIN).replace(&mesh.digest, &missing);
    mesh.lab.kubectl.apply(&plugin.replace("failStrategy: FAIL_OPEN", "failStrategy: FAIL_CLOSE"));
    mesh.settle(&app);
    let aborted = || mesh.lab.world.database.status("Aborted_connects");
    wait_for("connection that ends at the client's first bytes", PATIENCE, || {
        client(&app.network, outside()).is_err().then_some(())
    });
    let before = aborted();
    let seen = app.network.enter(|| listen(outside(), b"", false));
    assert!(matches!(seen, Seen::Greeting(_)), "{seen:?}");
    let error = client(&app.network, outside()).expect_err("a refused client");
    assert!(error.contains("ERROR 2013"), "{error}");
    // The probe left after the greeting, and the client was closed.
    wait_for("aborted handshakes", PATIENCE, || (aborted() == before + 2).then_some(()));
    report.add(
        STEP,
        "7. FAIL_CLOSE without a module",
        "greeting, then error 2013; the server counts an aborted handshake",
    );
}

/// Two listeners for one address.
fn two_listeners(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    let rejected = || {
        let text = app.get(ADMIN, "/stats?filter=listener_manager.lds.update_rejected");
        text.trim().rsplit(' ').next().and_then(|count| count.parse::<u64>().ok())
    };
    let before = rejected();
    assert!(before.is_some(), "the statistic");
    mesh.apply(&[LISTENER_ADD]);
    wait_for("refused update", PATIENCE, || (rejected() > before).then_some(()));
    report.add(STEP, "12. `listener-add.yaml` together with `serviceentry.yaml`", "Envoy refuses the update");
    mesh.delete(&[LISTENER_ADD]);
    mesh.settle(&app);
}
