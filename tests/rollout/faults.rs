//! A module that is not available or does not run: effects on a proxy that starts, and on a running one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::delivery::{Delivery, MYSQL, allow_all, deny_all};
use crate::pool::connect;
use crate::steps::wait_for_flushes;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::{loopback, root, table, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);
/// Time after which a proxy is taken to be never ready.
const READY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The control plane delivers no such extension, or removes it.
    Nothing,
    /// The module's file does not exist.
    Missing,
    /// Envoy fetches the module, and its digest differs.
    Digest,
    /// Like `Digest`, with Envoy's default policy instead of the file's `fail_open`.
    DigestFailClosed,
    /// The module's file is truncated.
    Corrupt,
    /// The filter refuses its configuration, because it contains a protecting setting.
    Configuration,
    /// The configuration has a typo, and no protecting setting.
    Typo,
    /// The module is correct, but this Envoy has no V8.
    NoV8,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Missing,
        Self::Digest,
        Self::DigestFailClosed,
        Self::Corrupt,
        Self::Configuration,
        Self::Typo,
        Self::NoV8,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "empty answer",
            Self::Missing => "module missing",
            Self::Digest => "wrong digest, fetched by Envoy",
            Self::DigestFailClosed => "the same, `failure_policy: FAIL_CLOSED`",
            Self::Corrupt => "module corrupt",
            Self::Configuration => "configuration refused",
            Self::Typo => "configuration rejected",
            Self::NoV8 => "Envoy without V8",
        }
    }

    /// The filter with this fault.
    fn filter(self, delivery: &Delivery) -> Option<Value> {
        let configuration = match self {
            Self::Configuration => protecting(),
            Self::Typo => typo(),
            _ => json!({}),
        };
        let mut filter = delivery.filter(&configuration);
        let code = &mut filter["config"]["vm_config"]["code"];
        match self {
            Self::Nothing => return None,
            Self::Missing => code["local"]["filename"] = json!(delivery.path("nowhere")),
            Self::Digest | Self::DigestFailClosed => {
                *code = json!({"remote": {
                    "http_uri": {"uri": "http://modules/firstword.wasm", "cluster": "modules", "timeout": "5s"},
                    "sha256": "0".repeat(64),
                    "retry_policy": {"num_retries": 0},
                }});
            }
            Self::Corrupt => {
                let module = std::fs::read(firstword_testing::wasm()).expect("the module");
                let half = delivery.path("half");
                std::fs::write(&half, &module[..module.len() / 2]).expect("half a module");
                code["local"]["filename"] = json!(half);
            }
            Self::Configuration | Self::Typo | Self::NoV8 => {}
        }
        if self == Self::DigestFailClosed {
            let config = filter["config"].as_object_mut().expect("a plugin");
            config.remove("fail_open").expect("fail_open in envoy/mysql.yaml");
            config.insert("failure_policy".into(), json!("FAIL_CLOSED"));
        }
        Some(filter)
    }
}

/// A configuration with two typos.
fn typo() -> Value {
    json!({"mode": "of", "rules": [{"match": {"prots": [3306]}}]})
}

/// A configuration with the same typos beside a setting that protects clients.
fn protecting() -> Value {
    json!({"mode": "of", "rules": [{"match": {"prots": [3306]}, "mysql": {"block_local_infile": true}}]})
}

/// How the filter is delivered to the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Listener,
    /// By ECDS with a default, as in the EnvoyFilter files.
    WithDefault,
    /// By ECDS, as Istio delivers a WasmPlugin.
    WithoutDefault,
}

impl Way {
    const ALL: [Self; 3] = [Self::Listener, Self::WithDefault, Self::WithoutDefault];

    fn name(self) -> &'static str {
        match self {
            Self::Listener => "in the listener",
            Self::WithDefault => "ECDS, `default_config`",
            Self::WithoutDefault => "ECDS",
        }
    }

    /// Delivers the filter.
    fn write(self, delivery: &Delivery, filter: Option<Value>) {
        let reference = match self {
            Self::Listener => return delivery.write_listener(filter.map(Delivery::inline)),
            Self::WithDefault => delivery.by_ecds(Some(allow_all())),
            Self::WithoutDefault => delivery.by_ecds(None),
        };
        delivery.write_extension(filter);
        delivery.write_listener(Some(reference));
    }
}

/// Outcome for a new client.
fn outcome(envoy: &Envoy) -> &'static str {
    let Some(address) = envoy.try_listener_addr(MYSQL) else { return "refused" };
    let Ok(mut stream) = TcpStream::connect(address) else { return "refused" };
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    match stream.read(&mut [0]) {
        Ok(1..) => {}
        Ok(_) => return "closed",
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return "closed",
        Err(_) => return "silence",
    }
    drop(stream);
    let logins = || envoy.metric("firstword_handshakes_total", &[("result", "ok")]).unwrap_or_default();
    wait_for_flushes(envoy);
    let before = logins();
    let Ok(client) = connect(address) else { return "greeted, then closed" };
    drop(client);
    wait_for_flushes(envoy);
    if logins() > before { "inspected" } else { "not seen" }
}

/// Options with an additional cluster for the server of the module.
fn options(options: EnvoyOptions, modules: SocketAddr, fault: Option<Fault>) -> EnvoyOptions {
    let options = options.edit(|bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
        let mut cluster = clusters[0].clone();
        cluster["name"] = json!("modules");
        cluster["load_assignment"]["cluster_name"] = json!("modules");
        clusters.push(cluster);
    });
    let options = options.upstream("modules", modules);
    if fault == Some(Fault::NoV8) {
        options.program(root().join("target/tools/envoy-1.38.3"))
    } else {
        options
    }
}

/// Outcome of a new proxy: for its clients, and its readiness.
fn new_proxy(
    server: &MariaDb,
    modules: SocketAddr,
    way: Way,
    filter: &dyn Fn(&Delivery) -> Option<Value>,
    fault: Option<Fault>,
) -> [&'static str; 2] {
    let (delivery, envoy) = Delivery::new(server.addr());
    way.write(&delivery, filter(&delivery));
    let envoy = Envoy::launch(options(envoy, modules, fault));
    let begin = Instant::now();
    let state = wait_for("state", PATIENCE, || {
        let state = envoy.readiness();
        (state == "LIVE" || begin.elapsed() > READY).then_some(state)
    });
    let ready = if state == "LIVE" { "ready" } else { "never ready" };
    [outcome(&envoy), ready]
}

/// Outcome of a running proxy after an update: for an open connection, for new clients, and its readiness.
fn running_proxy(
    server: &MariaDb,
    modules: SocketAddr,
    way: Way,
    filter: &dyn Fn(&Delivery) -> Option<Value>,
    fault: Option<Fault>,
) -> [&'static str; 3] {
    let (delivery, envoy) = Delivery::new(server.addr());
    way.write(&delivery, Some(delivery.filter(&json!({}))));
    let envoy = Envoy::start(options(envoy, modules, fault).drain_time(Duration::from_secs(1)));
    assert_eq!(outcome(&envoy), "inspected");
    let mut open = Client::login(envoy.listener_addr(MYSQL), &Login::new(CLASSIC));
    let updates = || {
        envoy.stat(r"^listener_manager\.lds\.update_(success|rejected)$")
            + envoy.stat(r"^extension_config_discovery\.network_filter\.firstword\.config_(reload|fail)$")
    };
    let before = updates();
    way.write(&delivery, filter(&delivery));
    wait_for("Envoy's reaction", PATIENCE, || (updates() > before).then_some(()));
    // Wait longer than the drain time.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) && !open.has_ended() {
        thread::sleep(Duration::from_millis(20));
    }
    let kept = if open.has_ended() {
        "cut"
    } else {
        open.query("SELECT 1").expect("a response");
        "kept"
    };
    [kept, outcome(&envoy), if envoy.readiness() == "LIVE" { "ready" } else { "not ready" }]
}

/// Serves the module in response to each HTTP request.
fn serve_module() -> SocketAddr {
    let module = Arc::new(std::fs::read(firstword_testing::wasm()).expect("the module"));
    let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
    let address = listener.local_addr().expect("a bound address");
    // Ends with the test's process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                request.push(byte[0]);
            }
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", module.len());
            // Ignore an error, because an Envoy that ends does not read everything.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&module));
        }
    });
    address
}

fn row(
    server: &MariaDb,
    modules: SocketAddr,
    name: &str,
    way: Way,
    filter: &dyn Fn(&Delivery) -> Option<Value>,
    fault: Option<Fault>,
) -> Vec<String> {
    let [new, ready] = new_proxy(server, modules, way, filter, fault);
    // An Envoy without V8 cannot run with the filter first.
    let running =
        if fault == Some(Fault::NoV8) { [""; 3] } else { running_proxy(server, modules, way, filter, fault) };
    let row = [&[name, way.name(), new, ready], &running[..]].concat();
    println!("{row:?}");
    row.into_iter().map(str::to_owned).collect()
}

/// A typo costs no connection of a new proxy. Beside a protecting setting it is refused, and the log names the setting.
#[test]
fn a_typo_in_a_new_proxy_does_not_cost_the_database() {
    let server = MariaDb::start(&[]);
    for way in Way::ALL {
        for fail_open in [true, false] {
            let launch = |configuration: &Value| {
                let (delivery, envoy) = Delivery::new(server.addr());
                let mut filter = delivery.filter(configuration);
                filter["config"]["fail_open"] = json!(fail_open);
                way.write(&delivery, Some(filter));
                (delivery, Envoy::launch(envoy))
            };
            let case = format!("{}, fail_open: {fail_open}", way.name());
            let (_delivery, envoy) = launch(&typo());
            wait_for("ready Envoy", PATIENCE, || (envoy.readiness() == "LIVE").then_some(()));
            assert_eq!(outcome(&envoy), "inspected", "{case}");
            // The filter of the main thread, and that of the worker.
            envoy.wait_metric("firstword_config_rejected", &[], 2.0);
            for path in ["$.mode", "$.rules[0].match.prots"] {
                envoy.wait_log(&format!("configuration rejected: {path}: "));
            }

            let (_delivery, envoy) = launch(&protecting());
            envoy.wait_log("event=config_refused word=block_local_infile ");
            assert_ne!(outcome(&envoy), "inspected", "{case}");
        }
    }
}

#[test]
fn the_readme_has_the_outcome_of_each_fault() {
    let server = MariaDb::start(&[]);
    let modules = serve_module();
    let (server, mut rows) = (&server, Vec::new());
    for way in Way::ALL {
        let of_way = thread::scope(|scope| {
            // A listener without the filter is not a fault.
            let faults = Fault::ALL.iter().filter(|fault| way != Way::Listener || **fault != Fault::Nothing);
            let rows = faults.map(|fault| {
                let fault = *fault;
                scope.spawn(move || {
                    row(server, modules, fault.name(), way, &|delivery| fault.filter(delivery), Some(fault))
                })
            });
            let rows: Vec<_> = rows.collect();
            let rows = rows.into_iter().map(|row| row.join().unwrap_or_else(|panic| resume_unwind(panic)));
            rows.collect::<Vec<_>>()
        });
        rows.extend(of_way);
    }
    // Istio's agent delivers these instead of a module that it could not fetch.
    for (name, substitute) in [
        ("deny-all RBAC instead (`FAIL_CLOSE`)", deny_all as fn() -> Value),
        ("allow-all RBAC instead (`FAIL_OPEN`)", allow_all),
    ] {
        rows.push(row(server, modules, name, Way::WithoutDefault, &|_| Some(substitute()), None));
    }
    let header = [
        "fault",
        "delivered",
        "new proxy: clients",
        "readiness",
        "running proxy: open connections",
        "new clients",
        "readiness then",
    ];
    rows.insert(0, header.map(str::to_owned).to_vec());
    table::assert_says("docs/failure-modes.md", &rows);
}
