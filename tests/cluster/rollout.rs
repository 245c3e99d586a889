//! Connections that are open while something changes, and new ones at the same time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::pod::Pod;
use crate::lab::world::outside;
use crate::mesh::Mesh;
use crate::report::Report;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::probe::{Seen, listen};
use firstword_testing::root;

pub const STEP: &str = "rollout";

/// Number of open connections to each of the two databases.
const OPEN: usize = 50;
/// Time between two new connections.
const PAUSE: Duration = Duration::from_millis(12);
/// Time after which Envoy has closed what it drains, and a margin: `lab/istio.rs` sets 3 seconds.
const DRAINED: Duration = Duration::from_secs(7);
const PLUGIN: &str = "base/wasmplugin.yaml";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";

/// One change.
struct Change<'c> {
    what: &'c str,
    make: &'c dyn Fn(),
    /// Whether the connections to the database outside, and to the one in the mesh, stay open.
    stay: (bool, bool),
    /// Whether each new connection to the database outside gets its greeting.
    all_greeted: bool,
}

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    mesh.apply(&[SERVICE_ENTRY]);
    let app = mesh.app();
    mesh.settle(&app);
    let plugin = mesh.manifest(PLUGIN);
    let kubectl = &mesh.lab.kubectl;
    let artifact = mesh.lab.registry.push(&root().join("target/oci/artifact"), "v2");
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
        let observed = make(mesh, &app, change);
        report.add(STEP, change.what, observed);
    }
    mesh.reset();
}

/// Makes the change while connections are open and new ones come. Returns what became of them.
fn make(mesh: &Mesh<'_>, app: &Pod, change: &Change<'_>) -> String {
    let inside = mesh.service("db", "mysql");
    let open = |to: SocketAddr| -> Vec<Client> {
        app.network.enter(|| (0..OPEN).map(|_| Client::login(to, &Login::new(CLASSIC))).collect())
    };
    let (outside_open, inside_open) = (open(outside()), open(inside));
    let is_done = AtomicBool::new(false);
    let new = thread::scope(|scope| {
        let new = scope.spawn(|| app.network.enter(|| connect_until(&is_done)));
        // Some connections before the change.
        thread::sleep(Duration::from_secs(1));
        (change.make)();
        thread::sleep(DRAINED);
        is_done.store(true, Ordering::Release);
        new.join().expect("the new connections")
    });
    let alive = |clients: Vec<Client>| {
        let mut alive = 0;
        for mut client in clients {
            if !client.has_ended() {
                client.query("SELECT 20+22").expect("a result");
                client.quit();
                alive += 1;
            }
        }
        alive
    };
    let found = (alive(outside_open), alive(inside_open));
    let number = |stays: bool| if stays { OPEN } else { 0 };
    let expected = (number(change.stay.0), number(change.stay.1));
    assert_eq!(found, expected, "{}: open connections outside and in the mesh that are left", change.what);
    assert!(new.len() > 50, "{}: {} new connections", change.what, new.len());
    let others: Vec<_> = new.iter().filter(|seen| !matches!(seen, Seen::Greeting(_))).collect();
    assert_eq!(others.is_empty(), change.all_greeted, "{}: new connections: {others:?}", change.what);
    let of = |stays: bool| if stays { "stay open" } else { "end after the drain time" };
    format!(
        "outside {}, in the mesh {}; {}",
        of(change.stay.0),
        of(change.stay.1),
        if change.all_greeted { "each new connection gets its greeting" } else { "new ones hang again" }
    )
}

/// Connects again and again, and notes the first reaction.
fn connect_until(is_done: &AtomicBool) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !is_done.load(Ordering::Acquire) {
        let start = Instant::now();
        seen.push(listen(outside(), b"", false));
        thread::sleep(PAUSE.saturating_sub(start.elapsed()));
    }
    seen
}
