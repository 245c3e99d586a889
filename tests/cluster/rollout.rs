//! What a change of a WasmPlugin, a PeerAuthentication or a ServiceEntry closes.

use crate::change::Change;
use crate::mesh::Mesh;
use crate::report::Report;
use firstword_testing::root;

pub const STEP: &str = "rollout";

/// Number of open connections to each of the two databases.
const OPEN: usize = 50;
const PLUGIN: &str = "base/wasmplugin.yaml";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    let plugin = mesh.manifest(PLUGIN);
    let kubectl = &mesh.lab.kubectl;
    let artifact = mesh.lab.registry.push(&root().join("target/oci/artifact"), "firstword", "v2");
    assert_ne!(artifact, mesh.digest, "another digest");
    let configured = plugin.replace("name: orders", "name: renamed");
    let upgraded = configured.replace(&mesh.digest, &artifact);
    let off = upgraded.replace("  pluginConfig:\n", "  pluginConfig:\n    mode: \"off\"\n");
    for text in [&configured, &upgraded, &off] {
        assert_ne!(*text, plugin);
    }
    let in_force = |text: &str| {
        kubectl.apply(text);
        mesh.settle(&app);
        mesh.wait_for_module(&app);
    };
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: further, namespace: default}, spec: {
        hosts: [further.external], addresses: [55.108.108.77], resolution: NONE,
        ports: [{number: 10000, name: tcp-mysql, protocol: TCP}]}}";
    let stay = |outside: bool, inside: bool| (outside, inside);
    let changes = [
        Change {
            what: "`base/wasmplugin.yaml` applied",
            make: &|| in_force(&plugin),
            stay: stay(false, false),
            all_greeted: true,
        },
        Change {
            what: "its configuration changed",
            make: &|| in_force(&configured),
            stay: stay(true, true),
            all_greeted: true,
        },
        Change {
            what: "its module replaced: another digest",
            make: &|| in_force(&upgraded),
            stay: stay(true, true),
            all_greeted: true,
        },
        Change { what: "`mode: off`", make: &|| in_force(&off), stay: stay(true, true), all_greeted: true },
        Change {
            what: "`base/wasmplugin.yaml` deleted",
            make: &|| {
                kubectl.delete(&off);
                mesh.settle(&app);
            },
            stay: stay(false, false),
            all_greeted: true,
        },
        Change {
            what: "`peerauthentication.yaml` applied",
            make: &|| {
                mesh.apply(&["envoyfilter/peerauthentication.yaml"]);
                mesh.settle(&mesh.lab.pod("db", "mysql"));
            },
            stay: stay(true, false),
            all_greeted: true,
        },
        Change {
            what: "a further ServiceEntry",
            make: &|| {
                kubectl.apply(entry);
                mesh.settle(&app);
            },
            stay: stay(true, true),
            all_greeted: true,
        },
        Change {
            what: "`serviceentry.yaml` deleted",
            make: &|| {
                mesh.delete(&[SERVICE_ENTRY]);
                mesh.settle(&app);
            },
            stay: stay(false, true),
            all_greeted: false,
        },
    ];
    for change in &changes {
        change.observe(mesh, &app, OPEN, STEP, report);
    }
    mesh.reset();
}
